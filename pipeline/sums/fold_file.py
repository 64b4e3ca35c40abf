"""The SQLite file under the fold: its schema and its rows. `pipeline.sums.fold` decides their content.

The file is opened like a spool (WAL, every commit synced, one process). It stores what each event added to the sums, so
that exactly this can be taken out again. Each site and part has one row of sums, over the labels that hold events::

    with fold_file.transaction():
        fold_file.put(row)
        fold_file.set_sums("home", TAUGHT, sums)
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
"""One script for each schema version, like the spool's."""


STANDS: Final = "stands"
DISPUTED: Final = "disputed"
UNPLACED: Final = "unplaced"
"""The event's label has no place in the tree. The event counts as soon as a person gives the label a place."""
SILENT: Final = "silent"
"""All votes on the event were withdrawn."""

TAUGHT: Final = "taught"
JUDGES: Final = "judges"
SHARED: Final = "told"
"""Sums that a site has shared; only the site knows their events. (Files on disk hold this older name.)"""


class EventRow(NamedTuple):
    """An event, and what it added to the sums: `label` in `part`, if its `state` is ``stands``."""

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
    """True if the tree has the label. If not, `under` is the label's place, or empty."""
    under: str
    english: str
    change: int
    """Grows with each batch that changed the sums."""


class Range(NamedTuple):
    """The offsets read from a partition: from `first` to before `next`."""

    source: str
    partition: int
    first: int
    next: int


