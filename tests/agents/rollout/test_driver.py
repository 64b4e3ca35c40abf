"""A tier takes releases: real releases and models in a real folder, with a clock that the test sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sample_messages import NOW_S
from sample_release import BASE, NEW, ZOO, sample_release, vectors_of_new
from sample_source import SampleSource, target

from agents.role.telemetry import Metrics
from agents.rollout.driver import REFRESH_S, Updater
from agents.rollout.model_factory import factory_of
from agents.rollout.promoted_store import PromotedStore
from agents.rollout.rules import MOST_TRIES
from agents.rollout.serving import Serving
from agents.rollout.shadow import cloud_summary
from models.heads.release import HeadRelease
from models.vision.tier_models import CloudModel, CloudPrediction
from pipeline.clock import HandClock, SystemClock
from pipeline.errors import Rejected, Retry

STREAM = "home/cam1/garden"
VECTOR = vectors_of_new(1, seed=7)[0]
SHIPPED = BASE.manifest.title


class Tier:
    """A cloud's updater; the test runs each step."""

    def __init__(self, folder: Path, source: SampleSource | None = None) -> None:
        self.folder = folder
        self.source = source or SampleSource()
        self.clock = HandClock(NOW_S)
        self.metrics = Metrics()
        self.changes: list[str] = []
        self.opened: list[str] = []
        self.start()

    def start(self) -> None:
        """Start as after a kill, from the disk alone."""
        self.updater: Updater[CloudModel] = Updater(
            replace(factory_of(BASE, self._open)),
            PromotedStore(self.folder, SHIPPED),
            lambda model: Serving(model, cloud_summary),
            self.metrics,
            self.clock,
            lambda: self.changes.append(self.updater.update.stage),
        )
        self.updater.follow(self.source)

    def _open(self, release: HeadRelease | None) -> CloudModel:
        model = ZOO.cloud_model(release)
        self.opened.append(model.name)
        return model

    def step(self, after_s: float = 0.0) -> None:
        self.clock.turn(after_s)
        self.updater.step()

    def predict(self, vector: np.ndarray = VECTOR) -> CloudPrediction:
        prediction = self.updater.serving.look(STREAM, lambda model: model.predict(vector))[1]
        self.updater.serving.compare_waiting()
        return prediction

    @property
    def stage(self) -> str:
        return self.updater.update.stage

    def promote(self, release: HeadRelease) -> None:
        """Take a release through all stages."""
        self.source.publish(target(release.version, why=f"release {release.version}"), release)
        self.step()
        assert self.stage == "shadow"
        self.step(50)
        self.step(100)
        assert self.updater.title == release.title


@pytest.fixture
def tier(tmp_path: Path) -> Tier:
    return Tier(tmp_path / "cloud")


RELEASE = sample_release(3)
NEXT = sample_release(4, events=60)


def test_without_any_release_the_shipped_model_serves(tier: Tier) -> None:
    tier.step()
    assert (tier.updater.title, tier.stage, tier.predict().model) == (SHIPPED, "idle", SHIPPED)


def test_a_release_is_taken_live_and_answers_what_it_learned(tier: Tier) -> None:
    tier.source.publish(target(), RELEASE)
    tier.step()
    assert (tier.stage, tier.predict().model) == ("shadow", SHIPPED)
    tier.step(50)
    assert (tier.stage, tier.predict().model) == ("canary", "lite0@3")
    tier.step(100)
    assert (tier.stage, tier.updater.title) == ("promoted", "lite0@3")
    prediction = tier.predict()
    assert (prediction.model, prediction.species.best[0]) == ("lite0@3", NEW)
    assert tier.changes == ["verifying", "smoke", "shadow", "canary", "promoted"]
    assert tier.metrics.value("tierwise_updates_total", stage="promoted", rule="quiet") == 1
    assert tier.metrics.value("tierwise_model_info", model="lite0@3") == 1


def test_a_start_without_the_cloud_serves_what_was_promoted(tier: Tier) -> None:
    tier.promote(RELEASE)
    tier.source = SampleSource()
    tier.source.trouble = Retry("the other side is away")
    tier.start()
    assert tier.predict().model == "lite0@3"
    tier.step()
    assert (tier.updater.title, tier.updater.update.trouble) == ("lite0@3", "")


@pytest.mark.parametrize("seconds", [(), (50,)], ids=["shadow", "canary"])
def test_a_kill_during_a_trial_leaves_the_old_model_and_the_update_completes_afterwards(
    tier: Tier, seconds: tuple[int, ...]
) -> None:
    tier.source.publish(target(), RELEASE)
    tier.step()
    for after_s in seconds:
        tier.step(after_s)
    tier.start()
    assert tier.predict().model == SHIPPED
    tier.step(REFRESH_S)
    assert tier.source.asked == [3]  # the files are here: nothing is fetched twice
    tier.step(50)
    tier.step(100)
    assert tier.updater.title == "lite0@3"


