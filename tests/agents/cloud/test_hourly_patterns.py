"""Patterns: an hour is judged by the hours before it, whatever way the agent came to know them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.cloud.hourly_patterns import HOUR_S, WEEKS_KEPT, Patterns
from pipeline import clock
from pipeline.messages import UNKNOWN, Privacy, Rank, Result, Task, Tier
from pipeline.records import HourlySummary

UTC = ZoneInfo("UTC")
MONDAY_S = clock.seconds("2026-01-05T00:00:00Z")
DAY_S = 24 * HOUR_S


def hour(
    number: int, mean: float | None = None, *, revision: int = 1, source: str = "home/meter/power"
) -> HourlySummary:
    """The hour of this number since a Monday's midnight; nights are quiet."""
    usual = 100.0 + 200.0 * (8 <= number % 24 < 20) + number % 3
    value = usual if mean is None else mean
    return HourlySummary(
        source=source,
        hour=clock.rfc3339(MONDAY_S + number * HOUR_S),
        task=Task.METER,
        unit="W",
        count=60,
        total=60 * value,
        low=value,
        high=value,
        mean=value,
        revision=revision,
    )


def answer(patterns: Patterns, summary: HourlySummary) -> Result:
    return patterns.answer(summary, started_s=1.0, now_s=1.25)


def filled(hours: int, zone: ZoneInfo = UTC) -> Patterns:
    patterns = Patterns(zone)
    patterns.fill(hour(number) for number in range(hours))
    return patterns


def test_an_hour_of_a_stream_that_is_new_is_unknown_and_says_why() -> None:
    told = answer(Patterns(UTC), hour(0))
    assert (told.label, told.path, told.rule) == (UNKNOWN, (), "too-few-weeks")
    assert (told.tier, told.rank, told.pending, told.privacy) == (
        Tier.CLOUD,
        Rank.PATTERN,
        None,
        Privacy.PUBLIC,
    )
    assert told.latency_ms == 250.0


def test_after_three_weeks_a_usual_hour_is_usual_and_a_strange_one_is_not() -> None:
    at = 21 * 24 + 10
    assert answer(filled(at), hour(at)).label == "usual"
    strange = answer(filled(at), hour(at, 9000.0))
    assert (strange.label, strange.path) == ("unusual", ("unusual",))
    assert "9000 W, usually" in strange.reason


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(80)))
def test_the_order_in_which_the_past_was_read_does_not_matter(order: list[int]) -> None:
    shuffled = Patterns(UTC)
    shuffled.fill(hour(number) for number in order)
    assert answer(shuffled, hour(80)) == answer(filled(80), hour(80))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 99), max_size=12))
def test_hours_that_come_again_change_nothing(again: list[int]) -> None:
    patterns = filled(100)
    for number in again:
        answer(patterns, hour(number))
    assert answer(patterns, hour(100)) == answer(filled(100), hour(100))


def test_answered_one_after_the_other_or_filled_at_once_is_the_same() -> None:
    one_by_one = Patterns(UTC)
    for number in range(100):
        answer(one_by_one, hour(number))
    assert answer(one_by_one, hour(100)) == answer(filled(100), hour(100))


def test_an_hour_is_judged_by_the_hours_before_it_alone() -> None:
    assert answer(filled(200), hour(90)) == answer(filled(90), hour(90))


def test_a_revised_hour_is_the_same_event_with_a_higher_revision() -> None:
    patterns = filled(100)
    first, second = answer(patterns, hour(100)), answer(patterns, hour(100, 500.0, revision=2))
    assert first.event == second.event
    assert (first.revision, second.revision) == (1, 2)
    assert second.value == 500.0


def test_a_revised_hour_of_the_past_counts_as_it_is_now() -> None:
    revised = filled(100)
    answer(revised, hour(100))
    answer(revised, hour(50, 5000.0, revision=2))
    fresh = Patterns(UTC)
    fresh.fill([*(hour(number) for number in range(100) if number != 50), hour(50, 5000.0, revision=2)])
    assert answer(revised, hour(100)) == answer(fresh, hour(100))


def test_streams_do_not_learn_from_each_other() -> None:
    patterns = filled(100)
    other = hour(100, source="home/meter/gas")
    assert answer(patterns, other) == answer(Patterns(UTC), other)


def test_the_days_last_hour_brings_the_forecast_of_the_next_day() -> None:
    told = [answer(filled(7 * 24 + at), hour(7 * 24 + at)).forecast for at in (21, 22, 23, 24)]
    assert [forecast is not None for forecast in told] == [False, False, True, False]
    forecast = told[2]
    assert forecast is not None
    assert forecast.start == clock.rfc3339(MONDAY_S + 8 * DAY_S)
    assert len(forecast.mean) == len(forecast.low) == len(forecast.high) == 24
    assert all(low <= mean <= high for low, mean, high in zip(forecast.low, forecast.mean, forecast.high, strict=True))
    assert forecast.mean[10] > forecast.mean[2] + 50


def test_a_streams_first_midnight_is_answered_without_a_forecast() -> None:
    told = answer(filled(3), hour(23))
    assert told.forecast is None
    assert told.label == UNKNOWN


def test_midnight_is_the_sites_own() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    assert answer(filled(8 * 24 + 14, tokyo), hour(8 * 24 + 14)).forecast is not None
    assert answer(filled(8 * 24 + 23, tokyo), hour(8 * 24 + 23)).forecast is None


def test_whether_the_hour_before_is_known() -> None:
    patterns = filled(5)
    assert patterns.follows(hour(5))
    assert not patterns.follows(hour(7))
    assert not patterns.follows(hour(0, source="home/meter/gas"))


@pytest.mark.parametrize("weeks", [WEEKS_KEPT + 1])
def test_hours_of_another_season_are_forgotten(weeks: int) -> None:
    patterns = Patterns(UTC)
    patterns.fill([hour(0)])
    patterns.fill([hour(weeks * 7 * 24)])
    assert not patterns.follows(hour(1))
