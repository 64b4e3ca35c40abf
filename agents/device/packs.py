"""Split a pack of readings (SenML) into its streams, and those into slices, so that no stream waits for another.

The names in a pack name the streams of its device, by their last part. A pack with one name belongs to the stream of
its topic, unless two names stand in it::

    reading/env  [{"bn": "dev1:", "n": "temperature", "v": 21}, {"n": "Rel.Humidity", "v": 40}]
                 > device/temperature, device/rel-humidity

The parts are stored as rows of the inbox, in the transaction that commits the pack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pipeline import readings, topics
from pipeline.foreign import filters
from pipeline.readings import PackRecord, Reading
from pipeline.spool import Item, MessagePart
from pipeline.topics import Parsed

SLICE: Final = 100
"""Readings that are answered in one transaction, before another stream's turn."""

SLICE_BYTES: Final = 8192
"""The same for payloads whose readings were not counted."""


def streams_of(records: Sequence[PackRecord], topics_stream: str) -> list[str]:
    """Return the stream of each record. A record without a name is the topic's."""
    names = [record.name for record in records]
    distinct = dict.fromkeys(name for name in names if name is not None)
    if len(distinct) < 2:
        return [topics_stream] * len(records)
    streams = {name: filters.as_name(re.split(r"[/:]", name.rstrip("/:"))[-1]) for name in distinct}
    if len(set(streams.values())) < len(streams):  # two devices behind one: their names differ before the last part
        streams = {name: filters.as_name(name) for name in distinct}
    return [topics_stream if name is None else streams[name] for name in names]


def parts(pack: Parsed, fitted: Mapping[str, Sequence[Reading]]) -> tuple[MessagePart, ...]:
    """Return the rows of a pack: each stream's readings, in slices, the streams in turn."""
    queues = {
        topics.reading(pack.site, pack.device, name): [found[i : i + SLICE] for i in range(0, len(found), SLICE)]
        for name, found in fitted.items()
    }
    turns = range(max(map(len, queues.values())))
    return tuple(
        MessagePart(topic, readings.packed(of[turn]))
        for turn in turns
        for topic, of in queues.items()
        if turn < len(of)
    )


def slices(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield a stream's items in order, at most a slice at a time."""
    part: list[Item] = []
    size_bytes = 0
    for item in items:
        size_bytes += len(item.payload)
        if part and size_bytes > SLICE_BYTES:
            yield part
            part, size_bytes = [], len(item.payload)
        part.append(item)
    if part:
        yield part
