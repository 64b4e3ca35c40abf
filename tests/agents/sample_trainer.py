"""A trainer's releases for the real system: a repository on its disk, told over Kafka."""

from __future__ import annotations

from contextlib import closing

from stack import Stack

from agents.release_feed import ReleaseFeed
from models.head_release import HeadRelease
from models.release import Current
from models.release_repository import Repository
from pipeline.clock import SystemClock
from pipeline.kafka import Producer


class SampleTrainer:
    """Signs, and sends what it signed. Made before the roles start, so that they find a root to trust."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        data = stack.data
        self.repository = Repository.open(data / "releases", data / "keys" / "releases", SystemClock())

    def release(self, release: HeadRelease, current: Current) -> None:
        self.repository.release(release.version, release.files(), current)
        self._send()

    def serve(self, current: Current) -> None:
        self.repository.serve(current)
        self._send()

    def _send(self) -> None:
        kafka = self._stack.settings.kafka
        with closing(_Closing(Producer(kafka, "test-trainer"))) as producer:
            ReleaseFeed(self.repository, kafka, producer.its).send()


class _Closing:
    def __init__(self, its: Producer) -> None:
        self.its = its

    def close(self) -> None:
        self.its.close(5)
