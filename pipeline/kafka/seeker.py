"""Reads topics from offsets that the reader keeps itself, beside what it made of the records; no group decides for it.

The trainer's way in: its fold changes sums and offsets in one transaction, so its offsets are the truth. They are committed to
a group all the same, so that people see with Kafka's own tools how far it is::

    seeker = Seeker(settings.kafka, [topics.LABELLED, topics.SUMS], topics.Group.TRAINER, "trainer", fold.next, fold.rewind)
    for fetched in seeker.poll():
        ...
    seeker.tell()

All partitions are its own: of two such readers each sees everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from pipeline.errors import Retry
from pipeline.kafka.connection import REQUEST_TIMEOUT_MS, address, errors_mapped, opened
from pipeline.kafka.consumer import FETCH_MAX_BYTES, Fetched, flat
from pipeline.settings.settings import KafkaSettings

log = structlog.get_logger(__name__)

Next = Callable[[str, int], int]
"""The offset to read from, of a topic's partition."""


class Seeker:
    """One reader's. One thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        names: Sequence[str],
        group: str,
        name: str,
        next_: Next,
        rewind: Callable[[str, int], None],
    ) -> None:
        self._settings = settings
        self._topics = tuple(names)
        self._group = group
        self._name = name
        self._next = next_
        self._rewind = rewind
        self._client: Any = None
        self._ends: dict[Any, int] = {}

    def poll(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Fetched]:
        """What came next; empty when nothing did. After an error it goes on where its owner says.

        Raises
        ------
        Retry
            Kafka cannot be reached, or lacks a topic; call again.
        Stop
            The login is refused, or has no right to a topic.
        """
        try:
            with errors_mapped(self._settings):
                if self._client is None:
                    self._client = self._opened()
                return flat(self._client.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records))
        except Retry:
            self.close()
            raise

    @property
    def caught_up(self) -> bool:
        """Whether its owner has taken all that was there when we began."""
        return bool(self._ends) and all(self._next(*tp) >= end for tp, end in self._ends.items())

    def tell(self) -> None:
        """Commit where we stand, for people to see; nothing depends on it."""
        if self._client is not None:
            with contextlib.suppress(Retry), errors_mapped(self._settings):
                self._client.commit(timeout_ms=REQUEST_TIMEOUT_MS)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):  # a dead broker finds out by itself
                client.close(autocommit=False, timeout_ms=0)

    def _opened(self) -> Any:
        client = opened(
            KafkaConsumer,
            self._settings,
            self._name,
            group_id=self._group,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",  # where retention or compaction took what would come next
            fetch_max_bytes=FETCH_MAX_BYTES,
        )
        try:
            partitions = []
            for name in self._topics:
                numbers = client.partitions_for_topic(name)
                if not numbers:
                    raise Retry(f"Kafka at {address(self._settings)} has no topic {name} that we may see")
                partitions += [TopicPartition(name, number) for number in sorted(numbers)]
            client.assign(partitions)
            starts, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
            for partition in partitions:
                wanted = self._next(*partition)
                if wanted > ends[partition]:
                    log.warning(
                        "a topic was made anew: read from its beginning", topic=partition.topic, offset=wanted
                    )
                    self._rewind(*partition)
                    wanted = 0
                client.seek(partition, max(wanted, starts[partition]))
        except BaseException:
            client.close(autocommit=False, timeout_ms=0)
            raise
        # Of a compacted partition nothing may be left at its end: what was never there need not be taken.
        self._ends = {tp: end for tp, end in ends.items() if end > max(starts[tp], self._next(*tp))}
        self._ends = self._ends or {partitions[0]: 0}
        return client
