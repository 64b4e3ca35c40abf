"""Time, and one that tests turn by hand.

Decisions take plain numbers; what drives them holds a `Clock`. Wall-clock times are UTC seconds since the epoch
and travel as RFC 3339 text with a `Z`::

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250Z'
    >>> seconds("1970-01-01T00:00:00.250Z")
    0.25
"""

from __future__ import annotations

import datetime as dt
import math
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Wall-clock time, seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds from some start, never stepping back: for deadlines within one process."""


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class HandClock:
    """Stands still until a test turns it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def turn(self, seconds: float) -> None:
        """Let this much time pass."""
        self._now += seconds


def rfc3339(epoch_s: float) -> str:
    """UTC text with milliseconds."""
    moment = dt.datetime.fromtimestamp(round(epoch_s * 1000) / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text; without an offset it is taken as UTC.

    Raises
    ------
    ValueError
        It is no RFC 3339 date and time.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


HOUR_S = 3600.0


def hour_of(time_s: float) -> float:
    """Start of the hour (UTC seconds) that this moment lies in."""
    return math.floor(time_s / HOUR_S) * HOUR_S
