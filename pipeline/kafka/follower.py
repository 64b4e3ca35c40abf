"""Follows a compacted topic from its beginning, in no group: each follower sees all of it, and then what comes.

::

    follower = Follower(settings.kafka, topics.MODELS, "gateway")
    for fetched in follower.poll():      # value None: that key is gone
        ...
    if follower.caught_up: ...           # all that was there at the start was seen

After an error it goes on where it was.
"""

from __future__ import annotations

import contextlib
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from pipeline.errors import Retry
from pipeline.kafka.connection import address, errors_mapped, opened
from pipeline.kafka.consumer import FETCH_MAX_BYTES, Fetched, flat
from pipeline.settings.settings import KafkaSettings


class Follower:
    """One topic's. One thread."""

    def __init__(self, settings: KafkaSettings, topic: str, name: str) -> None:
        self._settings = settings
        self._topic = topic
        self._name = name
        self._client: Any = None
        self._ends: dict[Any, int] | None = None
        self._next: dict[Any, int] = {}
        """By partition, the offset to go on at."""

    def poll(self, timeout_s: float = 1.0) -> list[Fetched]:
        """What came next; empty when nothing did.

        Raises
        ------
        Retry
            Kafka cannot be reached, or has no such topic yet; call again.
        Stop
            The login is refused, or has no right to the topic.
        """
        try:
            with errors_mapped(self._settings):
                if self._client is None:
                    self._client = self._assigned()
                found = flat(self._client.poll(timeout_ms=round(timeout_s * 1000)))
                self._next = {tp: self._client.position(tp, timeout_ms=0) for tp in self._client.assignment()}
        except Retry:
            self.close()
            raise
        return found

    @property
    def caught_up(self) -> bool:
        """Whether all that was there when we began was returned."""
        ends = self._ends
        return ends is not None and all((self._next.get(tp) or 0) >= end for tp, end in ends.items())

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):  # a dead broker finds out by itself
                client.close(autocommit=False, timeout_ms=0)

    def _assigned(self) -> Any:
        client = opened(
            KafkaConsumer,
            self._settings,
            self._name,
            group_id=None,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",  # where compaction took what would come next
            fetch_max_bytes=FETCH_MAX_BYTES,
        )
        try:
            numbers = client.partitions_for_topic(self._topic)
            if not numbers:
                raise Retry(f"Kafka at {address(self._settings)} has no topic {self._topic} that we may see")
            partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
            client.assign(partitions)
            ends = client.end_offsets(partitions)
            for partition in partitions:
                if (offset := self._next.get(partition)) is None:
                    client.seek_to_beginning(partition)
                else:
                    client.seek(partition, offset)
        except BaseException:
            client.close(autocommit=False, timeout_ms=0)
            raise
        if self._ends is None:
            self._ends = ends
        return client
