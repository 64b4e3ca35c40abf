"""When the edge tells a room's window and a stream's hour: pure decisions over what was reported so far.

A window over a room's streams is answered (vacant, occupied) when every stream of the room reported past its end, or
`GRACE_S` after the first report past its end was received: streams report by exception, so most are silent most of the
time. An hour of one stream is told when a report of a later hour came, or `HOUR_GRACE_S` after its end::

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

HOUR_GRACE_S = 120.0
"""An hour that nothing came after is told this long after its end: devices that lost their edge for a minute are in."""

GRACE_S = 15.0
"""How long a window that one stream reported past waits for the others."""


# --- windows over a room ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """Where a room's windows stand."""

    end_s: float
    """End of the running window, UTC seconds."""
    newest_s: Mapping[str, float] = field(default_factory=dict)
    """Time of each stream's newest report."""
    past_since_s: float | None = None
    """When the first report past the window's end was received."""


def first_end(time_s: float, window_s: float) -> float:
    """End of the tumbling window that holds this moment."""
    return (math.floor(time_s / window_s) + 1) * window_s


def saw(room: Room, stream: str, time_s: float, *, received_s: float) -> Room:
    """One of the room's streams reported."""
    newest = {**room.newest_s, stream: max(time_s, room.newest_s.get(stream, time_s))}
    past = room.past_since_s
    if past is None and time_s >= room.end_s:
        past = received_s
    return replace(room, newest_s=newest, past_since_s=past)


def due(room: Room, streams: frozenset[str], *, now_s: float) -> bool:
    """Whether the running window can be answered."""
    if room.past_since_s is None:
        return False
    everyone = all(room.newest_s.get(stream, -math.inf) >= room.end_s for stream in streams)
    return everyone or now_s - room.past_since_s >= GRACE_S


def advance(room: Room, window_s: float, *, first_later_s: float | None) -> Room:
    """The window was told: the next one runs. Windows without any report in them are skipped; `first_later_s` is the time
    of the first report past the told window's end. What was waited for once is not waited for again: where reports
    already reach past the next window, too, its grace began when that of the told one did.
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
    told: int = 0
    """Revision of the last telling; 0: not told yet."""


def tally(hour: Hour | None, report: Report, time_s: float) -> Hour:
    """Count a report into its hour (None: the hour's first)."""
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
    """Whether to tell an hour: the stream went on to a later one, or the clock did by `HOUR_GRACE_S`."""
    end_s = start_s + HOUR_S
    return newest_s >= end_s or now_s >= end_s + HOUR_GRACE_S


def summary(hour: Hour, hour_text: str, task: Task, room: str | None) -> Summary:
    """What is told of an hour: its next revision."""
    return Summary(
        hour=hour_text,
        task=task,
        unit=hour.unit,
        count=hour.count,
        total=hour.total,
        low=hour.low,
        high=hour.high,
        revision=hour.told + 1,
        room=room,
    )
