"""Softmax regression over classes that share labels, and heads seen through a projection."""

from __future__ import annotations

import numpy as np

from models.labels.scores import softmax
from models.train.lite0.linear import Linear, flat, make_projection, tune

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(0, 1, (4, 300)).astype(np.float32)
LABELS = RNG.integers(0, 4, 2000)
X = (CENTRES[LABELS] + RNG.normal(0, 1.5, (2000, 300))).astype(np.float32)
ONES = np.ones(2000, np.float32)


def test_a_tuned_head_tells_clusters_apart_and_is_the_same_every_time() -> None:
    first, second = (tune(flat(300, 4), X, LABELS, ONES, hold=0.0, rate=3e-3, epochs=5) for _ in range(2))
    assert (first.logits(X).argmax(1) == LABELS).mean() > 0.97
    np.testing.assert_array_equal(first.weights, second.weights)


def test_a_label_owns_the_sum_of_its_classes() -> None:
    head = Linear(np.zeros((2, 3), np.float32), np.zeros(3, np.float32), np.array([0, 1, 0]))
    np.testing.assert_allclose(np.exp(head.label_logits(np.zeros((1, 2), np.float32))), [[2 / 3, 1 / 3]], rtol=1e-5)


def test_a_strong_hold_keeps_a_head_where_it_started() -> None:
    start = flat(300, 4)
    held, free = (tune(start, X, LABELS, ONES, hold=hold, rate=3e-3, epochs=60) for hold in (10.0, 0.0))
    assert np.abs(held.weights).mean() < np.abs(free.weights).mean() / 3


def test_a_head_answers_nearly_the_same_through_the_bytes() -> None:
    head = tune(flat(300, 4), X, LABELS, ONES, hold=0.0, rate=3e-3, epochs=3)
    projection = make_projection(X, ONES, [head])
    assert projection.bytes(X).dtype == np.uint8
    through = projection.seen_through(head).logits(projection.components(X))
    np.testing.assert_allclose(softmax(through), softmax(head.logits(X)), atol=0.05)
