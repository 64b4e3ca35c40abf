"""Download releases to an edge over its uplink: retained signed metadata, and files in chunks on request.

::

    MQTT release/metadata/{file}  --> MetadataInbox --> Trust (verified metadata on the disk)
    a signed file is missing here --> ChunkRequests --> MQTT release/want/{site}
    MQTT release/chunk/{site}     --> Blobs (<digest>.part, then <digest>)

It handles the messages of releases alone: `takes` names their topics, and the uplink's dispatcher passes them on.
Nothing here has to be committed: after a kill, the broker still retains the metadata, and chunks are requested again.
A message that cannot be used is ignored; `refresh` reports it::

    download = Download(settings, lambda: settings.releases_root, clock)
    uplink = Connection(..., subscriptions=[..., *download.subscriptions], handler=UplinkDispatch(..., download))
    download.start(uplink)
    updates.follow(download.source)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import structlog

from agents.releases.source import VerifiedSource
from models.releases.client import Trust
from pipeline import messages, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.files.blobs import Blobs, File
from pipeline.files.chunk_requests import ChunkRequests
from pipeline.files.release_names import METADATA_MAX_BYTES, metadata_file
from pipeline.messages import Chunk, Malformed, Tier
from pipeline.mqtt import Connection, Message
from pipeline.privacy import gate
from pipeline.settings.settings import Settings

log = structlog.get_logger("releases")

FILES_MAX: Final = 300
"""Most metadata files held at a time: enough for all roots between this edge's and the newest, and the other roles."""

IDLE_S: Final = 60.0
"""The sender wakes up this often without an event."""

OFFLINE_S: Final = 1.0
"""The same without a connection."""


class MetadataInbox:
    """Unverified metadata, bounded in number and size. The broker sends all of it again at each connect."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """Return a file, or None if it has not arrived."""
        return self._files.get(name)

    def clear(self) -> None:
        """Forget all files at a connect, so that files which the broker no longer retains disappear."""
        self._files = {}

    def put(self, name: str, data: bytes) -> bool:
        """Store a file, or remove it if `data` is empty. Return whether anything changed."""
        found = metadata_file(name)
        if found is None or self._files.get(name, b"") == data:
            return False
        if not data:
            self._files.pop(name, None)
        elif name in self._files or len(self._files) < FILES_MAX:
            # One byte above the limit suffices for `Trust` to refuse the file as too long.
            self._files[name] = data[: METADATA_MAX_BYTES[found.role] + 1]
        else:
            return False
        return True


class Download:
    """The download of one edge. Any thread may use `source`; the connection's thread stores what arrives."""

    def __init__(self, settings: Settings, root: Path | Callable[[], Path], clock: Clock) -> None:
        folder = settings.data_dir / "edge" / "releases"
        self._site = settings.site
        self._clock = clock
        self._lock = threading.Lock()
        self._inbox = MetadataInbox()
        self._blobs = Blobs(folder / "files")
        self._requests = ChunkRequests(settings.releases.bytes_per_s)
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        trust = Trust(folder, root, self._inbox.read, clock)
        self.source = VerifiedSource(trust, self._blobs, self._request, self._keep_only)
        self.subscriptions = (topics.release_metadata("+"), topics.release_chunk(self._site))

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self, connection: Connection) -> None:
        """Send requests over this connection, on a thread of its own."""
        self._connection = connection
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Stop the thread."""
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._bell.clear()
            self._bell.wait(min(max(self.request_next(), 0.0), IDLE_S))

    def request_next(self) -> float:
        """Send the next request if it is due. Return how long to wait for the next one, unless `_bell` is set."""
        if self._connection is None or not self._connection.connected:
            return OFFLINE_S
        with self._lock:
            now_s = self._clock.monotonic()
            wanted = self._requests.next(now_s)
            wait_s = self._requests.wait_s(now_s)
        if wanted is not None:
            try:
                self._connection.publish(gate.clear(wanted, topics.release_want(self._site), to=Tier.CLOUD))
            except Retry as error:
                log.info("a chunk of a release could not be requested; it is requested later", error=str(error))
        return wait_s

    # --- called by the source--------------------------------------------------------------------------------------

    def _keep_only(self, digests: Collection[str]) -> None:
        with self._lock:
            self._blobs.keep_only(digests)

    def _request(self, files: Collection[File]) -> None:
        """Request these files. Raises `Retry` with the progress, or `Rejected` if the download fails."""
        now_s = self._clock.monotonic()
        with self._lock:
            self._requests.want({file: self._blobs.resume(file) for file in files}, now_s)
            refused, progress = self._requests.refused(now_s), self._requests.progress()
        self._bell.set()
        if self._connection is None or not self._connection.connected:
            raise Retry(f"the uplink is not connected: {progress}")
        raise refused or Retry(progress)

    # --- the connection's handler ------------------------------------------------------------------------------------

    def takes(self, topic: str) -> bool:
        """Return whether messages under this topic are about releases."""
        return topics.metadata_file(topic) is not None or topic == topics.release_chunk(self._site)

    def connected(self, session_present: bool) -> int:  # noqa: ARG002 - the handler's signature
        """See `mqtt.Handler`."""
        self._inbox.clear()
        with self._lock:
            self._requests.cut(self._clock.monotonic())
        return 0

    def received(self, batch: Sequence[Message]) -> int:
        """See `mqtt.Handler`. Nothing is committed, so there is no mark."""
        for message in batch:
            self._take(message)
        self._bell.set()  # also: there is a connection now
        return 0

    def confirmed(self, mark: int) -> None:
        """See `mqtt.Handler`. Nothing was committed."""

    def _take(self, message: Message) -> None:
        if (name := topics.metadata_file(message.topic)) is not None:
            if self._inbox.put(name, message.payload):
                self.source.arrived.set()
        else:
            try:
                self._store(messages.decode(Chunk, message.payload))
            except (Malformed, Rejected, Retry) as error:
                log.warning("a chunk of a release is unusable; it is requested again", error=str(error))

    def _store(self, chunk: Chunk) -> None:
        now_s = self._clock.monotonic()
        with self._lock:
            file = self._requests.take(chunk, now_s)
            if file is None:
                return
            try:
                whole = self._blobs.append(file, chunk.offset, chunk.data)
            except Rejected as error:
                self._requests.spoiled(file.digest, error, now_s)
                self.source.arrived.set()
                raise
            except Retry:
                self._requests.lost(file.digest, self._blobs.held(file))
                raise
        if whole:
            self.source.arrived.set()
