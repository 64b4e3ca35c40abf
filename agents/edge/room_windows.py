"""Decide when the edge answers a room's window and publishes a stream's hour, by the reports so far. Pure.

A room's window is answered (vacant, occupied) when every stream of the room has reported past its end. Streams report
by exception, so most of them are silent most of the time: at the latest, the window is answered `GRACE_S` after the
first report past its end. An hour of a stream is published at the first report of a later hour, or `HOUR_GRACE_S`
after its end::

    >>> room = Room(end_s=600.0)
    >>> room = saw(room, "temperature", 590.0, received_s=590.0)
    >>> due(room, frozenset({"temperature", "light"}), now_s=590.0)
    False
    >>> room = saw(room, "temperature", 601.0, received_s=601.0)
    >>> due(room, frozenset({"temperature", "light"}), now_s=602.0)
    False
    >>> due(room, frozenset({"temperature", "light"}), now_s=616.0)
    True
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from pipeline.clock import HOUR_S, hour_of
from pipeline.messages import Report, Summary, Task
from pipeline.readings import FUTURE_MAX_S

HOUR_GRACE_S = 120.0
"""An hour without a later report is published this long after its end, so that late reports of devices are in it."""

GRACE_S = 15.0
"""A window waits so long for other streams after the first stream has reported past the window's end."""


# --- windows over a room ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """The state of a room's windows."""

    end_s: float
    """End of the running window, UTC seconds."""
    newest_s: Mapping[str, float] = field(default_factory=dict)
    """Time of each stream's newest report."""
    past_since_s: float | None = None
    """Time of receipt of the first report past the window's end; monotonic, as all times of receipt here."""


def first_end(time_s: float, window_s: float) -> float:
    """Return the end of the tumbling window that holds this moment."""
    return (math.floor(time_s / window_s) + 1) * window_s


def saw(room: Room, stream: str, time_s: float, *, received_s: float) -> Room:
    """Return the room's state after a report of one of its streams."""
    newest = {**room.newest_s, stream: max(time_s, room.newest_s.get(stream, time_s))}
    past = room.past_since_s
    if past is None and time_s >= room.end_s:
        past = received_s
    return replace(room, newest_s=newest, past_since_s=past)


def is_ahead(room: Room, window_s: float, *, now_s: float) -> bool:
    """Return whether the running window lies in the future (`now_s`: UTC seconds): the clock was set back since.

    No report would end it for so long, so the windows begin anew.
    """
    return room.end_s > now_s + window_s + FUTURE_MAX_S


def due(room: Room, streams: frozenset[str], *, now_s: float) -> bool:
    """Return whether the running window can be answered."""
    if room.past_since_s is None:
        return False
    all_reported = all(room.newest_s.get(stream, -math.inf) >= room.end_s for stream in streams)
    return all_reported or now_s - room.past_since_s >= GRACE_S


def advance(room: Room, window_s: float, *, first_later_s: float | None) -> Room:
    """Return the state after the window was answered: the next one runs.

    Windows without a report are skipped; `first_later_s` is the time of the first report past the answered window. If
    reports already reach past the next window, too, its grace began with that of the answered one.
    """
    end_s = first_end(first_later_s, window_s) if first_later_s is not None else room.end_s + window_s
    past = room.past_since_s if any(t >= end_s for t in room.newest_s.values()) else None
    return Room(end_s, room.newest_s, past)


# --- hours of a stream -----------------------------------------------------------------------------------------


class Hour(msgspec.Struct, frozen=True):
    """One stream's readings in one hour so far."""

    start_s: float
    unit: str
    count: int
    total: float
    low: float
    high: float
    published: int = msgspec.field(default=0, name="told")
    """The last published revision; 0 if none was. The name on the disk is that of older releases."""


def tally(hour: Hour | None, report: Report, time_s: float) -> Hour:
    """Count a report into its hour; with None, begin the hour."""
    if hour is None:
        return Hour(hour_of(time_s), report.unit, report.count, report.total, report.low, report.high)
    return msgspec.structs.replace(
        hour,
        count=hour.count + report.count,
        total=hour.total + report.total,
        low=min(hour.low, report.low),
        high=max(hour.high, report.high),
    )


def hour_is_over(start_s: float, newest_s: float, now_s: float) -> bool:
    """Return whether an hour can be published: by the stream's newest report, or by the clock and `HOUR_GRACE_S`."""
    end_s = start_s + HOUR_S
    return newest_s >= end_s or now_s >= end_s + HOUR_GRACE_S


def summary(hour: Hour, hour_text: str, task: Task, room: str | None) -> Summary:
    """Return the next revision of an hour, as it is published."""
    return Summary(
        hour=hour_text,
        task=task,
        unit=hour.unit,
        count=hour.count,
        total=hour.total,
        low=hour.low,
        high=hour.high,
        revision=hour.published + 1,
        room=room,
    )
