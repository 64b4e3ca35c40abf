"""The points of a time series, and the interface of their stores.

Measurement, tags and time name a `Point`. Times of events have milliseconds, and many events share one: the nanoseconds
below come from the id of the event or sighting. So two events are two points, and an event that is written again is
the same point. The roles make points from readings, hours, answers and sightings, and the
writer (`writer.py`) brings them to a `PointStore`: InfluxDB (`influx.py`) or SQLite (`sqlite.py`)::

    >>> reading_point("home/room1/co2", 640.0, "ppm", 1.8e9).tags
    {'site': 'home', 'device': 'room1', 'stream': 'co2', 'unit': 'ppm'}
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from pipeline import clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import Result, SightingReport, Summary
from pipeline.records import HourlySummary

Value = float | int | str | bool

NS_PER_MS: Final = 1_000_000


class Point(NamedTuple):
    """Fields at a time. A number with a possible fraction must always be a float: a store fixes a field's type."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, Value]
    time_s: float
    """UTC seconds; stores keep milliseconds of it."""
    below_ms: int = 0
    """Nanoseconds within the millisecond, see `digits`."""

    @property
    def time_ns(self) -> int:
        """The time that names the point: UTC nanoseconds."""
        return round(self.time_s * 1000) * NS_PER_MS + self.below_ms


def digits(name: str) -> int:
    """Return six digits of an event's or sighting's id, as nanoseconds within a millisecond; 0 if there is no id."""
    return zlib.crc32(name.encode()) % NS_PER_MS


class PartlyStored(Rejected):
    """The store took all points but these, and it will never take them."""

    def __init__(self, message: str, refused: int) -> None:
        super().__init__("influx-refused", message)
        self.refused = refused


class ServerFault(Retry):
    """The store answered with an error of its own. It may be ill, or one of the points may be the cause."""


class PointStore(Protocol):
    """Stores points. For one thread."""

    def write(self, points: Sequence[Point]) -> None:
        """Store all of these points.

        Raises
        ------
        Retry
            The store is away or busy; `ServerFault` if it answered, and failed.
        Rejected
            The store will never take at least one of them; `PartlyStored` if it took all others.
        Stop
            A person has to change something.
        """

    def close(self) -> None:
        """Close the store."""


def reading_point(source: str, value: float, unit: str, time_s: float, event: str = "") -> Point:
    """Return the point of a reading; `event` is its id."""
    return Point("reading", {**_place(source), "unit": unit}, {"value": float(value)}, time_s, digits(event))


def summary_point(source: str, summary: Summary | HourlySummary) -> Point:
    """Return the point of an hour of readings."""
    tags = {**_place(source), "task": summary.task.value, "unit": summary.unit}
    fields: dict[str, Value] = {
        "mean": float(summary.mean),
        "low": float(summary.low),
        "high": float(summary.high),
        "total": float(summary.total),
        "count": summary.count,
        "revision": summary.revision,
    }
    return Point("hour", tags, fields, clock.seconds(summary.hour))


def result_point(result: Result) -> Point:
    """Return the point of a tier's answer. Label and rank are tags, since dashboards group by them."""
    tags = {
        **_place(result.source),
        "task": result.task.value,
        "tier": result.tier.value,
        "rank": result.rank.value,
        "label": result.label,
        "privacy": result.privacy.value,
    }
    fields: dict[str, Value] = {
        "event": result.event,
        "probability": float(result.probability),
        "latency_ms": float(result.latency_ms),
        "revision": result.revision,
        "rule": result.rule,
        "model": result.model,
    }
    if result.value is not None:
        fields["value"] = float(result.value)
    return Point("result", tags, fields, clock.seconds(result.time), digits(result.event))


def sighting_point(report: SightingReport) -> Point:
    """Return the point of a sighting's consensus. Label and rank are fields: a better one replaces the earlier."""
    fields: dict[str, Value] = {
        "sighting": report.sighting,
        "rank": report.rank.value,
        "label": report.label,
        "probability": float(report.probability),
        "frames": report.frames,
        "agree": report.agree,
        "revision": report.revision,
    }
    return Point("sighting", _place(report.source), fields, clock.seconds(report.time), digits(report.sighting))


def _place(source: str) -> dict[str, str]:
    site, device, stream = source.split("/")
    return {"site": site, "device": device, "stream": stream}
