"""Releases at the edge, over its uplink: signed metadata as the broker retains them, files in chunks on request.

::

    MQTT release/metadata/{file}  --> Inbox --> Trust (verified, on the disk)
    Trust names a file that is not here --> Wishes --> MQTT release/want/{site}
    MQTT release/chunk/{site}     --> Blobs (<digest>.part, then <digest>)

It stands before the uplink's own handler and takes what is about releases out of each batch. Nothing here has to be
committed: what a kill loses is retained or asked for again. What cannot be used is ignored, and told by `refresh`::

    download = Download(settings, lambda: settings.releases_root, Ingest(...), clock)
    uplink = Connection(..., subscriptions=[..., *download.subscriptions], handler=download)
    download.start(uplink)
    updates = Updates(source=download.source, ...)
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
from pipeline.files.chunk_requests import Wishes
from pipeline.files.release_names import METADATA_MAX_BYTES, metadata_file
from pipeline.messages import Chunk, Malformed, Tier
from pipeline.mqtt import Connection, Handler, Message
from pipeline.privacy import gate
from pipeline.settings.settings import Settings

log = structlog.get_logger("releases")

FILES_MAX: Final = 300
"""Metadata held at a time: every root there may be between ours and the newest, and some others."""

IDLE_S: Final = 60.0
"""How often the sender looks about where nothing rings."""

LOOK_S: Final = 1.0
"""The same, while there is no connection."""


class Inbox:
    """Metadata as they came: of anybody, unverified, bounded. They are retained, so that each connect brings them all."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def clear(self) -> None:
        """What is retained comes anew; what is not any more must not stay here."""
        self._files = {}

    def put(self, name: str, data: bytes) -> bool:
        """Keep a file; empty: it is retained no more. Whether anything changed."""
        found = metadata_file(name)
        if found is None or self._files.get(name, b"") == data:
            return False
        if not data:
            self._files.pop(name, None)
        elif name in self._files or len(self._files) < FILES_MAX:
            # One byte too many is enough to be refused for it, by name.
            self._files[name] = data[: METADATA_MAX_BYTES[found.role] + 1]
        else:
            return False
        return True


class Download:
    """An edge's side. Any thread may ask; the connection's own thread stores."""

    def __init__(
        self, settings: Settings, root: Path | Callable[[], Path], inner: Handler, clock: Clock
    ) -> None:
        folder = settings.data_dir / "edge" / "releases"
        self._site = settings.site
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()
        self._inbox = Inbox()
        self._blobs = Blobs(folder / "files")
        self._wishes = Wishes(settings.releases.bytes_per_s)
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        trust = Trust(folder, root, self._inbox.read, clock)
        self.source = VerifiedSource(trust, self._blobs, self._want, self._keep_only)
        self.subscriptions = (topics.release_metadata("+"), topics.release_chunk(self._site))

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self, connection: Connection) -> None:
        """Ask over this connection, on a thread of its own."""
        self._connection = connection
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._bell.clear()
            self._bell.wait(min(max(self.ask(), 0.0), IDLE_S))

    def ask(self) -> float:
        """Send the next request, if it is time for one; how long to wait for the next, unless `_bell` rings."""
        if self._connection is None or not self._connection.connected:
            return LOOK_S
        with self._lock:
            now_s = self._clock.monotonic()
            wanted = self._wishes.next(now_s)
            wait_s = self._wishes.wait_s(now_s)
        if wanted is not None:
            try:
                self._connection.publish(gate.clear(wanted, topics.release_want(self._site), to=Tier.CLOUD))
            except Retry as error:
                log.info("a part of a release was not asked for; it is later", error=str(error))
        return wait_s

    # --- the source's side -----------------------------------------------------------------------------------------

    def _keep_only(self, digests: Collection[str]) -> None:
        with self._lock:
            self._blobs.keep_only(digests)

    def _want(self, files: Collection[File]) -> None:
        """Have these fetched. Raises `Rejected` or `Retry`, and says how far that is."""
        now_s = self._clock.monotonic()
        with self._lock:
            self._wishes.want({file: self._blobs.resume(file) for file in files}, now_s)
            refused, progress = self._wishes.refused(now_s), self._wishes.progress()
        self._bell.set()
        if self._connection is None or not self._connection.connected:
            raise Retry(f"the uplink is not connected: {progress}")
        raise refused or Retry(progress)

    # --- the connection's handler ------------------------------------------------------------------------------------

    def connected(self, session_present: bool) -> int:
        """See `mqtt.Handler`."""
        self._inbox.clear()
        with self._lock:
            self._wishes.cut(self._clock.monotonic())
        return self._inner.connected(session_present)

    def received(self, batch: Sequence[Message]) -> int:
        """See `mqtt.Handler`. What is about releases is taken here, the rest is handed on."""
        rest = [message for message in batch if not self._take(message)]
        self._bell.set()  # also: there is a connection now
        return self._inner.received(rest)

    def confirmed(self, mark: int) -> None:
        """See `mqtt.Handler`."""
        self._inner.confirmed(mark)

    def _take(self, message: Message) -> bool:
        """Whether it was about releases."""
        if (name := topics.metadata_file(message.topic)) is not None:
            if self._inbox.put(name, message.payload):
                self.source.arrived.set()
        elif message.topic == topics.release_chunk(self._site):
            try:
                self._store(messages.decode(Chunk, message.payload))
            except (Malformed, Rejected, Retry) as error:
                log.warning("a part of a release was not taken; it is asked for again", error=str(error))
        else:
            return False
        return True

    def _store(self, chunk: Chunk) -> None:
        now_s = self._clock.monotonic()
        with self._lock:
            file = self._wishes.take(chunk, now_s)
            if file is None:
                return
            try:
                whole = self._blobs.append(file, chunk.offset, chunk.data)
            except Rejected as error:
                self._wishes.spoiled(file.digest, error, now_s)
                self.source.arrived.set()
                raise
            except Retry:
                self._wishes.lost(file.digest, self._blobs.held(file))
                raise
        if whole:
            self.source.arrived.set()
