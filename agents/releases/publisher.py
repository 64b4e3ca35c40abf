"""The trainer's way out for releases: what the repository says, onto Kafka's `tierwise.models`.

::

    Repository --published()--> what Kafka lacks: files, then metadata, the timestamp last
                                what it has too much: taken back (a record without a value)

It compares with what is in Kafka, so that a kill in between leaves nothing to repair: call it again::

    feed = ReleaseFeed(repository, settings.kafka, producer)
    feed.keep_up()       # at the start, after each change, and every minute: it also signs anew what is about to expire
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
"""Records delivered together: of half a MiB at most."""

WARN_DAYS: Final = 60
"""A root whose keys are in a drawer is told of from then on."""


class ReleaseFeed:
    """One trainer's. It compares with all of Kafka after a start, and after that only when the repository changed."""

    def __init__(self, repository: Repository, kafka: KafkaSettings, producer: Producer) -> None:
        self._repository = repository
        self._kafka = kafka
        self._producer = producer
        self._sent = b""
        """The timestamp of what Kafka is known to have."""
        self._warned = False

    def keep_up(self) -> int:
        """Sign anew what is past half its life, and send what changed, by us or by another process. Raises as `send`."""
        if renewed := self._repository.renew():
            log.info("metadata of releases were signed anew", roles=renewed)
        left_days = self._repository.root_left_s / DAY_S
        if left_days < WARN_DAYS and not self._warned:
            log.warning(
                "the root of releases ends soon: bring one of its keys back, and it is signed anew",
                days=round(left_days),
            )
        self._warned = left_days < WARN_DAYS
        return self.send()

    def send(self) -> int:
        """Bring Kafka up to date; how many records that took.

        Raises
        ------
        Retry
            Kafka cannot be reached; what arrived is harmless without the rest: call again.
        Rejected
            Kafka takes no record of this size: see its ``message.max.bytes``.
        Stop
            The login is refused or may not write there; the repository cannot be read.
        """
        metadata, files = self._repository.published()
        if metadata["timestamp.json"] == self._sent:
            return 0
        there = read_all(self._kafka, topics.MODELS)
        changes = list(missing(metadata, files, {key.decode(): value for key, value in there.items()}))
        for start in range(0, len(changes), AT_ONCE):
            batch = changes[start : start + AT_ONCE]
            refused = self._producer.deliver([gate.clear_release(key, value) for key, value in batch])
            for record in refused:
                raise Rejected(record.reason, f"{batch[record.index][0]}: {record.message}")
        self._sent = metadata["timestamp.json"]
        if changes:
            log.info("releases were sent", records=len(changes))
        return len(changes)


def missing(
    metadata: Mapping[str, bytes], files: Mapping[str, bytes], there: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes | None]]:
    """What Kafka lacks, in an order in which what leads to something comes after it; then what it has too much."""
    wanted = {part.key: value for data in files.values() for part, value in parts(data)}
    wanted.update(metadata)
    yield from ((key, value) for key, value in wanted.items() if there.get(key) != value)
    yield from ((key, None) for key in there if key not in wanted)