def test_a_newer_word_that_names_an_older_version_takes_effect_at_once_and_opens_nothing(tier: Tier) -> None:
    tier.promote(RELEASE)
    opened = len(tier.opened)
    tier.source.publish(target(0, why="it fails at night", by="anna"))
    tier.step()
    assert (tier.updater.title, tier.stage, tier.predict().model) == (SHIPPED, "promoted", SHIPPED)
    assert tier.updater.update.rule == "older-is-named"
    assert tier.updater.update.previous == "lite0@3"
    assert len(tier.opened) == opened


def test_the_shipped_models_own_number_names_it_too(tier: Tier) -> None:
    tier.promote(RELEASE)
    tier.source.publish(target(BASE.manifest.version))
    tier.step()
    assert tier.updater.title == SHIPPED


@pytest.mark.slow
def test_an_older_version_that_is_not_warm_is_read_and_verified_first(tier: Tier) -> None:
    tier.promote(RELEASE)
    tier.promote(NEXT)
    tier.start()
    assert tier.predict().model == "lite0@4"
    tier.source.publish(target(3, why="back"))
    tier.step()
    assert tier.predict().model == "lite0@3"
    assert tier.source.asked == [3, 4]


@pytest.mark.parametrize("damage", ["cut", "changed", "other-base", "smoke", "other-version"])
def test_a_release_that_does_not_pass_is_refused_and_not_tried_again_at_the_next_start(tier: Tier, damage: str) -> None:
    bad = RELEASE
    if damage == "other-base":
        bad = replace(bad, base="lite0@1")
    elif damage == "smoke":
        bad = replace(bad, smoke=replace(bad.smoke, species=bad.smoke.species[:, ::-1].copy()))
    elif damage == "other-version":
        bad = sample_release(5)
    files = dict(bad.files())
    if damage == "cut":
        files["sums.bin"] = files["sums.bin"][:-1]
    elif damage == "changed":
        files["tree.tsv"] = files["tree.tsv"].replace(b"Solenodon", b"Solenodoo")
    tier.source.releases[3] = files
    tier.source.publish(target())
    tier.step()
    assert (tier.stage, tier.updater.title, tier.predict().model) == ("refused", SHIPPED, SHIPPED)
    assert tier.updater.update.refused.startswith(
        "lite0@3: smoke-failed" if damage == "smoke" else "lite0@3: not-verified"
    )
    asked = len(tier.source.asked)
    tier.start()
    tier.step(REFRESH_S)
    assert (len(tier.source.asked), tier.predict().model) == (asked, SHIPPED)
    assert "lite0@3" in tier.updater.update.refused


def test_a_release_whose_files_are_on_their_way_waits_and_says_how_much_is_here(tier: Tier) -> None:
    tier.source.publish(target())
    tier.step()
    assert (tier.stage, tier.predict().model) == ("verifying", SHIPPED)
    assert tier.updater.update.reason.endswith("; 40% of 61 KB are here")
    tier.source.publish(target(), RELEASE)
    tier.step()
    assert tier.stage == "shadow"


def test_metadata_that_is_not_to_be_trusted_changes_nothing_and_is_reported(tier: Tier) -> None:
    tier.promote(RELEASE)
    tier.source.trouble = Rejected("expired-metadata", "timestamp.json is expired")
    tier.step(REFRESH_S)
    assert tier.predict().model == "lite0@3"
    assert tier.updater.update.trouble == "expired-metadata: timestamp.json is expired"
    tier.source.trouble = None
    tier.step(REFRESH_S)
    assert tier.updater.update.trouble == ""


class Broken:
    """A model that opens, answers its golden inputs, and fails on events."""

    def __init__(self, model: CloudModel) -> None:
        self.name, self.space, self.tree, self.head = model.name, model.space, model.tree, model.head

    def predict(self, _vector: np.ndarray) -> CloudPrediction:
        raise RuntimeError("a bug")


