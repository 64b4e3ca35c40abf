"""Reads topics from offsets that the reader stores itself, together with the results it made from the records.

The trainer reads in this way: its fold changes sums and offsets in one transaction, so the fold's offsets decide. They
are also committed to a group, so that people can watch the progress with Kafka's own tools::

    names = [topics.LABELLED, topics.SUMS]
    seeker = Seeker(settings.kafka, names, topics.Group.TRAINER, "trainer", fold.next, fold.rewind)
    for fetched in seeker.poll():
        ...
    seeker.commit()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from kafka import TopicPartition

from pipeline.errors import Retry
from pipeline.kafka.assigned import AssignedReader
from pipeline.kafka.connection import REQUEST_TIMEOUT_MS, errors_mapped
from pipeline.settings.settings import KafkaSettings

log = structlog.get_logger(__name__)

NextOffset = Callable[[str, int], int]
"""Returns the offset to read next in a topic's partition."""


class Seeker(AssignedReader):
    """Reads from the offsets that `next_offset` returns. For one thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        names: Sequence[str],
        group: str,
        name: str,
        next_offset: NextOffset,
        rewind: Callable[[str, int], None],
    ) -> None:
        """`rewind` is called for a partition whose topic was created anew and is read from its beginning."""
        super().__init__(settings, names, name, group)
        self._next_offset = next_offset
        self._rewind = rewind
        self._ends: dict[Any, int] = {}

    @property
    def caught_up(self) -> bool:
        """Return whether the owner has taken everything that the topics held at the start."""
        return bool(self._ends) and all(self._next_offset(*tp) >= end for tp, end in self._ends.items())

    def commit(self) -> None:
        """Commit the current offsets for people to see; nothing depends on them."""
        if self._client is not None:
            with contextlib.suppress(Retry), errors_mapped(self._settings):
                self._client.commit(timeout_ms=REQUEST_TIMEOUT_MS)

    def _seek(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        starts, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
        for partition in partitions:
            wanted = self._next_offset(*partition)
            if wanted > ends[partition]:
                log.warning(
                    "the topic was created anew; reading it from its beginning",
                    topic=partition.topic,
                    offset=wanted,
                )
                self._rewind(*partition)
                wanted = 0
            client.seek(partition, max(wanted, starts[partition]))
        # A compacted partition may hold no record just before its end: the reader need not reach such an end.
        self._ends = {tp: end for tp, end in ends.items() if end > max(starts[tp], self._next_offset(*tp))}
        self._ends = self._ends or {partitions[0]: 0}
