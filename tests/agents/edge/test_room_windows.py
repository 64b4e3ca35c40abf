"""When a room's window and a stream's hour are told, and that they add up whatever way the readings came."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.edge import room_windows
from agents.edge.room_windows import GRACE_S, HOUR_GRACE_S, Hour, Room
from pipeline import clock
from pipeline.clock import HOUR_S
from pipeline.messages import Report, Summary, Task

WINDOW_S = 300.0
STREAMS = frozenset({"co2", "light", "temperature"})

histories = st.lists(
    st.tuples(st.sampled_from(sorted(STREAMS)), st.one_of(st.floats(0, 400), st.just(0.0), st.just(WINDOW_S))),
    min_size=1,
    max_size=30,
)
"""Which stream reported, and how many seconds after the report before."""


# --- windows ---------------------------------------------------------------------------------------------------


class Driver:
    """Drives the decisions as the edge does: it looks whenever something was reported, or time passed."""

    def __init__(self, first_s: float) -> None:
        self.room = Room(room_windows.first_end(first_s, WINDOW_S))
        self.reports: list[float] = []
        self.answered: list[float] = []

    def report(self, stream: str, time_s: float, *, now_s: float) -> None:
        self.reports.append(time_s)
        self.room = room_windows.saw(self.room, stream, time_s, received_s=now_s)

    def look(self, now_s: float) -> None:
        while room_windows.due(self.room, STREAMS, now_s=now_s):
            end_s = self.room.end_s
            self.answered.append(end_s)
            later = [time_s for time_s in self.reports if time_s >= end_s]
            self.room = room_windows.advance(self.room, WINDOW_S, first_later_s=min(later, default=None))


@pytest.mark.slow
@given(histories, st.booleans())
def test_each_report_falls_in_exactly_one_told_window(history: list[tuple[str, float]], at_once: bool) -> None:
    """Live, or as a week of history that comes in one burst."""
    driver = Driver(0.0)
    time_s = 0.0
    for stream, later_s in history:
        time_s += later_s
        driver.report(stream, time_s, now_s=1e9 if at_once else time_s)
        driver.look(1e9 if at_once else time_s)
    for patience in range(len(history) + 1):
        driver.look(1e9 + (patience + 1) * GRACE_S)
    assert driver.answered == sorted(set(driver.answered))
    running_from_s = driver.room.end_s - WINDOW_S
    for reported_s in driver.reports:
        holding = [end_s for end_s in driver.answered if end_s - WINDOW_S <= reported_s < end_s]
        assert len(holding) == (1 if reported_s < running_from_s else 0)


@pytest.mark.slow
@given(histories)
def test_a_window_is_never_due_before_a_report_is_past_its_end(history: list[tuple[str, float]]) -> None:
    driver = Driver(0.0)
    time_s = 0.0
    for stream, later_s in history:
        time_s += later_s
        driver.report(stream, time_s, now_s=time_s)
        if time_s < driver.room.end_s:
            assert not room_windows.due(driver.room, STREAMS, now_s=time_s + 1e6)
        driver.look(time_s)
        assert all(end_s <= time_s for end_s in driver.answered)


def test_a_window_waits_for_its_other_streams_but_not_for_ever() -> None:
    room = Room(600.0)
    for stream in STREAMS:
        room = room_windows.saw(room, stream, 500.0, received_s=500.0)
    assert not room_windows.due(room, STREAMS, now_s=10_000.0)
    room = room_windows.saw(room, "co2", 601.0, received_s=605.0)
    assert not room_windows.due(room, STREAMS, now_s=605.0 + GRACE_S - 0.1)
    assert room_windows.due(room, STREAMS, now_s=605.0 + GRACE_S)


def test_a_window_is_due_at_once_when_every_stream_is_past_it() -> None:
    room = Room(600.0)
    for stream in STREAMS:
        room = room_windows.saw(room, stream, 600.0, received_s=600.0)
    assert room_windows.due(room, STREAMS, now_s=600.0)


def test_windows_in_which_nothing_was_reported_are_skipped() -> None:
    room = room_windows.saw(Room(600.0), "co2", 2000.0, received_s=2000.0)
    assert room_windows.advance(room, WINDOW_S, first_later_s=2000.0).end_s == 2100.0


@given(st.floats(0, 2e9))
def test_a_moment_lies_before_its_windows_end_and_at_most_a_window_before(time_s: float) -> None:
    assert time_s < room_windows.first_end(time_s, WINDOW_S) <= time_s + WINDOW_S


def test_a_late_report_does_not_turn_back_the_stream() -> None:
    room = room_windows.saw(room_windows.saw(Room(600.0), "co2", 610.0, received_s=1.0), "co2", 10.0, received_s=2.0)
    assert room.newest_s == {"co2": 610.0}


# --- hours -----------------------------------------------------------------------------------------------------

readings = st.lists(st.integers(-1000, 1000).map(lambda n: n / 8), min_size=1, max_size=40)
"""Eighths, so that sums are exact whatever the order."""


def report(values: list[float]) -> Report:
    return Report(
        value=values[-1],
        unit="W",
        count=len(values),
        total=math.fsum(values),
        low=min(values),
        high=max(values),
    )


@pytest.mark.slow
@given(readings, st.data())
def test_an_hour_adds_up_whatever_the_partition_into_reports(values: list[float], data: st.DataObject) -> None:
    left, reports = list(values), []
    while left:
        size = data.draw(st.integers(1, len(left)))
        reports.append(report(left[:size]))
        left = left[size:]
    hour: Hour | None = None
    for each in data.draw(st.permutations(reports)):
        hour = room_windows.tally(hour, each, 7200.0 + 10)
    assert hour == Hour(7200.0, "W", len(values), math.fsum(values), min(values), max(values))


def test_a_late_report_raises_the_revision_of_an_hour_that_was_told() -> None:
    first = room_windows.tally(None, report([1.0, 2.0]), 0.0)
    assert told(first).revision == 1
    late = room_windows.tally(_after_telling(first), report([6.0]), 30.0)
    assert told(late) == Summary(
        hour="1970-01-01T00:00:00.000Z",
        task=Task.METER,
        unit="W",
        count=3,
        total=9.0,
        low=1.0,
        high=6.0,
        revision=2,
        room=None,
    )
    assert told(late).mean == 3.0


def _after_telling(hour: Hour) -> Hour:
    return Hour(hour.start_s, hour.unit, hour.count, hour.total, hour.low, hour.high, published=hour.published + 1)


def told(hour: Hour) -> Summary:
    return room_windows.summary(hour, clock.rfc3339(hour.start_s), Task.METER, None)


def test_an_hour_is_over_when_its_stream_went_on_or_the_clock_did() -> None:
    assert not room_windows.hour_is_over(0.0, newest_s=HOUR_S - 1, now_s=HOUR_S + HOUR_GRACE_S - 1)
    assert room_windows.hour_is_over(0.0, newest_s=HOUR_S, now_s=0.0)
    assert room_windows.hour_is_over(0.0, newest_s=0.0, now_s=HOUR_S + HOUR_GRACE_S)


@given(st.floats(0, 2e9))
def test_a_moment_lies_in_its_hour(time_s: float) -> None:
    assert room_windows.hour_of(time_s) <= time_s < room_windows.hour_of(time_s) + HOUR_S
    assert room_windows.hour_of(time_s) % HOUR_S == 0
