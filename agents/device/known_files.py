"""Remember which files of a folder were taken or refused, so that a device takes each content once, at any time.

The content counts, not the name: another file with equal bytes on the same stream is known, and other bytes under an
old name are new. A file that has not changed since is not even read again::

    file ──unchanged?──no──> SHA-256 ──known?──no──> event, and remember
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.spool import Spool, Transaction

KNOWN_KEEP: Final = 500_000
"""Contents and paths to remember (some 60 MB). Of more files, the ones taken first may be taken again."""


def file_mark(status: os.stat_result) -> bytes:
    """Return what changes with a file. Size and time are not enough: cameras number and date files anew."""
    return _short(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class SourceFile(NamedTuple):
    """A file that a shot comes from."""

    path: Path
    mark: bytes
    """See `file_mark`; empty if the file is to be tried again at the next start."""
    clip: bool
    bytes_s: float | None
    """The time in the content, as if it were UTC: independent of the settings, since it is a part of the event's id."""
    file_s: float
    """The time of the file: that of the capture, if the content holds none."""
    digest: bytes = b""
    """SHA-256 of the content."""

    @property
    def time_s(self) -> float:
        """The time that orders files."""
        return self.file_s if self.bytes_s is None else self.bytes_s


class KnownFiles:
    """The files of all streams, in tables of the device's store."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def is_unchanged(self, source: str, file: Path, mark: bytes) -> bool:
        """Return whether this file was remembered with this mark."""
        rows = self._spool.query("SELECT mark FROM device_files WHERE path = ?", (_short(source, file),))
        return rows == [(mark,)]

    def has(self, source: str, digest: bytes) -> bool:
        """Return whether a file of this content was taken from, or refused of, this stream."""
        return bool(self._spool.query("SELECT 1 FROM device_contents WHERE content = ?", (_short(source, digest),)))

    def remember(self, source: str, file: SourceFile, tx: Transaction | None = None) -> None:
        """Remember a file and its content, in this transaction or in one of its own."""
        if tx is None:
            with self._spool.transaction() as own:
                self.remember(source, file, own)
            return
        content, path = _short(source, file.digest), _short(source, file.path)
        tx.db.execute("INSERT OR IGNORE INTO device_contents(content) VALUES (?)", (content,))
        if file.mark:
            tx.db.execute("INSERT OR REPLACE INTO device_files(path, mark) VALUES (?, ?)", (path, file.mark))

    def tidy(self) -> None:
        """Forget the oldest beyond `KNOWN_KEEP`."""
        with self._spool.transaction() as tx:
            for table in ("device_contents", "device_files"):
                tx.db.execute(
                    f"DELETE FROM {table} WHERE row <= (SELECT max(row) FROM {table}) - ?",  # noqa: S608 - fixed names
                    (KNOWN_KEEP,),
                )


def _short(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
