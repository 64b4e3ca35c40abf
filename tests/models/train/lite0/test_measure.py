"""Temperatures and thresholds say of held-out photos what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from models.heads.pooled import tempered
from models.labels.calibration import error_bound
from models.labels.scores import softmax
from models.labels.taxonomy import load_taxonomy
from models.train.lite0.measure import (
    RISKS,
    families,
    fit_temperatures,
    kingdoms,
    right,
    threshold,
    threshold_for_risk,
)

TREE = load_taxonomy()
LEAVES = np.array([at for at, label in enumerate(TREE.families) if label in ("person", "other")])


def answers(count: int = 400, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities from which the truths are drawn, made `sharpness` times as sure as they should be."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (count, len(TREE.species)))
    truths = np.array([rng.choice(len(one), p=one / one.sum()) for one in softmax(logits).astype(np.float64)])
    return softmax(logits * sharpness), truths


def test_parents_are_the_sums_of_their_children() -> None:
    species, _ = answers(5)
    np.testing.assert_allclose(families(TREE, species).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(kingdoms(TREE, species).sum(1), 1, atol=1e-5)
    felidae = TREE.families.index("Felidae")
    np.testing.assert_allclose(
        families(TREE, species)[:, felidae], species[:, TREE.family_of == felidae].sum(1), atol=1e-6
    )


@pytest.mark.slow
def test_honest_answers_keep_a_temperature_near_one_and_boasting_ones_are_softened() -> None:
    honest, boasting = (fit_temperatures(TREE, *answers(sharpness=sharpness)) for sharpness in (1.0, 2.0))
    assert (honest.kingdom, honest.family, honest.species) == pytest.approx((1, 1, 1), abs=0.3)
    assert boasting.family > 1.5 and boasting.species > 1.5


def test_tempering_by_the_fitted_temperatures_lowers_the_loss() -> None:
    species, truths = answers(sharpness=2.0)
    after = tempered(TREE, species, fit_temperatures(TREE, species, truths))
    assert right(TREE, after, truths).loss < right(TREE, species, truths).loss


def test_a_threshold_tells_what_was_measured_at_it() -> None:
    rng = np.random.default_rng(0)
    sure, alive = rng.random(900), np.setdiff1d(np.arange(len(TREE.families)), LEAVES)
    truths = rng.choice(alive, 900)
    said = np.where(rng.random(900) < 0.7 + 0.3 * sure, truths, (truths + 1) % len(TREE.families))
    scores = np.zeros((900, len(TREE.families)), np.float32)
    scores[np.arange(900), said] = sure
    its = threshold("family", scores, truths, LEAVES)
    answered = scores.max(1) >= its.at
    assert (its.held, its.answered) == (900, int(answered.sum()))
    assert its.wrong == int((said != truths)[answered].sum())
    assert its.risk == pytest.approx(error_bound(its.wrong, its.answered), abs=1e-4)
    assert its.risk <= RISKS["family"]


def test_leaves_that_are_answered_as_leaves_say_nothing_about_families() -> None:
    scores = np.zeros((50, len(TREE.families)), np.float32)
    scores[:, LEAVES[0]] = 0.99
    assert threshold("family", scores, np.full(50, LEAVES[1]), LEAVES).held == 0
    assert threshold("kingdom", scores, np.full(50, LEAVES[1]), LEAVES).held == 50


def test_a_threshold_for_a_risk_keeps_it_on_new_events() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(4000)
    correct = rng.random(4000) < confidence
    least = threshold_for_risk(confidence[:2000], correct[:2000], risk=0.1)
    stands = confidence[2000:] >= least
    assert 0.7 < least < 0.95
    assert 1 - correct[2000:][stands].mean() <= 0.1


def test_no_threshold_answers_where_the_risk_cannot_be_kept() -> None:
    assert threshold_for_risk(np.full(50, 0.9), np.zeros(50, bool), risk=0.05) == 1.0
