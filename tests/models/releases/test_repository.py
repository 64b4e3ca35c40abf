"""The signing side: what is released can be trusted, whatever is killed, whoever tries to release it twice."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_releases import FILES, Cloud, Tier, current

from models.releases import keys as release_keys
from models.releases import repository_files
from models.releases.repository import KEEP_RELEASES, LIFE_S, Repository
from models.releases.targets import CURRENT, Current
from pipeline.clock import HandClock
from pipeline.errors import Rejected, Stop


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


def test_a_new_repository_is_empty_and_signed(cloud: Cloud, tmp_path: Path) -> None:
    cloud.send()
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    assert tier.trust.targets == {}
    assert (cloud.repository.current, cloud.repository.versions) == (None, ())


def test_a_release_is_its_files_and_what_is_to_serve_in_one_change(cloud: Cloud, tmp_path: Path) -> None:
    cloud.release(3)
    metadata, files = cloud.repository.published()
    assert list(metadata)[-1] == "timestamp.json"
    assert cloud.repository.current == current(3)
    assert cloud.repository.versions == (3,)
    assert cloud.repository.files(3) == {**FILES, "CARD.md": b"# 3"}
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    assert Current.of(files[tier.serving()]) == current(3)
    assert {file.digest for file in tier.trust.targets.values()} == set(files)


def test_a_promotion_or_a_rollback_changes_only_what_is_to_serve(cloud: Cloud) -> None:
    cloud.release(1)
    cloud.release(2)
    before = cloud.repository.published()[1]
    cloud.repository.serve(current(1, "it fails at night"))
    assert cloud.repository.current == current(1, "it fails at night")
    assert len(cloud.repository.published()[1].keys() - before.keys()) == 1
    assert cloud.repository.versions == (1, 2)


def test_the_shipped_model_can_be_gone_back_to(cloud: Cloud) -> None:
    cloud.release(1)
    cloud.repository.serve(current(0))
    assert cloud.repository.current == current(0)


def test_a_release_is_never_changed(cloud: Cloud) -> None:
    cloud.release(1)
    with pytest.raises(Rejected) as caught:
        cloud.repository.release(1, {"sums.bin": b"others"}, current(1))
    assert caught.value.reason == "already-released"
    cloud.repository.release(1, FILES, current(1, "the same again"))


def test_a_version_that_was_never_released_cannot_serve(cloud: Cloud) -> None:
    with pytest.raises(Rejected, match="lite0@7 cannot serve") as caught:
        cloud.repository.serve(current(7))
    assert caught.value.reason == "no-such-release"


def test_old_releases_go_and_the_one_that_serves_stays(cloud: Cloud) -> None:
    cloud.release(1)
    for version in range(2, KEEP_RELEASES + 4):
        cloud.repository.release(version, {"sums.bin": b"%d" % version}, current(1))
    assert cloud.repository.versions == (1, *range(4, KEEP_RELEASES + 4))
    stored = {path.name for path in (cloud.folder / "releases" / "targets").iterdir()}
    assert stored == set(cloud.repository.published()[1])


def test_only_what_is_past_half_its_life_is_signed_anew(cloud: Cloud, tmp_path: Path) -> None:
    cloud.release(1)
    assert cloud.repository.renew() == ()
    cloud.hand.turn(LIFE_S["timestamp"] / 2 + 1)
    assert cloud.repository.renew() == ("timestamp",)
    assert cloud.repository.renew() == ()
    cloud.hand.turn(LIFE_S["root"] / 2)
    assert set(cloud.repository.renew()) == {"root", "targets", "snapshot", "timestamp"}
    cloud.send()
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    assert cloud.repository.current == current(1)


def test_a_root_whose_keys_are_in_a_drawer_is_left_and_its_time_told(cloud: Cloud) -> None:
    for path in keys_of(cloud, "root"):
        path.unlink()
    cloud.hand.turn(LIFE_S["root"] * 0.75)
    assert "root" not in cloud.repository.renew()
    assert cloud.repository.root_left_s == pytest.approx(LIFE_S["root"] * 0.25, abs=2)
    with pytest.raises(Stop, match="too few of the root's keys"):
        cloud.repository.rotate("timestamp")


def keys_of(cloud: Cloud, role: str) -> list[Path]:
    keyids = cloud.repository._shelf.root().signed.roles[role].keyids
    return [cloud.folder / "keys" / f"{keyid}.pem" for keyid in keyids]


def test_keys_are_their_owners_alone(cloud: Cloud) -> None:
    keys = list((cloud.folder / "keys").iterdir())
    assert len(keys) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE((cloud.folder / "keys").stat().st_mode) == 0o700


def test_a_key_that_is_missing_or_damaged_stops_with_its_path(cloud: Cloud) -> None:
    (key,) = keys_of(cloud, "snapshot")
    kept = key.read_bytes()
    key.write_text("no key")
    with pytest.raises(Stop, match=str(key)):
        cloud.release(1)
    key.unlink()
    with pytest.raises(Stop, match="the key that signs snapshot is not here"):
        cloud.release(1)
    key.write_bytes(kept)
    cloud.release(1)


def test_old_keys_are_gone_after_a_rotation(cloud: Cloud) -> None:
    old = [*keys_of(cloud, "root"), *keys_of(cloud, "targets")]
    cloud.repository.rotate("root", keys=3, threshold=2)
    cloud.repository.rotate("targets")
    assert not any(path.exists() for path in old)
    assert len(keys_of(cloud, "root")) == 3
    with pytest.raises(Stop, match="no role is called"):
        cloud.repository.rotate("mirrors")
    with pytest.raises(Stop, match="2 of 1 keys cannot sign"):
        cloud.repository.rotate("targets", threshold=2)


def test_a_threshold_of_root_keys_is_needed_to_replace_keys(tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "releases", tmp_path / "keys", HandClock(), root_keys=3, root_threshold=2)
    keyids = repository._shelf.root().signed.roles["root"].keyids
    (tmp_path / "keys" / f"{keyids[0]}.pem").unlink()
    repository.rotate("timestamp")
    (tmp_path / "keys" / f"{keyids[1]}.pem").unlink()
    with pytest.raises(Stop, match="too few"):
        repository.rotate("timestamp")


def test_another_process_sees_and_continues_what_was_released(cloud: Cloud) -> None:
    other = cloud.opened()
    cloud.release(1)
    other.release(2, FILES, current(2))
    cloud.release(3)
    assert other.versions == (1, 2, 3)


def test_a_repository_that_cannot_be_read_stops_with_its_path(cloud: Cloud) -> None:
    (cloud.folder / "releases" / "metadata" / "timestamp.json").write_text("half of it")
    with pytest.raises(Stop, match=str(cloud.folder)):
        cloud.opened()


# --- crashes -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is no more."""


