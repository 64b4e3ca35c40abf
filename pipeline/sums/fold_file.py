"""The file under the fold: its schema and its rows. `pipeline.sums.fold` decides what stands in them.

One SQLite file, opened as the spools are (WAL, every commit synced, one process). Of each event stands what it gave to the
sums, so that exactly this can be taken out again; sums are one row a site and part, over the labels that hold events.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Stop
from pipeline.spool import file
from pipeline.sums.new_labels import Claim, NewLabel
from pipeline.sums.sums import Sums

SCHEMA: Final = (
    """
    CREATE TABLE about(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE place(
        source TEXT NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY(source, partition)) WITHOUT ROWID;
    CREATE TABLE event(
        event TEXT PRIMARY KEY, source TEXT NOT NULL, site TEXT NOT NULL, device TEXT NOT NULL, time TEXT NOT NULL,
        path TEXT NOT NULL, revision INTEGER NOT NULL, vector BLOB NOT NULL, votes BLOB NOT NULL,
        state TEXT NOT NULL, label TEXT NOT NULL, part TEXT NOT NULL, known INTEGER NOT NULL, under TEXT NOT NULL,
        english TEXT NOT NULL, change INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX event_by_change ON event(change);
    CREATE INDEX event_by_device ON event(site, device);
    CREATE INDEX event_by_state ON event(state, label);
    CREATE INDEX event_by_new_label ON event(label, under) WHERE known = 0;
    CREATE TABLE sums(
        site TEXT NOT NULL, part TEXT NOT NULL, snapshot BLOB NOT NULL, PRIMARY KEY(site, part)) WITHOUT ROWID;
    CREATE TABLE held(
        site TEXT NOT NULL, part TEXT NOT NULL, label TEXT NOT NULL, events INTEGER NOT NULL,
        PRIMARY KEY(site, part, label)) WITHOUT ROWID;
    CREATE TABLE new_label(
        label TEXT PRIMARY KEY, kingdom TEXT NOT NULL, family TEXT NOT NULL, english TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE increment(
        site TEXT NOT NULL, number INTEGER NOT NULL, sha256 BLOB NOT NULL, events INTEGER NOT NULL,
        PRIMARY KEY(site, number)) WITHOUT ROWID;
    CREATE TABLE told_new(
        site TEXT NOT NULL, label TEXT NOT NULL, under TEXT NOT NULL, events INTEGER NOT NULL,
        PRIMARY KEY(site, label, under)) WITHOUT ROWID;
    CREATE TABLE forgotten(kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(kind, name)) WITHOUT ROWID;
    """,
)
"""One script a schema version, as the spool's."""


STANDS: Final = "stands"
DISPUTED: Final = "disputed"
UNPLACED: Final = "unplaced"
"""Its label is not in the tree, and nobody said where it belongs; it counts as soon as somebody does."""
SILENT: Final = "silent"
"""Every word about it was taken back."""

TAUGHT: Final = "taught"
JUDGES: Final = "judges"
TOLD: Final = "told"
"""Sums that a site told, of events that are its own to know."""


class EventRow(NamedTuple):
    """An event and what it gave to the sums: `label` in `part`, if its `state` is ``stands``."""

    event: str
    source: str
    site: str
    device: str
    time: str
    path: str
    revision: int
    vector: bytes
    votes: bytes
    state: str
    label: str
    part: str
    known: bool
    """Whether the tree has the label; where it does not, `under` says where it belongs, or nothing."""
    under: str
    english: str
    change: int
    """Grows with each batch that changed anything."""


class Range(NamedTuple):
    """What was read of a partition: from `first` up to, and without, `next`."""

    source: str
    partition: int
    first: int
    next: int


class FoldFile:
    """Rows in, rows out. Thread-safe by `transaction`, which everything here is called in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.RLock()
        self._held = file.lock(path)
        try:
            with self._mapped():
                self._db = file.connect(path)
        except BaseException:
            self._held.close()
            raise
        try:
            with self._mapped():
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with self._mutex:
            self._db.close()
            self._held.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, whatever is raised inside."""
        with self._mutex, self._mapped():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise file.mapped(error, self._path) from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(SCHEMA):
            raise Stop(
                f"{self._path} has schema version {version}, this release knows {len(SCHEMA)}: install the newer release "
                "again, or move the file away (it is folded anew from what Kafka still holds)"
            )
        for number, script in enumerate(SCHEMA[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT")

    # --- what the file is about ----------------------------------------------------------------------------------

    def about(self, name: str) -> str:
        found = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def set_about(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    # --- places ----------------------------------------------------------------------------------------------------

    def ranges(self) -> tuple[Range, ...]:
        return tuple(
            Range(*row) for row in self._db.execute("SELECT * FROM place ORDER BY source, partition")
        )

    def next(self, source: str, partition: int) -> int:
        """The first offset that was not taken yet."""
        found = self._db.execute(
            "SELECT next FROM place WHERE source = ? AND partition = ?", (source, partition)
        ).fetchone()
        return int(found[0]) if found else 0

    def took(self, source: str, partition: int, offset: int) -> None:
        self._db.execute(
            "INSERT INTO place VALUES (?1, ?2, ?3, ?3 + 1) ON CONFLICT DO UPDATE SET next = ?3 + 1",
            (source, partition, offset),
        )

    def rewind(self, source: str, partition: int) -> None:
        self._db.execute("DELETE FROM place WHERE source = ? AND partition = ?", (source, partition))

    # --- events ------------------------------------------------------------------------------------------------------

    def event(self, event: str) -> EventRow | None:
        found = self._db.execute("SELECT * FROM event WHERE event = ?", (event,)).fetchone()
        return EventRow(*found) if found else None

    def put(self, row: EventRow) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO event VALUES ({','.join('?' * len(row))})", row)  # noqa: S608 - marks

    def drop(self, event: str) -> None:
        self._db.execute("DELETE FROM event WHERE event = ?", (event,))

    def events(self, **where: str) -> Iterator[EventRow]:
        """Whose columns have these values, by id."""
        condition = " AND ".join(f"{column} = ?" for column in where) or "1"
        sql = f"SELECT * FROM event WHERE {condition} ORDER BY event"  # noqa: S608 - our own columns
        return (EventRow(*row) for row in self._db.execute(sql, tuple(where.values())).fetchall())

    def since(self, change: int) -> list[tuple[str, str]]:
        """Label, and what had been answered (``animal/Felidae``), of events that stand and changed later."""
        sql = "SELECT label, path FROM event WHERE change > ? AND state = ?"
        return self._db.execute(sql, (change, STANDS)).fetchall()

    # --- sums ----------------------------------------------------------------------------------------------------------

    def sums(self, site: str, part: str) -> Sums | None:
        found = self._db.execute(
            "SELECT snapshot FROM sums WHERE site = ? AND part = ?", (site, part)
        ).fetchone()
        return Sums.restore(found[0]) if found else None

    def set_sums(self, site: str, part: str, sums: Sums) -> None:
        """Over the labels that hold events, in order: equal contents make an equal row, none make none."""
        self.drop_sums(site, part)
        kept = sorted(label for at, label in enumerate(sums.labels) if sums.counts[at])
        if not kept:
            return
        lean = sums if kept == list(sums.labels) else sums.with_labels(kept)
        self._db.execute("INSERT INTO sums VALUES (?, ?, ?)", (site, part, lean.snapshot()))
        rows = [(site, part, label, int(count)) for label, count in zip(kept, lean.counts, strict=True)]
        self._db.executemany("INSERT INTO held VALUES (?, ?, ?, ?)", rows)

    def drop_sums(self, site: str, part: str) -> None:
        for table in ("sums", "held"):
            self._db.execute(f"DELETE FROM {table} WHERE site = ? AND part = ?", (site, part))  # noqa: S608 - our own

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Site, part, label, events."""
        return self._db.execute("SELECT * FROM held ORDER BY site, part, label").fetchall()

    # --- labels that are new, increments, what was forgotten --------------------------------------------------------

    def new_labels(self) -> tuple[NewLabel, ...]:
        return tuple(NewLabel(*row) for row in self._db.execute("SELECT * FROM new_label ORDER BY label"))

    def set_new_labels(self, rows: Iterable[NewLabel]) -> None:
        self._db.execute("DELETE FROM new_label")
        self._db.executemany("INSERT INTO new_label VALUES (?, ?, ?, ?)", rows)

    def claims(self) -> list[Claim]:
        """Where the events of each new label say that it belongs."""
        sql = """
            SELECT label, under, MAX(english), SUM(events), MIN(first) FROM (
                SELECT label, under, english, 1 AS events, event AS first FROM event WHERE known = 0 AND label <> ''
                UNION ALL SELECT label, under, '', events, site FROM told_new)
            GROUP BY label, under"""
        return [Claim(*row) for row in self._db.execute(sql)]

    def new_label_events(self) -> list[tuple[str, str, str, str]]:
        """Event, state, label, under."""
        return self._db.execute("SELECT event, state, label, under FROM event WHERE known = 0").fetchall()

    def told_new(self, site: str, label: str, under: str, events: int) -> None:
        sql = "INSERT INTO told_new VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET events = events + ?4"
        self._db.execute(sql, (site, label, under, events))

    def increment(self, site: str, number: int) -> bytes | None:
        """The digest of what came under this number."""
        found = self._db.execute(
            "SELECT sha256 FROM increment WHERE site = ? AND number = ?", (site, number)
        ).fetchone()
        return bytes(found[0]) if found else None

    def add_increment(self, site: str, number: int, sha256: bytes, events: int) -> None:
        self._db.execute("INSERT INTO increment VALUES (?, ?, ?, ?)", (site, number, sha256, events))

    def increments(self) -> list[tuple[str, int, int]]:
        """Site, how many increments, how many events in them."""
        sql = "SELECT site, COUNT(*), SUM(events) FROM increment GROUP BY site ORDER BY site"
        return self._db.execute(sql).fetchall()

    def drop_increments(self, site: str) -> int:
        self._db.execute("DELETE FROM told_new WHERE site = ?", (site,))
        return self._db.execute("DELETE FROM increment WHERE site = ?", (site,)).rowcount

    def forget(self, kind: str, name: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (kind, name))

    def is_forgotten(self, names: Iterable[tuple[str, str]]) -> bool:
        return any(
            self._db.execute("SELECT 1 FROM forgotten WHERE kind = ? AND name = ?", name).fetchone()
            for name in names
        )

    def forgotten(self) -> list[tuple[str, str]]:
        return self._db.execute("SELECT * FROM forgotten ORDER BY kind, name").fetchall()


def vectors_of(rows: Sequence[EventRow], dimension: int) -> NDArray[np.uint8]:
    """Their features, (n, d)."""
    return np.frombuffer(b"".join(row.vector for row in rows), np.uint8).reshape(len(rows), dimension)
