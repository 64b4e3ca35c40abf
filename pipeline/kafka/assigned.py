"""A reader of whole topics that belongs to no group's assignment: every such reader sees all partitions.

`Follower` and `Seeker` are the two readers built on it; they differ in where each partition begins. Both take the
partitions by name (Kafka's `assign`), so no other reader takes one away::

    class Latest(AssignedReader):
        def _seek(self, client, partitions):
            client.seek_to_end(*partitions)
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pipeline.errors import Retry
from pipeline.kafka.admin import missing
from pipeline.kafka.connection import close_client, errors_mapped, opened
from pipeline.kafka.consumer import FETCH_MAX_BYTES, FETCH_WAIT_MS, Fetched, flat
from pipeline.settings.settings import KafkaSettings


class AssignedReader(abc.ABC):
    """Reads all partitions of its topics. For one thread."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], name: str, group: str | None = None) -> None:
        """Note what to read; `poll` connects. `group` is where offsets are committed, for people to see."""
        self._settings = settings
        self._topics = tuple(topics)
        self._name = name
        self._group = group
        self._client: Any = None

    def poll(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Fetched]:
        """Return the next records; an empty list if none arrived. After an error, reading continues where it was.

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
                    self._client = self._assigned()
                records = flat(self._client.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records))
                self._polled(self._client)
        except Retry:
            self.close()
            raise
        return records

    def close(self) -> None:
        """Close the connection; the next `poll` opens a new one."""
        client, self._client = self._client, None
        close_client(client)

    @abc.abstractmethod
    def _seek(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        """Set the offset at which each partition is read next."""

    def _polled(self, client: Any) -> None:  # noqa: B027 - a follower has nothing to note
        """Note the positions after a poll."""

    def _assigned(self) -> Any:
        client = opened(
            KafkaConsumer,
            self._settings,
            self._name,
            group_id=self._group,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",  # where retention or compaction removed the next record
            fetch_max_bytes=FETCH_MAX_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            partitions: list[TopicPartition] = []
            for topic in self._topics:
                numbers = client.partitions_for_topic(topic)
                if not numbers:
                    raise missing(self._settings, [topic])
                partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
            client.assign(partitions)
            self._seek(client, partitions)
        except BaseException:
            close_client(client)
            raise
        return client
