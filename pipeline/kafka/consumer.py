"""Reads topics as a member of a consumer group, and measures the progress of a group from outside.

The cloud reads the records that the router let through and commits those that it has answered. The gateway reads the
answers. The stream role uses `Progress` to check that its own group advances::

    consumer = Consumer(settings.kafka, [topics.RESULTS], group="tierwise-gateway", name="gateway")
    for fetched in consumer.poll():
        ...
    consumer.commit()

Memory is bounded: a consumer holds the records of one fetch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from pipeline import topics
from pipeline.kafka.admin import missing
from pipeline.kafka.connection import REQUEST_TIMEOUT_MS, Fenced, close_client, errors_mapped, opened
from pipeline.settings.settings import KafkaSettings

HEARTBEAT_MAX_MS: Final = 2_000
"""A member learns within this time that another member joined or left."""
POLL_INTERVAL_MS: Final = 300_000
"""A consumer that works longer than this on one batch loses its partitions to another."""
IDLE_MAX_S: Final = 30.0
"""A member that has no partition for this long joins anew: a join at the wrong moment leaves it idle for ever."""
FETCH_MAX_BYTES: Final = 8 << 20
FETCH_WAIT_MS: Final = 3_000
"""The broker answers a fetch without records after this time, well within the request's own limit."""


class Fetched(NamedTuple):
    """A record read from a partition."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Consumer:
    """Reads topics as a member of a group, from the earliest uncommitted record. For one thread."""

    def __init__(self, settings: KafkaSettings, names: Sequence[str], group: str, name: str) -> None:
        self._settings = settings
        self._topics = tuple(names)
        self._group = group
        self._name = name
        self._client: Any = None
        self._idle_since_s = 0.0

    def poll(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Fetched]:
        """Return the next records, in order by partition; an empty list if none arrived or the broker is away briefly.

        Raises
        ------
        Retry
            Kafka cannot be reached; call again.
        Stop
            The login is refused, or has no right to a topic or to the group.
        """
        with errors_mapped(self._settings):
            if self._client is None:
                self._client = self._joined()
                self._idle_since_s = time.monotonic()
            found = flat(self._client.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records))
        if self._client.assignment():
            self._idle_since_s = time.monotonic()
        elif time.monotonic() - self._idle_since_s > IDLE_MAX_S:
            self.close()
        return found

    def commit(self) -> bool:
        """Mark all records that `poll` returned as done for this group.

        Returns
        -------
        bool
            False if the group was rebalanced meanwhile: the uncommitted records are delivered again, to some member.
        """
        if self._client is None:
            return False
        try:
            with errors_mapped(self._settings):
                self._client.commit(timeout_ms=REQUEST_TIMEOUT_MS)
        except Fenced:
            return False
        return True

    def _joined(self) -> Any:
        client = opened(
            KafkaConsumer,
            self._settings,
            self._name,
            allow_auto_create_topics=False,
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=1_000 * self._settings.session_timeout_s,
            heartbeat_interval_ms=min(HEARTBEAT_MAX_MS, 1_000 * self._settings.session_timeout_s // 3),
            max_poll_interval_ms=POLL_INTERVAL_MS,
            fetch_max_bytes=FETCH_MAX_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        client.subscribe(self._topics)
        # This call also fetches the metadata: a leader that joins without them assigns no partition to any member.
        unseen = [name for name in self._topics if not client.partitions_for_topic(name)]
        if unseen:
            close_client(client)
            raise missing(self._settings, unseen)
        return client

    def lag(self) -> int:
        """Return how many records of this member's partitions wait, as of the last fetch."""
        if self._client is None:
            return 0
        ends = (
            (self._client.highwater(tp), self._client.position(tp, timeout_ms=0)) for tp in self._client.assignment()
        )
        return sum(max(0, end - position) for end, position in ends if end is not None and position is not None)

    def close(self, timeout_s: float = 2.0) -> None:
        """Leave the group."""
        client, self._client = self._client, None
        close_client(client, timeout_s)


class GroupPosition(NamedTuple):
    """The position of a group in a partition."""

    committed: int
    """The offset to read next; the first offset of the partition if the group committed none."""
    end: int


class Progress:
    """Measures a group from outside, without joining it: only committed offsets count. For one thread."""

    def __init__(self, settings: KafkaSettings, names: Sequence[str], group: str) -> None:
        self._settings = settings
        self._group = group
        self._topics = tuple(names)
        self._partitions = [TopicPartition(name, number) for name in names for number in range(topics.PARTITIONS)]
        self._client: Any = None

    def measure(self) -> dict[tuple[str, int], GroupPosition]:
        """Return the group's position in each partition.

        Raises
        ------
        Retry
            Kafka cannot be reached.
        Stop
            The login is refused, or may not look at the group.
        """
        with errors_mapped(self._settings):
            if self._client is None:
                self._client = opened(
                    KafkaConsumer, self._settings, "progress", group_id=self._group, enable_auto_commit=False
                )
                self._client.assign(self._partitions)
            if unseen := [name for name in self._topics if not self._client.partitions_for_topic(name)]:
                raise missing(self._settings, unseen)
            starts = self._client.beginning_offsets(self._partitions)
            ends = self._client.end_offsets(self._partitions)
            # `client.committed` would ask for each partition alone, sixty requests every few seconds.
            committed = self._client._coordinator.fetch_committed_offsets(self._partitions, REQUEST_TIMEOUT_MS)
            next_offsets = {partition: found.offset for partition, found in committed.items()}
            return {
                tuple(partition): GroupPosition(max(next_offsets.get(partition, 0), starts[partition]), ends[partition])
                for partition in self._partitions
            }

    def close(self) -> None:
        """Close the connection; the next `measure` opens a new one."""
        client, self._client = self._client, None
        close_client(client)


def flat(polled: Mapping[Any, Sequence[Any]]) -> list[Fetched]:
    """Return the records of a poll as one list, in order by partition."""
    return [
        Fetched(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )
        for records in polled.values()
        for record in records
    ]
