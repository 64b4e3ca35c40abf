"""Reads topics for the command line: a compacted topic as a table, and the number of records in a topic.

These functions join no group and commit nothing, so they change nothing for the roles::

    counts = read_all(settings.kafka, topics.COUNTS)        # what `tierwise sightings list` shows
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pipeline.errors import Retry, Stop
from pipeline.kafka.admin import missing
from pipeline.kafka.connection import address, errors_mapped, opened
from pipeline.kafka.consumer import FETCH_MAX_BYTES, Fetched, flat
from pipeline.settings.settings import KafkaSettings


def read_all(settings: KafkaSettings, topic: str, timeout_s: float = 10.0) -> dict[bytes, bytes]:
    """Return the last value of each key of a compacted topic, without deleted keys.

    Raises
    ------
    Retry
        Kafka cannot be reached, or the topic was not read to its end within `timeout_s`.
    Stop
        The login is refused or has no right to the topic, or the topic does not exist.
    """
    table: dict[bytes, bytes] = {}
    deadline = time.monotonic() + timeout_s
    with errors_mapped(settings), contextlib.closing(_reader(settings)) as client:
        numbers = client.partitions_for_topic(topic)
        if not numbers:
            raise Stop(str(missing(settings, [topic])))
        partitions = [TopicPartition(topic, number) for number in numbers]
        client.assign(partitions)
        ends = client.end_offsets(partitions)
        client.seek_to_beginning()
        while any(client.position(partition) < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                raise Retry(f"Kafka at {address(settings)}: {topic} was not read to its end within {timeout_s:g} s")
            for fetched in flat(client.poll(timeout_ms=200)):
                if fetched.key is None:
                    continue
                if fetched.value is None:
                    table.pop(fetched.key, None)
                else:
                    table[fetched.key] = fetched.value
    return table


def read_tail(
    settings: KafkaSettings, topic: str, partition: int, count: int, timeout_s: float = 10.0
) -> list[Fetched]:
    """Return the last records of a partition, at most so many. Raises the errors of `read_all`."""
    found: list[Fetched] = []
    deadline = time.monotonic() + timeout_s
    with errors_mapped(settings), contextlib.closing(_reader(settings)) as client:
        place = TopicPartition(topic, partition)
        client.assign([place])
        start, end = client.beginning_offsets([place])[place], client.end_offsets([place])[place]
        client.seek(place, max(start, end - count))
        while client.position(place) < end:
            if time.monotonic() > deadline:
                raise Retry(f"Kafka at {address(settings)}: {topic} was not read to its end within {timeout_s:g} s")
            found += flat(client.poll(timeout_ms=200))
    return found


def record_counts(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """Return how many records each topic holds now. Raises the errors of `read_all`."""
    counts = dict.fromkeys(names, 0)
    with errors_mapped(settings), contextlib.closing(_reader(settings)) as client:
        for name in names:
            partitions = [TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()]
            starts, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
            counts[name] = sum(ends[partition] - starts[partition] for partition in partitions)
    return counts


def _reader(settings: KafkaSettings) -> Any:
    return opened(
        KafkaConsumer,
        settings,
        "reader",
        group_id=None,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        fetch_max_bytes=FETCH_MAX_BYTES,
    )
