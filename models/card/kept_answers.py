"""Answers that are kept, so that a run that was stopped goes on where it was.

A stretch of pictures is known by the digests of its bytes, the models and the settings: moved, renamed and copied
pictures are not answered again, and after any change that could change an answer, all are. Without use for `KEPT_S`
an answer is dropped.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipeline.files import private_files

KEPT_S: Final = 30 * 86_400.0

WAIT_S: Final = 30.0
"""Another run may be writing."""

_TABLE: Final = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, used_s REAL, body BLOB) WITHOUT ROWID"


class KeptAnswers:
    """A file of answers. A damaged one is begun anew: every answer can be made again."""

    def __init__(self, file: Path) -> None:
        """Open the file, or make it for its owner alone. Raises `OSError`, `sqlite3.Error`."""
        private_files.make_folder(file.parent)
        private_files.make_file(file)
        try:
            self._file = self._opened(file)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for part in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
                part.unlink(missing_ok=True)
            private_files.make_file(file)
            self._file = self._opened(file)

    @staticmethod
    def _opened(file: Path) -> sqlite3.Connection:
        opened = sqlite3.connect(file, timeout=WAIT_S)
        try:
            opened.execute("PRAGMA journal_mode=WAL")
            opened.execute("PRAGMA synchronous=NORMAL")
            opened.execute(_TABLE)
        except sqlite3.Error:
            opened.close()
            raise
        return opened

    def get(self, key: bytes) -> bytes | None:
        """Return the answers of a stretch."""
        row = self._file.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, bodies: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the answers of several stretches by their keys."""
        now_s = time.time()
        with self._file:
            self._file.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [(key, now_s, body) for key, body in bodies]
            )

    def close(self) -> None:
        """Drop what nobody used for long, and close the file."""
        with contextlib.closing(self._file), self._file:
            self._file.execute("DELETE FROM answers WHERE used_s < ?", (time.time() - KEPT_S,))
