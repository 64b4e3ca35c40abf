"""Follows a compacted topic from its beginning: first everything that it holds, then every new record.

Each follower sees all records, since it joins no group. The gateway follows the topic of the releases in this way::

    follower = Follower(settings.kafka, topics.MODELS, "gateway")
    for fetched in follower.poll():      # a record without a value deletes its key
        ...
    if follower.caught_up: ...           # everything that the topic held at the start has been returned
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition

from pipeline.kafka.assigned import AssignedReader
from pipeline.settings.settings import KafkaSettings


class Follower(AssignedReader):
    """Reads one topic; it keeps the offsets in memory. For one thread."""

    def __init__(self, settings: KafkaSettings, topic: str, name: str) -> None:
        super().__init__(settings, [topic], name)
        self._ends: dict[Any, int] | None = None
        self._next: dict[Any, int] = {}
        """The offset to read next, by partition."""

    @property
    def caught_up(self) -> bool:
        """Return whether `poll` has returned everything that the topic held at the start."""
        ends = self._ends
        return ends is not None and all((self._next.get(tp) or 0) >= end for tp, end in ends.items())

    def _seek(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        ends = client.end_offsets(partitions)
        for partition in partitions:
            if (offset := self._next.get(partition)) is None:
                client.seek_to_beginning(partition)
            else:
                client.seek(partition, offset)
        if self._ends is None:
            self._ends = ends

    def _polled(self, client: Any) -> None:
        self._next = {tp: client.position(tp, timeout_ms=0) for tp in client.assignment()}
