"""Mirror the release repository from Kafka into a folder. Gateway and cloud have a mirror each.

::

    Kafka tierwise.models --(no group: each sees all)--> Mirror --> metadata (in memory), files (by digest, on the disk)
                                                           |
                                    gateway: retains and answers (`server`) / cloud: verifies (`cloud_source`)

A mirror verifies nothing; the edge and the cloud do. A start reads the topic again, and finds most files on the disk.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from agents.releases.source import VerifiedSource
from agents.role.kafka_wait import await_topics
from models.releases.client import Trust
from pipeline import topics
from pipeline.clock import Clock
from pipeline.errors import Retry
from pipeline.files.blobs import Blobs, File, sha256
from pipeline.files.release_names import METADATA_MAX_BYTES, PART_BYTES, Part, metadata_file, part_of
from pipeline.kafka import Fetched, Follower
from pipeline.settings.settings import KafkaSettings, Settings

log = structlog.get_logger("releases")

RETRY_S: Final = 1.0
"""Pause after an error of Kafka or of the disk."""

PENDING_MAX: Final = 128
"""Most parts held of incomplete files."""


class Mirror:
    """The mirror's folder. One thread writes; any thread reads.

    Kafka returns records that it has not compacted yet, oldest first. So metadata is shown only after all records were
    read (`tidy`); otherwise each start would look like a rollback.
    """

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(folder)
        self._complete = False
        self._metadata: dict[str, bytes] = {}
        self._live: set[str] = set()
        """Keys of the parts that Kafka holds."""
        self._pending: dict[Part, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """Return a metadata file, unverified."""
        return self._metadata.get(name) if self._complete else None

    def apply(self, key: str, value: bytes | None) -> None:
        """Apply a record of the topic. Ignore names and sizes that no release has. Raises `Retry`."""
        part, named = part_of(key), metadata_file(key)
        if value is None:
            self._live.discard(key)
            self._metadata = {name: data for name, data in self._metadata.items() if name != key}
        elif named is not None and len(value) <= METADATA_MAX_BYTES[named.role]:
            self._metadata = {**self._metadata, key: value}
        elif part is not None and len(value) <= PART_BYTES:
            self._live.add(key)
            self._add(part, value)

    def tidy(self) -> None:
        """Show metadata from now on, and remove files that Kafka no longer holds. Call it after reading all records."""
        self._complete = True
        self.blobs.keep_only({key.partition("/")[0] for key in self._live})

    def offered(self) -> dict[str, bytes]:
        """Return a consistent set of metadata, in the order of publishing; empty while a file is missing."""
        metadata = self._metadata if self._complete else {}
        try:
            snapshot = f"{_version(metadata['timestamp.json'], 'snapshot.json')}.snapshot.json"
            targets = f"{_version(metadata[snapshot], 'targets.json')}.targets.json"
            names = [*_roots(metadata), targets, snapshot, "timestamp.json"]
            return {name: metadata[name] for name in names}
        except (KeyError, ValueError, TypeError, RecursionError):
            return {}

    def _add(self, part: Part, value: bytes) -> None:
        if part.digest in self.blobs.digests():
            return
        self._pending[part] = value
        parts = [self._pending.get(Part(part.digest, number, part.total)) for number in range(part.total)]
        whole = [data for data in parts if data is not None]
        if len(whole) == part.total:
            for number in range(part.total):
                del self._pending[Part(part.digest, number, part.total)]
            data = b"".join(whole)
            if sha256(data) != part.digest:
                log.warning(
                    "the parts of a release file do not match its digest; they are ignored",
                    digest=part.digest,
                )
                return
            self.blobs.put(data)
        while len(self._pending) > PENDING_MAX:
            self._pending.pop(next(iter(self._pending)))


class MirrorFollower:
    """Keep a mirror up to date on a thread of its own, which calls `on_poll(changed)` about every second."""

    def __init__(self, kafka: KafkaSettings, folder: Path, name: str, on_poll: Callable[[bool], None]) -> None:
        self.mirror = Mirror(folder)
        self.state = "connecting"
        """A text for `/health`."""
        self.caught_up = threading.Event()
        """Set when all records that Kafka held at the start were read."""
        self._kafka = kafka
        self._name = name
        self._on_poll = on_poll
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._follow, name="releases", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.5) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow(self) -> None:
        if not await_topics(self._kafka, [topics.MODELS], self._stop, self._set_state):
            return
        follower = Follower(self._kafka, topics.MODELS, self._name)
        fetched: Sequence[Fetched] = ()
        while not self._stop.is_set():
            try:
                fetched = fetched or follower.poll()
                for record in fetched:
                    self.mirror.apply((record.key or b"").decode("ascii", "replace"), record.value)
                if follower.caught_up and (fetched or not self.caught_up.is_set()):
                    self.mirror.tidy()
                    self.caught_up.set()
                changed, fetched = bool(fetched), ()
                self.state = "connected"
                self._on_poll(changed)
            except Retry as error:  # Kafka or the disk failed; the fetched records are applied again
                self.state = str(error)
                self._stop.wait(RETRY_S)
        follower.close()

    def _set_state(self, state: str) -> None:
        self.state = state


def cloud_source(settings: Settings, clock: Clock) -> tuple[MirrorFollower, VerifiedSource]:
    """Return the follower that mirrors releases, and the source that reads them. The role starts the follower."""
    folder = settings.data_dir / "cloud" / "releases"

    def fetch(files: Collection[File]) -> None:
        raise Retry(f"{len(files)} files of a release have not arrived over Kafka yet: {follower.state}")

    def on_poll(changed: bool) -> None:
        if changed:
            source.arrived.set()

    follower = MirrorFollower(settings.kafka, folder / "files", "cloud-releases", on_poll)
    trust = Trust(folder, lambda: settings.releases_root, follower.mirror.read, clock)
    source = VerifiedSource(trust, follower.mirror.blobs, fetch)
    return follower, source


def _version(data: bytes, of: str) -> int:
    version: Any = json.loads(data)["signed"]["meta"][of]["version"]
    return int(version)


def _roots(metadata: Collection[str]) -> Iterator[str]:
    found = ((metadata_file(name), name) for name in metadata)
    numbered = [(each.version, name) for each, name in found if each and each.role == "root" and each.version]
    yield from (name for _, name in sorted(numbered))
