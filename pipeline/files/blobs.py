"""Files named by what is in them (SHA-256), whole or on their way: a cut resumes where it was.

::

    <folder>/9f86d081...        whole, and checked against its name
    <folder>/9f86d081....part   the first so many bytes of it

What comes is appended in order; once as long as it is to be, it is whole if its digest is its name, and gone if not::

    blobs = Blobs(folder)
    blobs.held(File(digest, 151_204))              # 65536: asks for the rest from there on
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
"""What a file may be called here: nothing else becomes a path."""

EMPTY: Final = hashlib.sha256().hexdigest()
"""A file of no bytes is here without having come."""


class File(NamedTuple):
    """A file as signed metadata name it."""

    digest: str
    length: int


class Blobs:
    """One folder. One thread writes; any may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, digest: str) -> bytes | None:
        """All of it, whole and checked; None: it is not here.

        Raises
        ------
        Retry
            The disk refuses.
        """
        if digest == EMPTY:
            return b""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble(error, self._folder) from None
        if sha256(data) != digest:  # rotted: as good as not here
            self._drop(self._path(digest))
            return None
        return data

    def slice(self, digest: str, offset: int, length: int) -> bytes | None:
        """A part of a whole file, shorter at its end; None: it is not here. Raises `Retry`."""
        try:
            with self._path(digest).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble(error, self._folder) from None

    def held(self, file: File) -> int:
        """How many of its first bytes are here. Raises `Retry`."""
        for path in (self._path(file.digest), self._part(file.digest)):
            try:
                return min(path.stat().st_size, file.length)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _trouble(error, self._folder) from None
        return 0

    def resume(self, file: File) -> int:
        """How many of its first bytes need not be asked for again, whatever a crash left. Raises `Retry`."""
        held = self.held(file)
        if held < file.length or self.read(file.digest) is not None:
            return held
        # All bytes were written, and nobody looked at them any more.
        with self._writing(), contextlib.suppress(FileNotFoundError):
            if sha256(self._part(file.digest).read_bytes()) == file.digest:
                self._is_whole(file.digest)
                return held
        self._drop(self._part(file.digest))
        return 0

    def put(self, data: bytes) -> str:
        """Keep a whole file; its digest. Raises `Retry`."""
        digest = sha256(data)
        with self._writing():
            if not self._path(digest).exists():
                replace_file(self._path(digest), data)
        return digest

    def append(self, file: File, offset: int, data: bytes) -> bool:
        """Add what comes next of a file; whether it is whole now.

        Raises
        ------
        Rejected
            ``digest-mismatch``: it is as long as it is to be, and another file; nothing of it is kept.
            ``out-of-place``: these are not the bytes that come next.
        Retry
            The disk refuses.
        """
        if offset != self.held(file) or offset + len(data) > file.length:
            raise Rejected("out-of-place", f"{file.digest[:12]}…: bytes that are not the next ones")
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
            f"{file.digest[:12]}…: what came is another file of {file.length} bytes; thrown away, and asked for again",
        )

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all files but these, also those on their way."""
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if path.name.partition(".")[0] not in digests:
                    self._drop(path)

    def digests(self) -> set[str]:
        """Files that are whole here."""
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
            raise Rejected("odd-digest", "a file is asked for by its SHA-256, 64 hex digits")
        return self._folder / digest

    def _part(self, digest: str) -> Path:
        return self._path(digest).with_suffix(".part")

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()


def sha256(data: bytes) -> str:
    """Of a file, hex."""
    return hashlib.sha256(data).hexdigest()


def _trouble(error: OSError, folder: Path) -> Retry:
    return Retry(f"{folder}: {error.strerror}: make room, or let this user read and write there")
