"""A site's head learns by addition, is judged before it is served, and never forgets what was good."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.frame_sequence import with_label
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy, load_taxonomy, roll_up
from models.site_learning.site_head import Lesson, Visits, extended
from models.site_learning.site_model import CALIBRATED_FROM, HELD_AT, HELD_OF, SiteModel

TREE = load_taxonomy()
DIMENSION = 24
LABELS = ("Felidae", "Vulpes vulpes", "other")
NOTHING_KNOWN = np.full(len(TREE.species), 1 / len(TREE.species), np.float32)


def lesson(label: str, seed: int, looks_like: str | None = None, frames: int = 2) -> Lesson:
    """A visit whose vectors lie around their label's own place."""
    rng = np.random.default_rng(seed)
    centre = np.full(DIMENSION, 128.0)
    centre[LABELS.index(looks_like or label) * 4 :][:4] += 60
    vectors = np.clip(centre + rng.normal(0, 12, (frames, DIMENSION)), 0, 255).astype(np.uint8)
    return Lesson(label, vectors, np.tile(NOTHING_KNOWN, (frames, 1)))


def start(tree: Taxonomy = TREE) -> SiteModel:
    return SiteModel.start(tree, general="lite0@2", site="garden", space="space", dimension=DIMENSION)


def taught(visits: int) -> SiteModel:
    local = start()
    for at in range(visits):
        local, _ = local.learn(lesson(LABELS[at % len(LABELS)], at))
    return local


def families(local: SiteModel, its: Lesson) -> Scores:
    species = local.head().consensus(its.vectors, its.general)
    assert species.sum() == pytest.approx(1, abs=1e-4)
    return roll_up(local.tree, Scores("species", local.tree.species, species))[0]


def test_before_the_first_label_the_general_head_answers() -> None:
    local, its = start(), lesson("Felidae", 0)
    assert local.name == "lite0@2"
    np.testing.assert_allclose(local.head().consensus(its.vectors, its.general), NOTHING_KNOWN, atol=1e-6)


def test_a_name_counts_the_increments_that_were_taken() -> None:
    assert taught(7).name == "lite0@2+garden.7"


def test_a_label_of_any_rank_is_learned() -> None:
    local = taught(12).calibrated()
    assert families(local, lesson("Felidae", 99)).best[0] == "Felidae"
    assert families(local, lesson("Vulpes vulpes", 99)).best[0] == "Canidae"
    assert families(local, lesson("other", 99)).best[0] == "other"


def test_the_third_of_five_visits_of_a_label_is_held_back_but_served() -> None:
    local = taught(3 * HELD_OF)
    assert [its.label for its in local.held] == list(LABELS)
    assert all(local.lessons[HELD_AT * 3 + at] is its for at, its in enumerate(local.held))
    assert local.learned.events == 2 * (3 * HELD_OF - 3)
    assert local.everything.events == 2 * 3 * HELD_OF


def test_the_order_of_labels_does_not_matter() -> None:
    lessons = [lesson(LABELS[at % 3], at) for at in range(6)]
    sums = []
    for order in (lessons, lessons[::-1]):
        local = start()
        for its in order:
            local, _ = local.learn(its)
        sums.append(local.learned.with_labels(LABELS))
    assert sums[0].snapshot() == sums[1].snapshot()


def test_poisoned_labels_are_refused_and_the_last_good_head_stays() -> None:
    local = taught(30)
    rules = []
    for at in range(20):
        # Foxes that somebody calls cats, a whole visit of them at a time.
        after, verdict = local.learn(lesson("Felidae", 500 + at, looks_like="Vulpes vulpes", frames=20))
        rules.append(verdict.rule)
        if verdict.rule == "refused":
            assert after.name == local.name
            assert after.learned is local.learned
        local = after
    assert rules.count("refused") >= 18
    assert families(local, lesson("Vulpes vulpes", 99)).best[0] == "Canidae"
    # What is right is still learned.
    local, verdict = local.learn(lesson("Vulpes vulpes", 700))
    assert verdict.rule != "refused"


def test_a_visit_that_is_left_out_was_never_there() -> None:
    local = taught(6)
    asked = local.left_out()
    assert len(asked) == 6
    without = start()
    for its in local.lessons[1:]:
        without, _ = without.learn(its)
    head = local._headed(without.everything.with_labels(LABELS))
    site, _ = head.log_shares(Visits.of(TREE, [local.lessons[0]]))
    np.testing.assert_allclose(asked[0][0], site[0], atol=1e-5)


def test_few_visits_calibrate_nothing_and_more_do() -> None:
    few = taught(CALIBRATED_FROM - 1)
    assert few.calibrated() is few
    many = taught(CALIBRATED_FROM + 8).calibrated()
    # The general head of these tests knows nothing, and the site finds that out.
    assert many.weighing.temperature != few.weighing.temperature


def test_a_new_species_is_learned_under_its_family() -> None:
    tree, label = with_label(TREE, "Felidae/Leopardus guigna")
    local = start(tree)
    for at in range(4):
        its = lesson("Felidae", at)
        local, _ = local.learn(Lesson(label, its.vectors, its.general))
        local, _ = local.learn(lesson("other", at))
    its = lesson("Felidae", 99)
    species = Scores("species", tree.species, local.head().consensus(its.vectors, its.general))
    assert species.best[0] == label


def test_a_new_species_takes_half_of_its_family() -> None:
    tree, label = with_label(TREE, "Felidae/Leopardus guigna")
    known = np.zeros((1, len(TREE.species)), np.float32)
    known[0, TREE.species.index("Felis catus")] = 1
    grown = extended(tree, known)[0]
    assert grown[tree.species.index(label)] == pytest.approx(0.5)
    assert grown.sum() == pytest.approx(1)
