"""Heads solved from sums: equal sums give equal heads, increments equal training at once, errors are clear."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.heads.solve import LinearHead, discriminants, solve
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

LABELS = ("Felidae", "Canidae", "Bovidae")
D = 16


def clusters(n: int, seed: int, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(0).integers(60, 190, (len(LABELS), D))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(LABELS), n)
    return np.clip(centres[y] + rng.normal(0, noise, (n, D)), 0, 255).astype(np.uint8), y


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
    np.testing.assert_array_equal(solve(without).weights, solve(Sums.empty("s", D, LABELS).add(x[1:], y[1:])).weights)


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


def taught(n: int = 300, seed: int = 1) -> Sums:
    return Sums.empty("s", D, LABELS).add(*clusters(n, seed))


SOLVERS: dict[str, Callable[[Sums], LinearHead]] = {
    "ridge": solve,
    "discriminants": discriminants,
}
events = st.integers(1, 25).flatmap(
    lambda n: st.tuples(arrays(np.uint8, (n, D)), arrays(np.int64, n, elements=st.integers(0, len(LABELS) - 1)))
)


def same(one: LinearHead, other: LinearHead) -> None:
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.bias, other.bias)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@given(
    given_events=events,
    sites=st.lists(st.integers(0, 4), min_size=25, max_size=25),
    order=st.permutations(range(5)),
)
@settings(deadline=None, max_examples=40)
def test_sites_merged_in_any_order_solve_to_the_central_head(solver, given_events, sites, order) -> None:
    x, y = given_events
    at = np.array(sites[: len(x)])
    parts = [Sums.empty("s", D, LABELS).add(x[at == site], y[at == site]) for site in order]
    same(solver(reduce(Sums.merge, parts)), solver(Sums.empty("s", D, LABELS).add(x, y)))


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@given(kept=events, forgotten=events)
@settings(deadline=None, max_examples=40)
def test_the_head_after_forgetting_is_the_head_that_never_saw_the_events(solver, kept, forgotten) -> None:
    never = Sums.empty("s", D, LABELS).add(*kept)
    after = never.add(*forgotten).subtract(Sums.empty("s", D, LABELS).add(*forgotten))
    same(solver(after), solver(never))


def test_discriminants_name_what_they_were_taught_and_nothing_else() -> None:
    wider = taught().with_labels((*LABELS, "Ursidae"))
    head = discriminants(wider)
    test_x, test_y = clusters(200, 2)
    assert (head.logits(test_x).argmax(1) == test_y).mean() > 0.97
    assert head.scores(test_x[0])["Ursidae"] == 0.0


def test_discriminants_hear_a_class_of_ten_among_many_where_one_hot_least_squares_does_not() -> None:
    x, y = clusters(6000, 1, noise=30)
    rare, common = np.flatnonzero(y == 2)[:10], np.flatnonzero(y != 2)
    sums = Sums.empty("s", D, LABELS).add(x[common], y[common]).add(x[rare], y[rare])
    test_x, test_y = clusters(600, 2, noise=30)
    heard = {
        name: float((solver(sums).logits(test_x).argmax(1) == test_y)[test_y == 2].mean())
        for name, solver in (("solve", solve), ("discriminants", discriminants))
    }
    assert heard["discriminants"] > 0.9 > 0.5 > heard["solve"]


def test_without_events_there_is_no_head() -> None:
    for solver in SOLVERS.values():
        with pytest.raises(Rejected, match="label some first"):
            solver(Sums.empty("s", D, LABELS))
