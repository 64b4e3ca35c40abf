"""Curves run from the edge alone to the cloud alone, and a miner is worth what it puts first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.labels.scores import Scores
from models.train.studies.forwarding import (
    MINERS,
    certainty,
    cheapest,
    curve,
    draw,
    likeliest,
    margin,
    right,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1.0, 0.0, 0.0]])
verdicts = st.integers(1, 40).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=st.floats(0, 1)), arrays(np.bool_, n), arrays(np.bool_, n))
)


@pytest.mark.slow
@given(verdicts)
@settings(deadline=None)
def test_a_curve_runs_from_the_near_tier_alone_to_the_far_tier_alone(events) -> None:
    confidence, near, far = events
    line = curve(confidence, near, far)
    assert line.accuracy[0] == near.mean() and line.accuracy[-1] == far.mean()
    assert line.share[0] == 0 and line.share[-1] == 1 and len(line.share) == len(near) + 1


@given(verdicts, st.integers(0, 40))
@settings(deadline=None)
def test_each_point_is_what_forwarding_the_least_confident_gives(events, count) -> None:
    confidence, near, far = events
    count = min(count, len(near))
    forwarded = np.argsort(confidence, kind="stable")[:count]
    answers = near.copy()
    answers[forwarded] = far[forwarded]
    assert curve(confidence, near, far).accuracy[count] == pytest.approx(answers.mean())


@pytest.mark.slow
@given(verdicts, st.floats(0, 0.2))
@settings(deadline=None)
def test_the_cheapest_point_is_near_enough_and_none_before_it_is(events, within) -> None:
    line = curve(*events)
    at = cheapest(line, within)
    assert line.accuracy[at] >= line.accuracy[-1] - within
    assert all(line.accuracy[:at] < line.accuracy[-1] - within)


def test_a_miner_that_puts_the_wrong_answers_first_needs_the_fewest() -> None:
    near, far = np.array([True, False, True, False]), np.ones(4, np.bool_)
    good, bad = (
        curve(np.array([0.9, 0.1, 0.8, 0.2]), near, far),
        curve(np.array([0.1, 0.9, 0.2, 0.8]), near, far),
    )
    assert (cheapest(good, 0.0), cheapest(bad, 0.0)) == (2, 4)


def test_miners_measure_what_they_say() -> None:
    np.testing.assert_allclose(margin(PROBABILITIES), [0.5, 0.05, 1.0])
    np.testing.assert_allclose(likeliest(PROBABILITIES), [0.7, 0.4, 1.0])
    assert certainty(PROBABILITIES)[2] == pytest.approx(0, abs=1e-9)
    assert certainty(PROBABILITIES)[1] == min(certainty(PROBABILITIES))
    assert sorted(MINERS["chance"](PROBABILITIES)) == [0, 1, 2]
    assert right(PROBABILITIES, np.array([0, 1, 0])).tolist() == [True, False, True]


def test_the_margin_is_the_one_that_the_cascade_sees() -> None:
    row = PROBABILITIES[0].astype(np.float32)
    assert margin(row[None])[0] == pytest.approx(Scores("family", ("a", "b", "c"), row).margin)


def test_a_forwarding_chart_has_a_line_a_miner_and_the_rule_s_point_and_is_the_same_every_time(
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    near, far = np.arange(30) % 3 > 0, np.arange(30) % 4 > 0
    lines = {name: curve(miner(probabilities), near, far) for name, miner in MINERS.items()}
    charts = []
    for name in ("first.svg", "second.svg"):
        draw({"photos": (lines, (0.1, 0.8)), "night": (lines, (0.2, 0.7))}, tmp_path / name)
        charts.append((tmp_path / name).read_text("utf-8"))
    assert charts[0] == charts[1]
    assert all(word in charts[0] for word in (*MINERS, "photos", "night", "the cascade's rule"))
