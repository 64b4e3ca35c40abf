"""The gateway's part in releases: it retains their signed metadata on MQTT, and hands out their files in chunks.

::

    Kafka tierwise.models --> Mirror --> MQTT release/metadata/{file}     retained, at each connect and change
    MQTT release/want/{site} (shared) --> Mirror --> MQTT release/chunk/{site}

It believes nothing and signs nothing: edges verify. Several gateways share the requests, and retain the same metadata.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import structlog

from agents.releases.mirror import Following
from pipeline import messages, topics
from pipeline.errors import Rejected, Retry
from pipeline.files.chunk_requests import CHUNK_BYTES
from pipeline.files.release_names import metadata_file
from pipeline.messages import Chunk, ChunkWanted, Tier
from pipeline.mqtt import Connection, Message
from pipeline.privacy import gate
from pipeline.settings.settings import KafkaSettings

log = structlog.get_logger("gateway")

WAIT_S: Final = 5.0
"""How long to wait for room to publish before the rest is left for the next look."""


class ReleaseServer:
    """One gateway's."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._following = Following(kafka, folder, "gateway-releases", self._retain)
        self._connection: Connection | None = None
        self._connects = 0
        self._told: dict[str, bytes] = {}
        """What this connection was given to retain."""
        self._seen: set[str] = set()
        """What the broker retains, whoever gave it."""
        self._lock = threading.Lock()
        """Of what was seen: the connection's thread tells it."""

    def start(self, connection: Connection) -> None:
        """Follow Kafka, and publish over this connection whenever there is one."""
        self._connection = connection
        self._following.start()

    def stop(self, timeout_s: float) -> None:
        self._following.stop(timeout_s)

    @property
    def state(self) -> str:
        """For `/health`."""
        return self._following.state

    # --- metadata ------------------------------------------------------------------------------------------------

    def saw(self, name: str, data: bytes) -> None:
        """The broker retains this, by us or by another gateway, now or before."""
        with self._lock:
            (self._seen.add if data else self._seen.discard)(name)

    def _retain(self, _came: bool) -> None:
        """Publish what the broker was not given yet, and take back what newer metadata replaced."""
        connection = self._connection
        if connection is None or not connection.connected:
            return
        if connection.connects != self._connects:
            self._connects, self._told = connection.connects, {}
        offered = self._following.mirror.offered()
        try:
            for name, data in offered.items():
                if self._told.get(name) != data:
                    self._publish(connection, name, data)
                    self._told[name] = data
            with self._lock:
                retained = self._seen | self._told.keys()
            for name in stale(retained, offered):
                self._publish(connection, name, b"")
                self._told.pop(name, None)
                self.saw(name, b"")
        except Retry as error:
            log.info("metadata of releases wait to be retained", error=str(error))

    def _publish(self, connection: Connection, name: str, data: bytes) -> None:
        try:
            cleared = gate.clear_metadata(name, data)
        except Rejected as error:
            log.warning("metadata of a release are not handed on", file=name, error=str(error))
            return
        connection.wait_writable(WAIT_S)
        connection.publish(cleared)

    # --- files -----------------------------------------------------------------------------------------------------

    def answer(self, message: Message, site: str) -> gate.Cleared:
        """The chunk that a site asks for; an empty one, of a file that is not here.

        Raises
        ------
        Malformed, Rejected
            It is no request, or none of a file.
        Retry
            The disk refuses; the site asks again.
        """
        wanted = messages.decode(ChunkWanted, message.payload)
        if wanted.offset < 0 or wanted.length < 1:
            raise Rejected("odd-range", "a part of a file is asked for by offset and length, from 0 and 1 on")
        blobs = self._following.mirror.blobs
        data = blobs.slice(wanted.digest, wanted.offset, min(wanted.length, CHUNK_BYTES))
        chunk = Chunk(digest=wanted.digest, offset=wanted.offset, data=data or b"")
        return gate.clear(chunk, topics.release_chunk(site), to=Tier.CLOUD)


def stale(retained: set[str], offered: dict[str, bytes]) -> list[str]:
    """Retained metadata that what is offered replaced: older than the offered ones of their role.

    What is newer than ours is left: another gateway may be ahead of us.

    >>> stale({"8.snapshot.json", "9.snapshot.json", "10.snapshot.json", "1.root.json"}, {"9.snapshot.json": b"..."})
    ['8.snapshot.json']
    """
    newest = {each.role: each.version for name in offered if (each := metadata_file(name)) and each.version}
    gone = []
    for name in sorted(retained - offered.keys()):
        found = metadata_file(name)
        if found and found.version and found.role != "root" and found.version < (newest.get(found.role) or 0):
            gone.append(name)
    return gone
