"""Publish the trainer's repository of releases to Kafka's `tierwise.models`.

::

    Repository --published()--> records that Kafka lacks: files, then metadata, the timestamp last
                                records that are obsolete: removed (a record without a value)

The publisher compares the repository with Kafka. So a kill leaves nothing to repair; the next call completes the rest::

    publisher = ReleasePublisher(repository, settings.kafka, producer)
    publisher.keep_up()  # at the start, after each change, and every hour: it also renews signatures in time
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import structlog

from models.releases.repository import DAY_S, Repository
from pipeline import topics
from pipeline.errors import Rejected
from pipeline.files.release_names import parts
from pipeline.kafka import Producer, read_all
from pipeline.privacy import gate
from pipeline.settings.settings import KafkaSettings

log = structlog.get_logger("trainer")

AT_ONCE: Final = 8
"""Records per delivery. Each has at most half a MiB."""

WARN_DAYS: Final = 60
"""A root whose keys are stored offline cannot be renewed; the log warns this long before it expires."""


class ReleasePublisher:
    """The publisher of one trainer. It compares at the start, and later only if the repository changed."""

    def __init__(self, repository: Repository, kafka: KafkaSettings, producer: Producer) -> None:
        self._repository = repository
        self._kafka = kafka
        self._producer = producer
        self._sent = b""
        """The ``timestamp.json`` of the version that Kafka holds."""
        self._warned = False

    def keep_up(self) -> int:
        """Renew signatures past half of their life, and send all changes of any process. Raises as `send`."""
        if renewed := self._repository.renew():
            log.info("signatures of release metadata were renewed", roles=renewed)
        left_days = self._repository.root_left_s / DAY_S
        if left_days < WARN_DAYS and not self._warned:
            log.warning(
                "the root of releases expires soon: bring one of its keys back, so that the trainer can renew it",
                days=round(left_days),
            )
        self._warned = left_days < WARN_DAYS
        return self.send()

    def send(self) -> int:
        """Bring Kafka up to date. Return the number of sent records.

        Raises
        ------
        Retry
            Kafka cannot be reached. An incomplete set of records does no harm: call again.
        Rejected
            A record is too large for Kafka: see its ``message.max.bytes``.
        Stop
            Kafka refuses the login or write access, or the repository cannot be read.
        """
        metadata, files = self._repository.published()
        if metadata["timestamp.json"] == self._sent:
            return 0
        there = read_all(self._kafka, topics.MODELS)
        changes = list(record_changes(metadata, files, {key.decode(): value for key, value in there.items()}))
        for start in range(0, len(changes), AT_ONCE):
            batch = changes[start : start + AT_ONCE]
            refused = self._producer.deliver([gate.clear_release(key, value) for key, value in batch])
            for record in refused:
                raise Rejected(record.reason, f"{batch[record.index][0]}: {record.message}")
        self._sent = metadata["timestamp.json"]
        if changes:
            log.info("releases were sent", records=len(changes))
        return len(changes)


def record_changes(
    metadata: Mapping[str, bytes], files: Mapping[str, bytes], there: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the records that Kafka lacks, each after the records that it refers to, then removals of obsolete ones."""
    wanted = {part.key: value for data in files.values() for part, value in parts(data)}
    wanted.update(metadata)
    yield from ((key, value) for key, value in wanted.items() if there.get(key) != value)
    yield from ((key, None) for key in there if key not in wanted)
