"""Times as text and back, and the clock that tests turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import clock
from pipeline.clock import HandClock, SystemClock

milliseconds = st.integers(0, 2**42)
"""Until the year 2109: beyond, a float no longer holds every millisecond exactly enough."""


@given(milliseconds)
def test_a_time_survives_its_text_to_the_millisecond(ms: int) -> None:
    text = clock.rfc3339(ms / 1000)
    assert text.endswith("Z")
    assert round(clock.seconds(text) * 1000) == ms


@pytest.mark.slow
@given(milliseconds, milliseconds)
def test_texts_sort_as_their_times_do(each: int, other: int) -> None:
    assert (clock.rfc3339(each / 1000) < clock.rfc3339(other / 1000)) == (each < other)


def test_a_time_with_an_offset_is_that_moment_and_without_one_utc() -> None:
    assert clock.seconds("1970-01-01T01:00:00+01:00") == 0.0
    assert clock.seconds("1970-01-01T00:00:00") == 0.0


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "1700000000"])
def test_a_text_that_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        clock.seconds(text)


def test_the_hand_clock_moves_only_when_it_is_turned() -> None:
    hand = HandClock(10.0)
    assert (hand.now(), hand.monotonic()) == (10.0, 10.0)
    hand.turn(2.5)
    assert (hand.now(), hand.monotonic()) == (12.5, 12.5)


def test_the_systems_monotonic_clock_does_not_step_back() -> None:
    system = SystemClock()
    first = system.monotonic()
    assert system.monotonic() >= first
    assert system.now() > 1_700_000_000


def test_setting_the_wall_clock_lets_no_time_pass() -> None:
    hand = HandClock(100.0)
    hand.set_wall(-50)
    hand.turn(1)
    assert (hand.now(), hand.monotonic()) == (51.0, 101.0)
