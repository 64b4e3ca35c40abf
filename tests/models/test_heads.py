"""Heads solved from sums: equal sums give equal heads, increments equal training at once, errors are clear."""

from __future__ import annotations

import numpy as np
import pytest

from models.heads import solve
from pipeline.errors import Rejected
from pipeline.sums import Sums

LABELS = ("Felidae", "Canidae", "Bovidae")
D = 16


def clusters(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(0).integers(60, 190, (len(LABELS), D))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(LABELS), n)
    return np.clip(centres[y] + rng.normal(0, 12, (n, D)), 0, 255).astype(np.uint8), y


def test_a_head_solved_from_sums_names_what_it_was_taught() -> None:
    x, y = clusters(300, 1)
    head = solve(Sums.empty("s", D, LABELS).add(x, y))
    test_x, test_y = clusters(200, 2)
    assert (head.logits(test_x).argmax(1) == test_y).mean() > 0.97
    scores = head.scores(test_x[0])
    assert scores.best[0] == LABELS[test_y[0]]
    assert scores.probabilities.sum() == pytest.approx(1)


def test_merged_sums_give_the_central_head_bit_for_bit() -> None:
    x, y = clusters(300, 1)
    central = solve(Sums.empty("s", D, LABELS).add(x, y))
    sites = [Sums.empty("s", D, LABELS).add(x[y == label], y[y == label]) for label in (2, 0, 1)]
    federated = solve(sites[0].merge(sites[1]).merge(sites[2]))
    np.testing.assert_array_equal(federated.weights, central.weights)
    np.testing.assert_array_equal(federated.bias, central.bias)


def test_forgetting_an_event_gives_the_head_that_never_saw_it() -> None:
    x, y = clusters(100, 1)
    everything = Sums.empty("s", D, LABELS).add(x, y)
    without = everything.subtract(Sums.empty("s", D, LABELS).add(x[:1], y[:1]))
    np.testing.assert_array_equal(
        solve(without).weights, solve(Sums.empty("s", D, LABELS).add(x[1:], y[1:])).weights
    )


def test_one_event_gives_a_head_that_says_so_everywhere() -> None:
    x, y = clusters(1, 1)
    head = solve(Sums.empty("s", D, LABELS).add(x, y))
    assert head.scores(np.full(D, 128, np.uint8)).best[0] == LABELS[y[0]]


def test_calibration_brings_confidence_to_accuracy() -> None:
    x, y = clusters(300, 1)
    noisy = np.where(np.random.default_rng(3).random(300) < 0.3, (y + 1) % 3, y)
    head = solve(Sums.empty("s", D, LABELS).add(x, noisy)).calibrated(*clusters_with_noise(400))
    confidence = np.mean([head.scores(one).best[1] for one in x])
    assert confidence == pytest.approx(0.7, abs=0.06)


def clusters_with_noise(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = clusters(n, 5)
    return x, np.where(np.random.default_rng(4).random(n) < 0.3, (y + 1) % 3, y)


def test_no_events_make_no_head_and_strange_features_no_scores() -> None:
    with pytest.raises(Rejected, match="label some first"):
        solve(Sums.empty("s", D, LABELS))
    head = solve(Sums.empty("s", D, LABELS).add(*clusters(10, 1)))
    with pytest.raises(Rejected, match="has 16 components, not 7"):
        head.scores(np.zeros(7, np.uint8))