@pytest.mark.parametrize("canary", [False, True])
def test_a_release_that_fails_on_events_is_rolled_back_and_every_event_was_answered(
    tier: Tier, canary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Callable[[HeadRelease | None], CloudModel] = tier._open
    broken = lambda release: Broken(opened(release)) if release else opened(None)  # noqa: E731
    tier.updater._factory = replace(tier.updater._factory, open=broken)  # type: ignore[arg-type]
    tier.source.publish(target(), RELEASE)
    tier.step()
    if canary:
        tier.step(50)
    assert [tier.predict().model for _ in range(2)] == [SHIPPED, SHIPPED]
    tier.step()
    assert (tier.stage, tier.updater.update.rule) == ("rolled-back", "fails")
    tier.start()
    tier.step(REFRESH_S)
    assert (tier.stage, tier.predict().model) == ("idle", SHIPPED)


def test_an_event_of_a_species_just_learned_is_no_disagreement(tier: Tier) -> None:
    tier.source.publish(target(), RELEASE)
    tier.step()
    for vector in vectors_of_new(12, seed=3):
        tier.predict(vector)
    figures = tier.updater._tally.figures()
    assert (figures.events, figures.gained) == (12, 12)


def test_a_disk_that_refuses_leaves_what_serves_and_the_promotion_comes_later(tier: Tier) -> None:
    tier.source.publish(target(), RELEASE)
    tier.step()
    tier.step(50)
    blocked = tier.folder / "serving.json.draft"
    blocked.mkdir()
    tier.step(100)
    assert (tier.stage, tier.updater.title) == ("canary", SHIPPED)
    assert "cannot be written" in tier.updater.update.reason
    blocked.rmdir()
    tier.step()
    assert (tier.stage, tier.updater.title) == ("promoted", "lite0@3")


@pytest.mark.slow
def test_a_release_that_kills_the_process_each_time_is_given_up(tier: Tier) -> None:
    tier.source.publish(target(), RELEASE)
    for _ in range(MOST_TRIES):
        tier.step(REFRESH_S)
        assert tier.stage == "shadow"
        tier.start()
    tier.step(REFRESH_S)
    assert (tier.stage, tier.updater.update.rule) == ("refused", "ended-too-often")
    assert tier.predict().model == SHIPPED


@pytest.mark.slow
def test_stopping_in_order_is_no_failed_try(tier: Tier) -> None:
    tier.source.publish(target(), RELEASE)
    for _ in range(MOST_TRIES + 2):
        tier.step(REFRESH_S)
        assert tier.stage == "shadow"
        tier.updater.start()
        tier.updater.stop(10)
        tier.start()


@pytest.mark.slow
def test_damage_to_what_serves_falls_back_at_the_start_to_what_served_before(tier: Tier) -> None:
    tier.promote(RELEASE)
    tier.promote(NEXT)
    (tier.folder / "heads" / "4" / "sums.bin").write_bytes(b"half")
    tier.start()
    assert tier.predict().model == "lite0@3"
    (tier.folder / "heads" / "3" / "manifest.json").unlink()
    tier.start()
    assert tier.predict().model == SHIPPED
    tier.step(REFRESH_S)  # and it is fetched anew
    assert (tier.stage, tier.updater.update.candidate) == ("shadow", "lite0@4")


@pytest.mark.parametrize("content", [b"", b"{", b'{"base": 3}', b'{"base": "lite0@2", "serving": 7}'])
def test_a_damaged_record_of_what_serves_leaves_the_shipped_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "serving.json").write_bytes(content)
    assert Tier(tmp_path).predict().model == SHIPPED


def test_releases_of_an_older_base_are_forgotten_with_it(tier: Tier) -> None:
    tier.promote(RELEASE)
    path = tier.folder / "serving.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"base": "lite0@1"}))
    tier.start()
    assert tier.predict().model == SHIPPED


@pytest.mark.slow
def test_only_what_serves_and_what_is_gone_back_to_stays_on_the_disk(tier: Tier) -> None:
    for release in (RELEASE, NEXT, sample_release(5)):
        tier.promote(release)
    (tier.folder / "heads" / ".new-killed").mkdir()
    tier.source.publish(target(3))
    tier.step()
    assert sorted(path.name for path in (tier.folder / "heads").iterdir()) == ["3", "5"]


def test_on_threads_of_its_own_a_release_is_taken_and_a_rollback_takes_less_than_a_second(
    tmp_path: Path,
) -> None:
    tier = Tier(tmp_path)
    tier.updater._clock = SystemClock()
    swapped = threading.Event()
    tier.updater.serving.subscribe(lambda _model: swapped.set())
    tier.updater.start()
    tier.source.publish(target(canary_s=0), RELEASE)
    assert swapped.wait(20)
    swapped.clear()
    began_s = time.monotonic()
    tier.source.publish(target(0))
    assert swapped.wait(20)
    took_s = time.monotonic() - began_s
    tier.updater.stop(10)
    assert tier.predict().model == SHIPPED
    assert took_s < 1
