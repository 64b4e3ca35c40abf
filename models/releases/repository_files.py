"""Read and write the files of the release repository.

::

    timestamp.json -> 9.snapshot.json -> 7.targets.json -> targets/<sha256> ...
    1.root.json, 2.root.json                    the valid keys; the highest version is in force

`models.releases.repository` decides what is signed and when. Every file is complete or absent.
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
"""Roles whose keys the trainer always needs."""


@dataclass(slots=True)
class RepositoryState:
    """The metadata of all four roles, as on the disk."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    @classmethod
    def empty(cls, root: Metadata[Root]) -> RepositoryState:
        """Return the state before the first release, unsigned."""
        state = cls(root, Metadata(Targets()), Metadata(Snapshot()), Metadata(Timestamp()))
        for role in ONLINE:
            state.of(role).signed.version = 0
        return state

    def of(self, role: str) -> Metadata[Any]:
        """Return the metadata of a role by name."""
        found: Metadata[Any] = getattr(self, role)
        return found

    def vouches_for(self, role: str) -> bool:
        """Return whether the root's keys signed the metadata of a role."""
        metadata = self.of(role)
        try:
            self.root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError:
            return False
        return True

    @property
    def files(self) -> dict[str, TargetFile]:
        """The good files by path; a caller changes them in place and then signs the targets."""
        return self.targets.signed.targets


class Shelf:
    """The folder of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = folder / "metadata"
        self._targets = folder / "targets"

    def make(self) -> None:
        """Make missing folders. Raises `OSError`."""
        for path in (self.folder, self._metadata, self._targets):
            private_files.make_folder(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the repository against all other processes."""
        with (self.folder / "lock").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    # --- metadata ----------------------------------------------------------------------------------------------

    def roots(self) -> list[int]:
        """Return all versions of the root metadata, in order."""
        found = (metadata_file(path.name) for path in self._metadata.iterdir())
        return sorted(each.version for each in found if each and each.role == "root" and each.version)

    def newest_root(self) -> bytes | None:
        """Return the signed root metadata in force, or None if there is no repository here."""
        versions = self.roots() if self._metadata.is_dir() else []
        return self.read("root", versions[-1]) if versions else None

    def root(self) -> Metadata[Root]:
        """Return the root metadata in force."""
        return Metadata[Root].from_bytes(self.read("root", self.roots()[-1]))

    def state(self) -> RepositoryState | None:
        """Return the metadata that the timestamp names, without checking signatures, or None before the first."""
        if not self._path("timestamp", 0).exists():
            return None
        timestamp = Metadata[Timestamp].from_bytes(self.read("timestamp", 0))
        version = timestamp.signed.snapshot_meta.version
        snapshot = Metadata[Snapshot].from_bytes(self.read("snapshot", version))
        version = snapshot.signed.meta["targets.json"].version
        targets = Metadata[Targets].from_bytes(self.read("targets", version))
        return RepositoryState(self.root(), targets, snapshot, timestamp)

    def opened(self) -> RepositoryState:
        """Return the state of an opened repository, which always has one."""
        state = self.state()
        assert state is not None
        return state

    def read(self, role: str, version: int) -> bytes:
        """Return a metadata file. Raises `OSError`."""
        return self._path(role, version).read_bytes()

    def write(self, role: str, metadata: Metadata[Any]) -> bytes:
        """Write a metadata file and return its bytes."""
        data = metadata.to_bytes(JSONSerializer(compact=True))
        replace_file(self._path(role, metadata.signed.version), data)
        return data

    def published(self, state: RepositoryState) -> dict[str, bytes]:
        """Return the metadata for the tiers by file name; the timestamp is last, since it names the others."""
        paths = [self._path("root", version) for version in self.roots()]
        paths += [self._path(role, state.of(role).signed.version) for role in ONLINE]
        return {path.name: path.read_bytes() for path in paths}

    def _path(self, role: str, version: int) -> Path:
        return self._metadata / ("timestamp.json" if role == "timestamp" else f"{version}.{role}.json")

    @property
    def mark(self) -> str:
        """A mark that changes with the timestamp or the root, and so with every change."""
        timestamp = self._path("timestamp", 0)
        return f"{self.roots()[-1]}/{hashlib.sha256(timestamp.read_bytes()).hexdigest()}"

    # --- target files ------------------------------------------------------------------------------------------

    def content(self, info: TargetFile) -> bytes:
        """Return the bytes of a target. Raises `OSError`."""
        return (self._targets / digest_of(info)).read_bytes()

    def put(self, info: TargetFile, data: bytes) -> None:
        """Write a target, unless it is there already. Raises `OSError`."""
        path = self._targets / digest_of(info)
        if not path.exists():
            replace_file(path, data)

    def tidy(self, state: RepositoryState) -> None:
        """Remove files that the state does not name, also those that a crash left."""
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
    """Return the SHA-256 of a target in hex."""
    return info.hashes["sha256"]
