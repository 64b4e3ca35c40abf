"""Rows of what a site keeps: sightings and answers of the edge's store, readings of its time series.

The stores reach back `edge.keep_days` (30 days without settings). A reading's point holds no level: it counts as
edge-private, unless its stream's readings are public and no rule raises any.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from agents.client import edge_reader
from agents.client.edge_reader import Kept
from agents.exports.rows import ExportRow
from pipeline import clock
from pipeline.errors import Stop
from pipeline.messages import Kind, Privacy, Result, SightingReport
from pipeline.series.points import Point
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are wanted. Empty text: all. Names may be patterns, with ``*`` and ``?``."""

    from_s: float = float("-inf")
    until_s: float = float("inf")
    site: str = ""
    device: str = ""
    label: str = ""
    """A label anywhere on the answer's path."""

    def takes(self, row: ExportRow, time_s: float) -> bool:
        """Return whether a row of this time is wanted."""
        return (
            self.from_s <= time_s <= self.until_s
            and (not self.site or fnmatchcase(row.site, self.site))
            and (not self.device or fnmatchcase(row.device, self.device))
            and (not self.label or any(fnmatchcase(each, self.label) for each in (row.label, *row.label_path)))
        )


def sightings(settings: Settings, wanted: RowFilter) -> Iterator[ExportRow]:
    """Yield the consensus of each sighting, in the order of their first frames' arrival."""
    for report in _of_edge(settings, SightingReport):
        row = ExportRow(
            event=report.sighting,
            time=_local(report.time, settings),
            until=_local(report.until, settings),
            sequence=report.sighting,
            frames=report.frames,
            person=report.path[:1] == ("person",),
            **_answer(report),
        )
        if wanted.takes(row, clock.seconds(report.time)):
            yield row


def results(settings: Settings, wanted: RowFilter) -> Iterator[ExportRow]:
    """Yield the newest answer about each event."""
    for result in _of_edge(settings, Result):
        row = ExportRow(
            event=result.event,
            time=_local(result.time, settings),
            time_source=result.time_source,
            sequence=result.sighting or "",
            tier=result.tier.value,
            person=result.path[:1] == ("person",) or "person" in result.rule,
            value=result.value,
            unit=result.unit or "",
            flags=result.flags,
            **_answer(result),
        )
        if wanted.takes(row, clock.seconds(result.time)):
            yield row


def readings(settings: Settings, wanted: RowFilter) -> Iterator[ExportRow]:
    """Yield the readings that the site may see. Raises `Stop` where InfluxDB keeps them."""
    if settings.influx.url:
        raise Stop(f"this site's readings are in InfluxDB at {settings.influx.url}: export them there (`influx query`)")
    store = LocalStore(settings.data_dir / "edge" / "series.db", settings.edge.keep_days)
    levels: dict[str, Privacy] = {}
    for point in store.stream("reading", wanted.from_s, wanted.until_s):
        source = "/".join(point.tags[name] for name in ("site", "device", "stream"))
        if source not in levels:
            levels[source] = reading_level(settings, source)
        row = _reading(point, levels[source], settings)
        if wanted.takes(row, point.time_s):
            yield row


def reading_level(settings: Settings, source: str) -> Privacy:
    """Return the level that all readings of a stream at its site may be taken for."""
    stream = settings.stream(source)
    raised = any(Kind.READING in rule.raise_ and rule.names_stream(source) for rule in settings.rules)
    public = stream is not None and stream.reading is Privacy.PUBLIC and not raised
    return Privacy.PUBLIC if public else Privacy.EDGE_PRIVATE


def _reading(point: Point, level: Privacy, settings: Settings) -> ExportRow:
    value = point.fields.get("value")
    return ExportRow(
        time=dt.datetime.fromtimestamp(point.time_s, settings.zone).isoformat(timespec="milliseconds"),
        site=point.tags["site"],
        device=point.tags["device"],
        stream=point.tags["stream"],
        value=float(value) if isinstance(value, int | float) else None,
        unit=point.tags.get("unit", ""),
        privacy=level,
    )


def _of_edge(settings: Settings, kind: type[Kept]) -> Iterator[Kept]:
    with edge_reader.opened(settings.data_dir) as reader:
        if reader is None:
            raise Stop(
                f"no edge has run on this machine: {settings.data_dir / 'edge'} holds no store; check --settings"
            )
        yield from reader.each(kind)


def _answer(answer: Result | SightingReport) -> dict[str, Any]:
    return {
        "site": answer.site,
        "device": answer.device,
        "stream": answer.stream,
        "label": answer.label,
        "label_path": answer.path,
        "rank": answer.rank.value,
        "probability": answer.probability,
        "privacy": answer.privacy,
        "model": answer.model,
        "rule": answer.rule,
    }


def _local(time: str, settings: Settings) -> str:
    return dt.datetime.fromtimestamp(clock.seconds(time), settings.zone).isoformat(timespec="milliseconds")