class Killer:
    """Kills at the n-th change of a file, before it or right after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.after = False
        replace, unlink, make = repository_files.replace_file, Path.unlink, release_keys.make_key
        monkeypatch.setattr(repository_files, "replace_file", self._fatal(replace))
        monkeypatch.setattr(release_keys, "make_key", self._fatal(make))
        monkeypatch.setattr(Path, "unlink", self._fatal(unlink))

    def _fatal(self, change: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **more: object) -> object:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            done = change(*arguments, **more)
            if self.left == 0:
                raise Killed
            return done

        return changed


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def deaths(killer: Killer, act: Callable[[], object]) -> Iterator[None]:
    """Do it again and again, killed one change later each time, until it gets through."""
    number = 0
    while True:
        number += 1
        for killer.after in (False, True):
            killer.left = number
            try:
                act()
            except Killed:
                killer.left = 0
                yield
            else:
                assert number > 2, "nothing was killed"
                return


@pytest.mark.slow
def test_a_crash_at_any_change_of_a_release_leaves_the_old_or_the_new_one(
    cloud: Cloud, killer: Killer, tmp_path: Path
) -> None:
    cloud.release(1)
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    seen = set()
    for _ in deaths(killer, lambda: cloud.repository.release(2, FILES, current(2))):
        for repository in (cloud.repository, cloud.opened()):
            metadata, files = repository.published()
            tier.received = metadata
            tier.trust.refresh()
            seen.add(Current.of(files[tier.serving()]).version)
            assert {file.digest for file in tier.trust.targets.values()} <= set(files)
    assert seen == {1, 2}
    assert cloud.repository.current == current(2)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_crash_at_any_change_of_a_rotation_is_mended_when_it_is_opened_again(
    cloud: Cloud, killer: Killer, tmp_path: Path, role: str
) -> None:
    cloud.release(1)
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    for _ in deaths(killer, lambda: cloud.repository.rotate(role)):
        cloud.repository = cloud.opened()
        tier.received = cloud.repository.published()[0]
        tier.trust.refresh()
        assert CURRENT in tier.trust.targets
        keyids = cloud.repository._shelf.root().signed.keys
        assert {path.stem for path in (cloud.folder / "keys").glob("*.pem")} == set(keyids)


@pytest.mark.slow
def test_a_crash_at_any_change_of_the_first_start_is_mended_by_the_next(killer: Killer, tmp_path: Path) -> None:
    for number, _ in enumerate(deaths(killer, lambda: Cloud(tmp_path / f"cloud-{killer.left}"))):
        for folder in tmp_path.glob("cloud-*"):
            cloud = Cloud(folder)
            cloud.release(1)
            tier = Tier(tmp_path / f"tier-{number}-{folder.name}", cloud)
            tier.trust.refresh()
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            folder.rmdir()
