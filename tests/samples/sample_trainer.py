"""A trainer's releases for the real system: a repository on its disk, published over Kafka.

`python sample_trainer.py SETTINGS VERSION CANARY_S` does it in a process of its own, which can be killed; it prints
`ready` before it begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agents.releases.publisher import ReleasePublisher
from models.heads.release import HeadRelease
from models.releases.repository import Repository
from models.releases.targets import Current
from pipeline.clock import SystemClock
from pipeline.kafka import Producer
from pipeline.settings.settings import Settings


class SampleTrainer:
    """Sign releases and publish them. Make it before the roles start, so that they find a root to trust."""

    def __init__(self, settings: Settings) -> None:
        data = settings.data_dir
        self._kafka = settings.kafka
        self.repository = Repository.open(data / "releases", data / "keys" / "releases", SystemClock())

    def release(self, release: HeadRelease, current: Current) -> None:
        self.repository.release(release.version, release.files(), current)
        self.send()

    def serve(self, current: Current) -> None:
        self.repository.serve(current)
        self.send()

    def send(self) -> None:
        producer = Producer(self._kafka, "test-trainer")
        try:
            ReleasePublisher(self.repository, self._kafka, producer).send()
        finally:
            producer.close(5)


def main(settings: str, version: str, canary_s: str) -> None:
    from sample_release import sample_release

    number = int(version)
    release = sample_release(number, events=30 + number)
    target = Current(version=number, canary_share=1.0, canary_s=float(canary_s), why=f"release {number}", by="trainer")
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the test reads only the first line
    SampleTrainer(Settings.load(Path(settings))).release(release, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
