"""Releases in the cloud: what Kafka has of them, verified as anywhere else.

::

    following, source = cloud_source(settings, clock)
    following.start()
    updates = Updates(source=source, ...)
"""

from __future__ import annotations

from collections.abc import Collection

from agents.release_folder import Following
from agents.release_source import VerifiedSource
from models.release_client import Trust
from pipeline.blobs import File
from pipeline.clock import Clock
from pipeline.errors import Retry
from pipeline.settings import Settings


def cloud_source(settings: Settings, clock: Clock) -> tuple[Following, VerifiedSource]:
    """What the cloud's updates ask, and what keeps it up to date: start and stop that with the role."""
    folder = settings.data_dir / "cloud" / "releases"

    def fetch(files: Collection[File]) -> None:
        raise Retry(f"{len(files)} files of a release have not come over Kafka yet: {following.state}")

    def looked(came: bool) -> None:
        if came:
            source.arrived.set()

    following = Following(settings.kafka, folder / "files", "cloud-releases", looked)
    trust = Trust(folder, lambda: settings.releases_root, following.mirror.read, clock)
    source = VerifiedSource(trust, following.mirror.blobs, fetch)
    return following, source
