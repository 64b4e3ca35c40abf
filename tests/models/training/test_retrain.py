"""What sites learned becomes a release that names new labels and loses nothing, or a refusal that says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sample_release import BASE, NEW, ZOO, vectors_of_new

from models.heads.release import FEW, HeadRelease
from models.labels.taxonomy_growth import row_under
from models.training.candidate import Held, HeldEvent
from models.training.report import Limits, render
from models.training.retrain import TrainingOutcome, retrain
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

GOLDEN = ZOO.golden()
ROW = row_under(BASE.tree, NEW, "animal/Solenodontidae")
D = BASE.sums.dimension
NOBODY = Held((), np.empty((0, D), np.uint8))


def golden_of(label: str) -> np.ndarray:
    return GOLDEN.vectors[GOLDEN.species == GOLDEN.labels.index(label)]


def sums_of(**events: np.ndarray) -> Sums:
    names = {"new": NEW, "other": "other", "person": "person", "felids": "Felidae", "lion": "Panthera leo"}
    labels = tuple(names[name] for name in events)
    sums = Sums.empty(BASE.sums.space, D, labels)
    for at, vectors in enumerate(events.values()):
        sums = sums.add(vectors, np.full(len(vectors), at))
    return sums


def held_of(*parts: tuple[str, str, np.ndarray]) -> Held:
    """Site, label and vectors of held-out events."""
    events = [HeldEvent(f"{site}-{label}-{at}", site, label) for site, label, its in parts for at in range(len(its))]
    return Held(tuple(events), np.concatenate([its for *_, its in parts]))


def made(sites: dict[str, Sums], held: Held = NOBODY, **more: object) -> TrainingOutcome:
    given = {"rows": (ROW,), "version": 3, **more}
    return retrain(BASE, GOLDEN, sites, held, None, **given)  # type: ignore[arg-type]


GOOD = made({"home": sums_of(new=vectors_of_new(24))}, held_of(("home", NEW, vectors_of_new(6, seed=1))))


def test_twenty_labels_make_a_release_that_names_the_new_species() -> None:
    release = GOOD.release
    assert release is not None and release.title == "lite0@3"
    seen = ZOO.cloud_model(HeadRelease.of(release.files())).predict(vectors_of_new(1, seed=9)[0])
    assert seen.species.best[0] == NEW
    assert seen.family.best[0] == "Solenodontidae"
    assert GOOD.report.new_labels == (NEW,)
    assert GOOD.report.held_after.classes[NEW].rate == 1.0
    assert GOOD.report.held_before.classes[NEW].rate == 0.0


def test_what_was_known_before_is_not_lost() -> None:
    for rank, before in GOOD.report.golden_before.ranks.items():
        assert before.rate - GOOD.report.golden_after.ranks[rank].rate <= Limits().rank
    assert GOOD.report.golden_before.persons.rate - GOOD.report.golden_after.persons.rate <= Limits().person


def test_the_release_is_solved_from_held_out_events_too_and_says_where_it_comes_from() -> None:
    release = GOOD.release
    assert release is not None and release.sums is not None
    assert dict(zip(release.sums.labels, release.sums.counts.tolist(), strict=True)) == {NEW: 30}
    (site,) = release.lineage.sites
    assert (site.site, site.events, site.labels) == ("home", 30, {NEW: 30})
    assert release.lineage.parent == BASE.manifest.title
    assert release.lineage.golden == GOLDEN.digest
    assert release.lineage.figures["golden.species.after"] > 0.5
    assert "| home | 24 |" in release.card


def test_the_release_passes_its_own_smoke_test_on_every_tier() -> None:
    assert GOOD.release is not None
    eye = ZOO.cloud_model(GOOD.release)
    assert len(GOOD.release.smoke.vectors) == 9
    assert GOOD.release.smoke.complaints(eye.head, eye.tree) == ()


@pytest.mark.slow
def test_equal_inputs_make_equal_releases() -> None:
    again = made({"home": sums_of(new=vectors_of_new(24))}, held_of(("home", NEW, vectors_of_new(6, seed=1))))
    assert again.release is not None and GOOD.release is not None
    assert dict(again.release.files()) == dict(GOOD.release.files())


@pytest.mark.slow
def test_a_label_waits_until_it_has_twenty_events() -> None:
    outcome = made({"home": sums_of(new=vectors_of_new(15), person=golden_of("person")[:30])})
    assert outcome.report.few == {NEW: 15}
    assert outcome.release is not None and outcome.release.sums is not None
    assert set(outcome.release.sums.labels) == {"person", FEW}
    assert outcome.release.rows == ()
    assert NEW in render(outcome.report)
    ZOO.cloud_model(outcome.release)


@pytest.mark.slow
def test_a_label_of_another_rank_is_never_answered_and_judges_at_its_rank() -> None:
    lions = np.repeat(golden_of("Panthera leo"), 5, axis=0)
    outcome = made({"home": sums_of(new=vectors_of_new(24), felids=lions)}, held_of(("home", "Felidae", lions[:5])))
    assert outcome.release is not None
    assert outcome.report.held_after.classes["Felidae"].of == 5
    assert "Felidae" not in ZOO.cloud_model(outcome.release).predict(lions[0]).species.labels


OTHER = "Solenodon cubanus"


def vectors_of_other(count: int, seed: int) -> np.ndarray:
    """Of a second new species, beside the first."""
    return np.clip(vectors_of_new(count, seed).astype(int) + np.where(np.arange(D) < 40, 24, 0), 0, 255).astype(
        np.uint8
    )


def both(new: np.ndarray, other: np.ndarray) -> Sums:
    empty = Sums.empty(BASE.sums.space, D, (NEW, OTHER))
    return empty.add(np.vstack([new, other]), [0] * len(new) + [1] * len(other))


def poisoned() -> tuple[dict[str, Sums], Held]:
    """Two sites know two new species; a third takes each for the other, in bulk."""
    sites = {
        "garden": both(vectors_of_new(30, 2), vectors_of_other(30, 3)),
        "home": both(vectors_of_new(30, 4), vectors_of_other(30, 5)),
        "spoiler": both(vectors_of_other(200, 6), vectors_of_new(200, 7)),
    }
    held = held_of(
        ("home", NEW, vectors_of_new(8, 11)),
        ("home", OTHER, vectors_of_other(8, 12)),
        ("garden", NEW, vectors_of_new(8, 13)),
        ("garden", OTHER, vectors_of_other(8, 14)),
        ("spoiler", NEW, vectors_of_other(8, 15)),
        ("spoiler", OTHER, vectors_of_new(8, 16)),
    )
    return sites, held


TWO = (ROW, row_under(BASE.tree, OTHER, "animal/Solenodontidae"))


@pytest.mark.slow
def test_a_site_whose_labels_are_flipped_is_left_out_and_named() -> None:
    sites, held = poisoned()
    outcome = made(sites, held, rows=TWO)
    assert outcome.release is not None and outcome.release.sums is not None
    assert [site for site, its in outcome.report.sites.items() if its.spoils] == ["spoiler"]
    assert outcome.release.sums.events == 152
    left_out = {its.site: its.left_out for its in outcome.release.lineage.sites}
    assert "are right, with it" in left_out["spoiler"] and not left_out["home"]
    assert outcome.report.held_after.labels.rate > 0.9


@pytest.mark.slow
def test_leaving_a_site_out_is_exact() -> None:
    sites, held = poisoned()
    with_it = made(sites, held, rows=TWO)
    del sites["spoiler"]
    never = made(sites, held.chosen([its.site != "spoiler" for its in held.events]), rows=TWO)
    assert with_it.release is not None and never.release is not None
    assert with_it.release.sums is not None and never.release.sums is not None
    assert with_it.release.sums.snapshot() == never.release.sums.snapshot()


@pytest.mark.slow
def test_what_loses_too_much_is_refused_with_figures() -> None:
    persons = np.repeat(golden_of("person"), 40, axis=0)
    outcome = made({"home": sums_of(other=persons, new=vectors_of_new(24))}, limits=Limits(rank=-1.0, person=-1.0))
    assert outcome.release is None
    assert any("golden set, persons" in line and "points lost" in line for line in outcome.report.refused)
    assert "(refused)" in render(outcome.report)


@pytest.mark.slow
def test_the_next_release_is_compared_with_the_one_that_serves() -> None:
    serving = GOOD.release
    assert serving is not None
    outcome = retrain(
        BASE,
        GOLDEN,
        {"home": sums_of(new=vectors_of_new(40))},
        held_of(("home", NEW, vectors_of_new(6, seed=1))),
        serving,
        rows=(ROW,),
        version=4,
    )
    assert outcome.report.serving == "lite0@3"
    assert outcome.report.held_before.classes[NEW].rate == 1.0
    assert outcome.release is not None and outcome.release.lineage.parent == "lite0@3"


def test_a_golden_set_that_does_not_match_is_refused() -> None:
    sites = {"home": sums_of(new=vectors_of_new(24))}
    for odd, says in (
        (replace(GOLDEN, space="lite0-other"), "of lite0-other"),
        (replace(GOLDEN, labels=("Nessie", *GOLDEN.labels[1:])), "Nessie"),
    ):
        with pytest.raises(Rejected, match=says) as refused:
            retrain(BASE, odd, sites, NOBODY, None, rows=(ROW,), version=3)
        assert refused.value.reason == "golden-mismatch"


@pytest.mark.parametrize(
    ("sites", "held", "reason"),
    [
        (
            {"home": Sums.empty("other", D, ("person",)).add(np.zeros((1, D), np.uint8), [0])},
            NOBODY,
            "space-mismatch",
        ),
        ({"home": Sums.empty(BASE.sums.space, 8, ("person",))}, NOBODY, "space-mismatch"),
        ({}, NOBODY, "too-few-events"),
        ({"home": sums_of(new=vectors_of_new(0))}, NOBODY, "too-few-events"),
        ({"home": Sums.empty(BASE.sums.space, D, ("Nessie",))}, NOBODY, "labels-mismatch"),
        ({"home": sums_of(new=vectors_of_new(24))}, Held((), np.empty((1, D), np.uint8)), "space-mismatch"),
    ],
)
def test_sums_of_another_version_or_shape_are_refused(sites: dict[str, Sums], held: Held, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        made(sites, held, rows=TWO)
    assert refused.value.reason == reason
