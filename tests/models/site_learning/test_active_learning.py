"""Labels are asked for where they teach most, through the day, and never beyond the budget."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.site_learning.active_learning import LEAST_SCORE, Moment, Pace, decide, left, novelty, score


def asked(scores: list[float], *, budget: int, days: int = 1, pace: Pace | None = None) -> list[tuple[float, float]]:
    """Which of these are asked about, as (share of the day, score); they come evenly through the days."""
    pace, found = pace or Pace(), []
    for number, its in enumerate(scores):
        day, at = divmod(number * days / len(scores), 1)
        pace, asks = decide(pace, its, at=Moment(int(day), at), budget=budget)
        found += [(day + at, its)] if asks else []
    return found


def test_the_budget_is_used_through_the_day_and_not_at_its_start() -> None:
    rng = np.random.default_rng(0)

    times = [at for at, _ in asked(rng.uniform(0.1, 1, 200).tolist(), budget=10)]

    assert 8 <= len(times) <= 10
    assert sum(at < 0.5 for at in times) <= 6


def test_what_is_asked_about_scores_higher_than_what_is_not() -> None:
    scores = np.random.default_rng(0).uniform(0.1, 1, 600).tolist()

    assert np.mean([its for _, its in asked(scores, budget=10, days=3)]) > 0.8


def test_a_quiet_site_asks_about_whatever_comes() -> None:
    quiet = Pace(day=0, a_day=3.0)

    assert len(asked([0.3, 0.2, 0.25], budget=10, pace=quiet)) == 3


def test_what_would_teach_nothing_is_never_asked_about() -> None:
    assert asked([LEAST_SCORE / 2] * 50, budget=10) == []


@given(st.lists(st.floats(0, 1), max_size=120), st.integers(0, 12), st.integers(1, 4))
def test_no_day_has_more_asks_than_its_budget(scores: list[float], budget: int, days: int) -> None:
    by_day = [int(at) for at, _ in asked(scores, budget=budget, days=days)]

    assert all(by_day.count(day) <= budget for day in range(days))


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_restart_changes_nothing(scores: list[float]) -> None:
    pace = Pace()
    for number, its in enumerate(scores):
        at = Moment(0, number / len(scores))
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(pace), type=Pace)
        assert decide(stored, its, at=at, budget=3) == decide(pace, its, at=at, budget=3)
        pace, _ = decide(pace, its, at=at, budget=3)


def test_what_is_left_of_a_budget_is_whole_again_on_the_next_day() -> None:
    pace, asks = decide(Pace(), 0.9, at=Moment(5, 0.5), budget=4)

    assert asks
    assert (left(pace, at=Moment(5, 0.6), budget=4), left(pace, at=Moment(6, 0.0), budget=4)) == (3, 4)


def test_novelty_is_the_distance_to_the_nearest_one_known() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (20, 64)).astype(np.uint8)

    assert novelty(known[3], known) == pytest.approx(0, abs=1e-6)
    assert novelty(known[3], known[4:]) > 0.5
    assert novelty(known[3], np.empty((0, 64), np.uint8)) == 1.0


def test_a_stream_that_drifts_counts_twice() -> None:
    assert score(0.5, 0.4, drifting=True) == 2 * score(0.5, 0.4) == pytest.approx(0.4)
