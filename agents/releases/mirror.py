"""What Kafka has of the release repository, in a folder of one's own: gateway and cloud, each by itself.

::

    Kafka tierwise.models --(no group: each sees all)--> Mirror --> metadata (in memory), files (by digest, on the disk)
                                                           |
                                    gateway: retains and answers (release_server) / cloud: verifies (`cloud_source`)

Nothing is believed here: whoever uses it verifies. A start reads the topic anew, and finds most files there already.
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
"""Pause after Kafka could not be reached, or the disk refused."""

PENDING_MAX: Final = 128
"""Parts held of files that are not whole yet."""


class Mirror:
    """The folder. The thread that follows writes; any thread reads.

    What Kafka has not compacted yet comes oldest first: metadata are shown once all was seen (`tidy`), or each start would
    look like a rollback.
    """

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(folder)
        self._complete = False
        self._metadata: dict[str, bytes] = {}
        self._live: set[str] = set()
        """Keys of parts that Kafka has."""
        self._pending: dict[Part, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """A file of metadata, as it came."""
        return self._metadata.get(name) if self._complete else None

    def take(self, key: str, value: bytes | None) -> None:
        """Take in what Kafka says of a key. What has an odd name or size is not ours, and ignored. Raises `Retry`."""
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
        """All of the topic was seen: show metadata from now on, and remove files that Kafka no longer has."""
        self._complete = True
        self.blobs.keep_only({key.partition("/")[0] for key in self._live})

    def offered(self) -> dict[str, bytes]:
        """Metadata that lead to each other, in the order in which to hand them on; none while some are missing."""
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
                log.warning("parts of a release make another file; they are left out", digest=part.digest)
                return
            self.blobs.put(data)
        while len(self._pending) > PENDING_MAX:
            self._pending.pop(next(iter(self._pending)))


class Following:
    """Keeps a mirror up to date, on a thread of its own; `looked` is told there, every second or so, whether anything came."""

    def __init__(self, kafka: KafkaSettings, folder: Path, name: str, looked: Callable[[bool], None]) -> None:
        self.mirror = Mirror(folder)
        self.state = "connecting"
        """For `/health`."""
        self.caught_up = threading.Event()
        """Set once all that Kafka had at the start is here."""
        self._kafka = kafka
        self._name = name
        self._looked = looked
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="releases", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.5) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow(self) -> None:
        if not await_topics(self._kafka, [topics.MODELS], self._stop, self._found):
            return
        follower = Follower(self._kafka, topics.MODELS, self._name)
        fetched: Sequence[Fetched] = ()
        while not self._stop.is_set():
            try:
                fetched = fetched or follower.poll()
                for record in fetched:
                    self.mirror.take((record.key or b"").decode("ascii", "replace"), record.value)
                if follower.caught_up and (fetched or not self.caught_up.is_set()):
                    self.mirror.tidy()
                    self.caught_up.set()
                came, fetched = bool(fetched), ()
                self.state = "connected"
                self._looked(came)
            except Retry as error:  # of Kafka or of the disk; what was fetched is taken again
                self.state = str(error)
                self._stop.wait(RETRY_S)
        follower.close()

    def _found(self, state: str) -> None:
        self.state = state


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


def _version(data: bytes, of: str) -> int:
    told: Any = json.loads(data)["signed"]["meta"][of]["version"]
    return int(told)


def _roots(metadata: Collection[str]) -> Iterator[str]:
    found = ((metadata_file(name), name) for name in metadata)
    numbered = [(each.version, name) for each, name in found if each and each.role == "root" and each.version]
    yield from (name for _, name in sorted(numbered))