class FoldFile:
    """Writes and reads rows. Call every method within `transaction`, which makes it thread-safe."""

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
                file.migrate(self._db, path, SCHEMA, "the fold is built again from the records in Kafka")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        with self._mutex:
            self._db.close()
            self._held.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes made inside, or none if an error is raised."""
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

    # --- facts about the file ------------------------------------------------------------------------------------

    def about(self, name: str) -> str:
        """Return a fact about the file, or an empty text."""
        found = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def set_about(self, name: str, value: str) -> None:
        """Store a fact about the file."""
        self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    # --- offsets -------------------------------------------------------------------------------------------------

    def ranges(self) -> tuple[Range, ...]:
        """Return the offsets read so far."""
        return tuple(Range(*row) for row in self._db.execute("SELECT * FROM place ORDER BY source, partition"))

    def next(self, source: str, partition: int) -> int:
        """Return the offset to read next."""
        found = self._db.execute(
            "SELECT next FROM place WHERE source = ? AND partition = ?", (source, partition)
        ).fetchone()
        return int(found[0]) if found else 0

    def took(self, source: str, partition: int, offset: int) -> None:
        """Note that the record at this offset was taken."""
        self._db.execute(
            "INSERT INTO place VALUES (?1, ?2, ?3, ?3 + 1) ON CONFLICT DO UPDATE SET next = ?3 + 1",
            (source, partition, offset),
        )

    def rewind(self, source: str, partition: int) -> None:
        """Forget a partition's offsets."""
        self._db.execute("DELETE FROM place WHERE source = ? AND partition = ?", (source, partition))

    # --- events --------------------------------------------------------------------------------------------------

    def event(self, event: str) -> EventRow | None:
        """Return the row of an event, or None."""
        found = self._db.execute("SELECT * FROM event WHERE event = ?", (event,)).fetchone()
        return EventRow(*found) if found else None

    def put(self, row: EventRow) -> None:
        """Store the row of an event in place of an earlier one."""
        self._db.execute(f"INSERT OR REPLACE INTO event VALUES ({','.join('?' * len(row))})", row)  # noqa: S608 - marks

    def drop(self, event: str) -> None:
        """Delete the row of an event."""
        self._db.execute("DELETE FROM event WHERE event = ?", (event,))

    def events(self, **where: str) -> Iterator[EventRow]:
        """Return the events whose columns have these values, in the order of their ids."""
        condition = " AND ".join(f"{column} = ?" for column in where) or "1"
        sql = f"SELECT * FROM event WHERE {condition} ORDER BY event"  # noqa: S608 - our own columns
        return (EventRow(*row) for row in self._db.execute(sql, tuple(where.values())).fetchall())

    def since(self, change: int) -> list[tuple[str, str]]:
        """Return label and earlier answer (``animal/Felidae``) of counting events that changed after `change`."""
        sql = "SELECT label, path FROM event WHERE change > ? AND state = ?"
        return self._db.execute(sql, (change, STANDS)).fetchall()

    # --- sums ----------------------------------------------------------------------------------------------------

    def sums(self, site: str, part: str) -> Sums | None:
        """Return the sums of a site's part, or None."""
        found = self._db.execute("SELECT snapshot FROM sums WHERE site = ? AND part = ?", (site, part)).fetchone()
        return Sums.restore(found[0]) if found else None

    def set_sums(self, site: str, part: str, sums: Sums) -> None:
        """Store sums over the labels that hold events, in order, so that equal sums make an equal row."""
        self.drop_sums(site, part)
        kept = sorted(label for at, label in enumerate(sums.labels) if sums.counts[at])
        if not kept:
            return
        lean = sums if kept == list(sums.labels) else sums.with_labels(kept)
        self._db.execute("INSERT INTO sums VALUES (?, ?, ?)", (site, part, lean.snapshot()))
        rows = [(site, part, label, int(count)) for label, count in zip(kept, lean.counts, strict=True)]
        self._db.executemany("INSERT INTO held VALUES (?, ?, ?, ?)", rows)

    def drop_sums(self, site: str, part: str) -> None:
        """Delete the sums of a site's part."""
        for table in ("sums", "held"):
            self._db.execute(f"DELETE FROM {table} WHERE site = ? AND part = ?", (site, part))  # noqa: S608 - our own

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Return site, part, label and number of events of all sums."""
        return self._db.execute("SELECT * FROM held ORDER BY site, part, label").fetchall()

    # --- new labels, increments, forgotten names -----------------------------------------------------------------

    def new_labels(self) -> tuple[NewLabel, ...]:
        """Return the labels that the tree lacks, with their places."""
        return tuple(NewLabel(*row) for row in self._db.execute("SELECT * FROM new_label ORDER BY label"))

    def set_new_labels(self, rows: Iterable[NewLabel]) -> None:
        """Replace the new labels."""
        self._db.execute("DELETE FROM new_label")
        self._db.executemany("INSERT INTO new_label VALUES (?, ?, ?, ?)", rows)

    def claims(self) -> list[Claim]:
        """Return the places that the events and increments claim for each new label."""
        sql = """
            SELECT label, under, MAX(english), SUM(events), MIN(first) FROM (
                SELECT label, under, english, 1 AS events, event AS first FROM event WHERE known = 0 AND label <> ''
                UNION ALL SELECT label, under, '', events, site FROM told_new)
            GROUP BY label, under"""
        return [Claim(*row) for row in self._db.execute(sql)]

    def new_label_events(self) -> list[tuple[str, str, str, str]]:
        """Return event, state, label and claimed place of all events with a new label."""
        return self._db.execute("SELECT event, state, label, under FROM event WHERE known = 0").fetchall()

    def add_shared_new_label(self, site: str, label: str, under: str, events: int) -> None:
        """Note the place that a site's increment gives to a new label."""
        sql = "INSERT INTO told_new VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET events = events + ?4"
        self._db.execute(sql, (site, label, under, events))

    def increment(self, site: str, number: int) -> bytes | None:
        """Return the digest of a site's increment with this number, or None."""
        found = self._db.execute(
            "SELECT sha256 FROM increment WHERE site = ? AND number = ?", (site, number)
        ).fetchone()
        return bytes(found[0]) if found else None

    def add_increment(self, site: str, number: int, sha256: bytes, events: int) -> None:
        """Note that an increment was taken."""
        self._db.execute("INSERT INTO increment VALUES (?, ?, ?, ?)", (site, number, sha256, events))

    def drop_increments(self, site: str) -> int:
        """Delete a site's increments and their new labels. Return how many increments."""
        self._db.execute("DELETE FROM told_new WHERE site = ?", (site,))
        return self._db.execute("DELETE FROM increment WHERE site = ?", (site,)).rowcount

    def forget(self, kind: str, name: str) -> None:
        """Note that an event, device or site is out for good."""
        self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (kind, name))

    def is_forgotten(self, names: Iterable[tuple[str, str]]) -> bool:
        """Return whether one of these (kind and name) is out for good."""
        return any(
            self._db.execute("SELECT 1 FROM forgotten WHERE kind = ? AND name = ?", name).fetchone() for name in names
        )

    def forgotten(self) -> list[tuple[str, str]]:
        """Return kind and name of everything that is out for good."""
        return self._db.execute("SELECT * FROM forgotten ORDER BY kind, name").fetchall()


def vectors_of(rows: Sequence[EventRow], dimension: int) -> NDArray[np.uint8]:
    """Return the features of these events, uint8 (n, d)."""
    return np.frombuffer(b"".join(row.vector for row in rows), np.uint8).reshape(len(rows), dimension)
