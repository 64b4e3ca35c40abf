"""The files of the release repository on the disk, and what their metadata lead to.

::

    timestamp.json -> 9.snapshot.json -> 7.targets.json -> targets/<sha256> ...
    1.root.json, 2.root.json                    whose signatures count; the highest is the one in force

Reading and writing alone: what is signed when is `release_repository`'s. A file is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from pipeline.files import private_files
from pipeline.files.fsync import replace_file
from pipeline.files.release_names import metadata_file

ONLINE: Final = ("targets", "snapshot", "timestamp")
"""Roles whose keys the trainer needs at hand."""


@dataclass(slots=True)
class State:
    """All four roles' metadata, as they stand on the disk."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    @classmethod
    def empty(cls, root: Metadata[Root]) -> State:
        """Nothing released, nothing signed."""
        state = cls(root, Metadata(Targets()), Metadata(Snapshot()), Metadata(Timestamp()))
        for role in ONLINE:
            state.of(role).signed.version = 0
        return state

    def of(self, role: str) -> Metadata[Any]:
        found: Metadata[Any] = getattr(self, role)
        return found

    def vouches_for(self, role: str) -> bool:
        """Whether the root's keys signed what stands there."""
        metadata = self.of(role)
        try:
            self.root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError:
            return False
        return True

    @property
    def files(self) -> dict[str, TargetFile]:
        """What is good, by path. Changed in place, and signed afterwards."""
        return self.targets.signed.targets


class Shelf:
    """Where they lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = folder / "metadata"
        self._targets = folder / "targets"

    def make(self) -> None:
        """Make the folders where they are missing. Raises `OSError`."""
        for path in (self.folder, self._metadata, self._targets):
            private_files.make_folder(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone, among all processes."""
        with (self.folder / "lock").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    # --- metadata ----------------------------------------------------------------------------------------------

    def roots(self) -> list[int]:
        """Versions of the root metadata, all from the first on."""
        found = (metadata_file(path.name) for path in self._metadata.iterdir())
        return sorted(each.version for each in found if each and each.role == "root" and each.version)

    def newest_root(self) -> bytes | None:
        """The root metadata in force, as signed; None: there is no repository here."""
        versions = self.roots() if self._metadata.is_dir() else []
        return self.read("root", versions[-1]) if versions else None

    def root(self) -> Metadata[Root]:
        """The one in force."""
        return Metadata[Root].from_bytes(self.read("root", self.roots()[-1]))

    def state(self) -> State | None:
        """What the timestamp leads to, whoever signed it; None: there is none yet."""
        if not self._path("timestamp", 0).exists():
            return None
        timestamp = Metadata[Timestamp].from_bytes(self.read("timestamp", 0))
        version = timestamp.signed.snapshot_meta.version
        snapshot = Metadata[Snapshot].from_bytes(self.read("snapshot", version))
        version = snapshot.signed.meta["targets.json"].version
        targets = Metadata[Targets].from_bytes(self.read("targets", version))
        return State(self.root(), targets, snapshot, timestamp)

    def opened(self) -> State:
        """The state of a repository that was opened, so that there is one."""
        state = self.state()
        assert state is not None
        return state

    def read(self, role: str, version: int) -> bytes:
        return self._path(role, version).read_bytes()

    def write(self, role: str, metadata: Metadata[Any]) -> bytes:
        """Put it in its place; what was written."""
        data = metadata.to_bytes(JSONSerializer(compact=True))
        replace_file(self._path(role, metadata.signed.version), data)
        return data

    def published(self, state: State) -> dict[str, bytes]:
        """What tiers need of it, by file name; the timestamp last, since it leads to the others."""
        paths = [self._path("root", version) for version in self.roots()]
        paths += [self._path(role, state.of(role).signed.version) for role in ONLINE]
        return {path.name: path.read_bytes() for path in paths}

    def _path(self, role: str, version: int) -> Path:
        return self._metadata / ("timestamp.json" if role == "timestamp" else f"{version}.{role}.json")

    @property
    def mark(self) -> str:
        """Of the metadata: a change has a new timestamp, or a new root."""
        timestamp = self._path("timestamp", 0)
        return f"{self.roots()[-1]}/{hashlib.sha256(timestamp.read_bytes()).hexdigest()}"

    # --- target files ------------------------------------------------------------------------------------------

    def content(self, info: TargetFile) -> bytes:
        return (self._targets / digest_of(info)).read_bytes()

    def put(self, info: TargetFile, data: bytes) -> None:
        path = self._targets / digest_of(info)
        if not path.exists():
            replace_file(path, data)

    def tidy(self, state: State) -> None:
        """Remove what nothing leads to any more; what a crash leaves here goes the next time."""
        for path in self._metadata.iterdir():
            found = metadata_file(path.name)
            online = found is not None and found.role in ("targets", "snapshot")
            if found is None or (online and found.version != state.of(found.role).signed.version):
                path.unlink()
        digests = set(map(digest_of, state.files.values()))
        for path in self._targets.iterdir():
            if path.name not in digests:
                path.unlink()


def digest_of(info: TargetFile) -> str:
    """SHA-256 of a target, hex."""
    return info.hashes["sha256"]
