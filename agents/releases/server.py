"""Serve releases at the gateway: retain their signed metadata on MQTT, and send their files in chunks.

::

    Kafka tierwise.models --> Mirror --> MQTT release/metadata/{file}     retained, at each connect and change
    MQTT release/want/{site} (shared) --> Mirror --> MQTT release/chunk/{site}

The gateway verifies and signs nothing: edges verify. Several gateways share the requests and retain the same metadata.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import structlog

from agents.releases.mirror import MirrorFollower
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
"""Time to wait for room to publish. The rest is published after the next poll."""


class ReleaseServer:
    """The release server of one gateway."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._follower = MirrorFollower(kafka, folder, "gateway-releases", self._retain)
        self._connection: Connection | None = None
        self._connects = 0
        self._published: dict[str, bytes] = {}
        """Metadata that was published over this connection."""
        self._retained: set[str] = set()
        """Names of the metadata that the broker retains, from any gateway."""
        self._lock = threading.Lock()
        """Guards `_retained`, which the connection's thread changes."""

    def start(self, connection: Connection) -> None:
        """Follow Kafka, and publish over this connection whenever there is one."""
        self._connection = connection
        self._follower.start()

    def stop(self, timeout_s: float) -> None:
        """Stop following Kafka."""
        self._follower.stop(timeout_s)

    @property
    def state(self) -> str:
        """Return a text for `/health`."""
        return self._follower.state

    # --- metadata ------------------------------------------------------------------------------------------------

    def on_retained(self, name: str, data: bytes) -> None:
        """Record that the broker retains this file from any gateway, or no longer if `data` is empty."""
        with self._lock:
            (self._retained.add if data else self._retained.discard)(name)

    def _retain(self, _changed: bool) -> None:
        """Publish metadata that is new to this connection, and remove metadata that is replaced."""
        connection = self._connection
        if connection is None or not connection.connected:
            return
        if connection.connects != self._connects:
            self._connects, self._published = connection.connects, {}
        offered = self._follower.mirror.offered()
        try:
            for name, data in offered.items():
                if self._published.get(name) != data:
                    self._publish(connection, name, data)
                    self._published[name] = data
            with self._lock:
                retained = self._retained | self._published.keys()
            for name in stale(retained, offered):
                self._publish(connection, name, b"")
                self._published.pop(name, None)
                self.on_retained(name, b"")
        except Retry as error:
            log.info("release metadata waits to be published", error=str(error))

    def _publish(self, connection: Connection, name: str, data: bytes) -> None:
        try:
            cleared = gate.clear_metadata(name, data)
        except Rejected as error:
            log.warning("a metadata file of a release is refused and not published", file=name, error=str(error))
            return
        connection.wait_writable(WAIT_S)
        connection.publish(cleared)

    # --- files -----------------------------------------------------------------------------------------------------

    def answer(self, message: Message, site: str) -> gate.Cleared:
        """Return the chunk that a site requests; an empty chunk if the file is not here.

        Raises
        ------
        Malformed, Rejected
            The message is not a valid request.
        Retry
            The disk failed; the site requests the chunk again.
        """
        wanted = messages.decode(ChunkWanted, message.payload)
        if wanted.offset < 0 or wanted.length < 1:
            raise Rejected("odd-range", "a chunk request needs an offset of 0 or more and a length of 1 or more")
        blobs = self._follower.mirror.blobs
        data = blobs.slice(wanted.digest, wanted.offset, min(wanted.length, CHUNK_BYTES))
        chunk = Chunk(digest=wanted.digest, offset=wanted.offset, data=data or b"")
        return gate.clear(chunk, topics.release_chunk(site), to=Tier.CLOUD)


def stale(retained: set[str], offered: dict[str, bytes]) -> list[str]:
    """Return the retained metadata that the offered metadata replaces: older versions of the same role.

    Newer metadata stays, since another gateway may be ahead of this one.

    >>> stale({"8.snapshot.json", "9.snapshot.json", "10.snapshot.json", "1.root.json"}, {"9.snapshot.json": b"..."})
    ['8.snapshot.json']
    """
    newest = {each.role: each.version for name in offered if (each := metadata_file(name)) and each.version}
    replaced = []
    for name in sorted(retained - offered.keys()):
        found = metadata_file(name)
        if found and found.version and found.role != "root" and found.version < (newest.get(found.role) or 0):
            replaced.append(name)
    return replaced
