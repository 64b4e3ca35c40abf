"""Clocks: the system's, and one that tests set by hand; and times as text.

Waiting uses the monotonic clock, since the wall clock may be set back at any time. Only a due time that must outlive a
restart is wall-clock time; one that is farther ahead than its wait and `SET_BACK_S` is due.

Pure decisions take times as plain numbers; the code around them holds a `Clock`. Wall-clock times are UTC seconds since
the epoch, and RFC 3339 text with a `Z` in messages::

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250Z'
    >>> seconds("1970-01-01T00:00:00.250Z")
    0.25
"""

from __future__ import annotations

import datetime as dt
import math
import time
from typing import Final, Protocol

SET_BACK_S: Final = 60.0
"""A stored time that is farther in the future than this was written before the clock was set back."""


EARLY_S: Final = 86_400.0
"""What the cloud receives from more than a day ahead comes from a broken clock."""


class Clock(Protocol):
    """A source of time."""

    def now(self) -> float:
        """Return the wall-clock time, UTC seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never step back: for deadlines within one process."""


class SystemClock:
    """The system's clock."""

    def now(self) -> float:
        """Return the wall-clock time, UTC seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never step back."""
        return time.monotonic()


class HandClock:
    """A clock that stands still until a test turns it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = self._monotonic = start

    def now(self) -> float:
        """Return the time that the test has set."""
        return self._now

    def monotonic(self) -> float:
        """Return the time that passed."""
        return self._monotonic

    def turn(self, seconds: float) -> None:
        """Let this much time pass."""
        self._now += seconds
        self._monotonic += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock ahead or back by this much, while no time passes."""
        self._now += seconds


def rfc3339(epoch_s: float) -> str:
    """Return a time as RFC 3339 text in UTC, with milliseconds."""
    moment = dt.datetime.fromtimestamp(round(epoch_s * 1000) / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 text; a text without an offset counts as UTC.

    Raises
    ------
    ValueError
        The text is not an RFC 3339 date and time.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


HOUR_S = 3600.0


def hour_of(time_s: float) -> float:
    """Return the start of the hour (UTC seconds) that contains this time."""
    return math.floor(time_s / HOUR_S) * HOUR_S
