"""Files named by the SHA-256 of their content, complete or partly downloaded: a cut download resumes where it stopped.

::

    <folder>/9f86d081...        complete, and checked against its name
    <folder>/9f86d081....part   the first bytes of a file that is still on its way

Arriving bytes are appended in order. At full length the file is complete if its digest is its name; otherwise it is
removed. The downloader of releases uses it like this::

    blobs = Blobs(folder)
    blobs.held(File(digest, 151_204))              # 65536: ask for the rest from this offset on
    blobs.append(File(digest, 151_204), 65_536, data)
    blobs.read(digest)                             # b"..." or None
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.errors import Rejected, Retry
from pipeline.files import private_files
from pipeline.files.fsync import directory_to_disk, replace_file, to_disk

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
"""The only names that files have here: no other text becomes a path."""

EMPTY: Final = hashlib.sha256().hexdigest()
"""The digest of no bytes: this file always exists."""


class File(NamedTuple):
    """A file as signed metadata name it, by digest and length in bytes."""

    digest: str
    length: int


class Blobs:
    """The files of one folder. One thread writes; any thread may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, digest: str) -> bytes | None:
        """Return the content of a complete file after checking its digest, or None if the file is not here.

        Raises
        ------
        Retry
            The disk cannot be read.
        """
        if digest == EMPTY:
            return b""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble(error, self._folder) from None
        if sha256(data) != digest:  # damaged on the disk: it has to be downloaded again
            self._drop(self._path(digest))
            return None
        return data

    def slice(self, digest: str, offset: int, length: int) -> bytes | None:
        """Return a part of a complete file (shorter at its end), or None if the file is not here. Raises `Retry`."""
        try:
            with self._path(digest).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble(error, self._folder) from None

    def held(self, file: File) -> int:
        """Return how many of the file's first bytes are here. Raises `Retry`."""
        for path in (self._path(file.digest), self._part(file.digest)):
            try:
                return min(path.stat().st_size, file.length)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _trouble(error, self._folder) from None
        return 0

    def resume(self, file: File) -> int:
        """Return how many of the file's first bytes can be kept after a restart. Raises `Retry`."""
        held = self.held(file)
        if held < file.length or self.read(file.digest) is not None:
            return held
        # All bytes were written, but the process ended before it checked them.
        with self._writing(), contextlib.suppress(FileNotFoundError):
            if sha256(self._part(file.digest).read_bytes()) == file.digest:
                self._is_whole(file.digest)
                return held
        self._drop(self._part(file.digest))
        return 0

    def put(self, data: bytes) -> str:
        """Store a complete file and return its digest. Raises `Retry`."""
        digest = sha256(data)
        with self._writing():
            if not self._path(digest).exists():
                replace_file(self._path(digest), data)
        return digest

    def append(self, file: File, offset: int, data: bytes) -> bool:
        """Append the next bytes of a file. Return whether the file is complete now.

        Raises
        ------
        Rejected
            ``digest-mismatch``: the file has its full length but another content; its bytes are removed.
            ``out-of-place``: these bytes do not follow the bytes that are here.
        Retry
            The disk cannot be written.
        """
        if offset != self.held(file) or offset + len(data) > file.length:
            raise Rejected("out-of-place", f"{file.digest[:12]}…: these bytes do not follow those that are here")
        part = self._part(file.digest)
        with self._writing():
            with part.open("ab") as opened:
                opened.write(data)
                opened.flush()
                to_disk(opened.fileno())
            if offset + len(data) < file.length:
                return False
            if sha256(part.read_bytes()) == file.digest:
                self._is_whole(file.digest)
                return True
        self._drop(part)
        raise Rejected(
            "digest-mismatch",
            f"{file.digest[:12]}…: the {file.length} bytes received are another file; they are removed and requested again",
        )

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all files but these, unfinished ones too."""
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if path.name.partition(".")[0] not in digests:
                    self._drop(path)

    def digests(self) -> set[str]:
        """Return the digests of the complete files."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in self._folder.iterdir() if DIGEST.fullmatch(path.name)}
        return set()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            private_files.make_folder(self._folder)
            yield
        except OSError as error:
            raise _trouble(error, self._folder) from None

    def _is_whole(self, digest: str) -> None:
        self._part(digest).replace(self._path(digest))
        directory_to_disk(self._folder)

    def _path(self, digest: str) -> Path:
        if DIGEST.fullmatch(digest) is None:
            raise Rejected("odd-digest", "ask for a file by its SHA-256, 64 hex digits")
        return self._folder / digest

    def _part(self, digest: str) -> Path:
        return self._path(digest).with_suffix(".part")

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of these bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def _trouble(error: OSError, folder: Path) -> Retry:
    return Retry(f"{folder}: {error.strerror}: free some disk space, or let this user read and write there")
