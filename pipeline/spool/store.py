"""The spool itself: its connections, its locks, and its state in memory.

Memory holds only state that a restart may forget: which topic is next, which messages are claimed, which records were
sent when. The write lock guards the writer's connection and the state of a commit: `_expected`, `_next_row`,
`_size_bytes`, `_own_bytes`, `_commits`. The read lock guards the reader's connection and the state of the hand-out:
`_handout`, `_attempts`. Code that needs both takes the write lock first.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.errors import Retry
from pipeline.messages import Privacy
from pipeline.spool import file
from pipeline.spool.attempts import Attempts
from pipeline.spool.handout import Arrivals, HandOut
from pipeline.spool.records import Arrival, Item, Outgoing, Receipt
from pipeline.spool.transaction import Expected, Fingerprint, Transaction

log = logging.getLogger(__name__)

SEEN_KEEP = 500_000
"""Publishers' ids to remember (some 100 MB). A message that is repeated after more events than these is taken twice."""

TIDY_EVERY = 1000
"""Commits between two rounds that forget old ids and give free pages back to the file system."""

VACUUM_PAGES = 2000
"""Pages (4 KiB) given back in a round: bounded, since a commit waits for the round."""

INFLIGHT_MAX = 500
"""Sent and unsettled records of each hop's topic: bounds memory, and the broker's queue for a peer that is away."""

OWN_RESERVED_BYTES = 4 << 20
"""Room for an agent's own records (results, acknowledgements, refusals) beside the limit for new input."""


class Spool:
    """The inbox and outbox of one agent. Make it with `open`."""

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        lock: IO[bytes],
        own_hops: Collection[str] = (),
    ) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self._own_hops = own_hops
        self.arrivals = Arrivals()
        """Rings at each commit that stored a message."""
        self._writer = writer
        self._reader = reader
        self._lock_file = lock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._next_row = 1
        self._size_bytes = self._own_bytes = 0
        self._commits = 0
        self._closed = False
        self._expected: Expected = defaultdict(dict)
        self._handout = HandOut()
        self._attempts = Attempts()
        self._queued: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    @classmethod
    def open(cls, path: Path, *, limit_bytes: int, own_hops: Collection[str] = ()) -> Spool:
        """Open the file, creating it at first use, and bring its schema up to date.

        `own_hops` carry the agent's own records, whose first `OWN_RESERVED_BYTES` do not count towards the limit.

        Raises
        ------
        Stop
            The file is corrupt, not writable, written by a newer release, or used by another process.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(file.lock(path))
            try:
                writer = undo.enter_context(closing(file.connect(path)))
                file.migrate(writer, path, file.MIGRATIONS)
                reader = undo.enter_context(closing(file.connect(path)))
                spool = cls(path, limit_bytes, writer, reader, lock, own_hops)
                spool._load()
            except sqlite3.Error as error:
                raise file.mapped(error, path) from error
            undo.pop_all()
        return spool

    def migrate(self, name: str, scripts: Sequence[str]) -> None:
        """Bring an agent's own tables, named `name`, up to date by scripts like `file.MIGRATIONS`.

        Raises `Stop` if a newer release has written the tables.
        """
        with self._write_lock:
            try:
                file.migrate_tables(self._writer, self.path, name, scripts)
            except sqlite3.Error as error:
                raise file.mapped(error, self.path) from error

    def close(self) -> None:
        """Close the file. Claimed messages are handed out again after the next `open`."""
        with self._write_lock, self._read_lock:
            self._closed = True
            self._writer.close()
            self._reader.close()
            self._lock_file.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit and sync all changes made inside together, or none of them.

        Other writers wait meanwhile: do no network calls and no inference inside. Raises `Retry` if the disk is full or
        the spool is closed (nothing was changed), and `Stop` if the file is corrupt.
        """
        with self._write_lock:
            self._demand_open()
            cursor = self._writer.cursor()
            tx = Transaction(cursor, self._next_row, self._expected, self._room_bytes, self._own_hops)
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield tx
                cursor.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    self._writer.rollback()
                tx.forget()
                if isinstance(error, sqlite3.Error):
                    raise file.mapped(error, self.path) from error
                raise
            finally:
                cursor.close()
            self._apply(tx)
            self._commits += 1
            if self._commits % TIDY_EVERY == 0:
                self._tidy()

    def scrub(self) -> None:
        """Leave no trace of deleted rows: SQLite overwrites them in the file, and this empties the log beside it.

        Call it outside transactions, after private records were withdrawn; otherwise `TIDY_EVERY` is soon enough.

        Raises
        ------
        Retry
            The disk is full, or another program reads the file: deleted rows are still in the log.
        """
        with self._write_lock, self._read_lock:
            self._demand_open()
            try:
                emptied = file.empty_log(self._writer)
            except sqlite3.Error as error:
                raise file.mapped(error, self.path) from error
        if not emptied:
            raise Retry(f"{self.path}: another program reads it; deleted records are still in its log")

    # --- inbox -------------------------------------------------------------------------------------------------

    def receive(self, arrivals: Sequence[Arrival], link: str = "site") -> list[Receipt]:
        """Store these messages in one transaction; they are on disk when this returns."""
        with self.transaction() as tx:
            return tx.receive(arrivals, link)

    def reconnected(self, link: str, *, session_present: bool) -> int:
        """Prepare for redeliveries by the broker. Return the mark of the last row stored so far.

        Messages whose acknowledgement the broker may have missed are recognised until `broker_acknowledged`. A broker
        without a session for this client redelivers nothing.
        """
        with self._write_lock:
            mark = self._next_row - 1
        if not session_present:
            self.broker_acknowledged(link, mark)
            return mark
        rows = self.query(
            "SELECT topic, sha256, id FROM inbox WHERE link = ?1 AND row <= ?2"
            " AND row > ifnull((SELECT acknowledged FROM link WHERE name = ?1), 0) ORDER BY row",
            (link, mark),
        )
        expected: dict[Fingerprint, deque[str]] = {}
        for topic, digest, name in rows:
            expected.setdefault((topic, digest), deque()).append(name)
        with self._write_lock:
            self._expected[link] = expected
        return mark

    def broker_acknowledged(self, link: str, mark: int) -> None:
        """Note that the broker has all acknowledgements of this link up to the mark: it redelivers none of these."""
        with self.transaction() as tx:
            self._expected[link] = {}
            tx.db.execute(
                "INSERT INTO link VALUES (?, ?) ON CONFLICT DO UPDATE SET acknowledged = max(acknowledged, excluded.acknowledged)",
                (link, mark),
            )
            tx.db.execute("DELETE FROM inbox WHERE done = 1 AND row <= ? AND link = ?", (mark, link))

    @property
    def mark(self) -> int:
        """The mark of the last row stored so far, for `broker_acknowledged`."""
        return self._next_row - 1

    def waiting(self, limit: int, wanted: Callable[[str], bool] = lambda _: True) -> list[Item]:
        """Claim up to this many messages of wanted topics, fairly over the topics and in order within each.

        A claimed message is handed out again only after `release`, or after the file is opened anew. A closed spool
        returns no messages, so that waiting workers can stop.
        """
        with self._read_lock:
            return [] if self._closed else self._handout.take(limit, wanted, self._of_topic)

    def release(self, items: Iterable[Item]) -> None:
        """Give claimed messages back, to be handed out again."""
        with self._read_lock:
            self._handout.release(items)
        self.arrivals.ring()

    # --- outbox ------------------------------------------------------------------------------------------------

    def queued(self, hop: str) -> threading.Event:
        """Return the event that is set after each commit that changed this hop's outbox."""
        return self._queued[hop]

    def outgoing(self, hop: str, limit: int, now: float) -> list[Outgoing]:
        """Return the due records of this hop, in the order in which they were added; `now` is monotonic time."""
        with self._read_lock:
            due: list[tuple[int, str]] = []
            for (topic,) in self._fetch(file.each_topic("outbox", "hop = ?1"), (hop,)):
                window = self._fetch(
                    "SELECT seq, id FROM outbox WHERE hop = ? AND topic = ? ORDER BY seq LIMIT ?",
                    (hop, topic, INFLIGHT_MAX),
                )
                due += [(seq, name) for seq, name in window if self._attempts.is_due(hop, name, now)]
            records = []
            for seq, name in sorted(due)[:limit]:
                for row in self._fetch(
                    "SELECT topic, payload, created_at, event, kind, privacy FROM outbox WHERE seq = ?",
                    (seq,),
                ):
                    topic, payload, created_at, event, kind, privacy = row
                    records.append(
                        Outgoing(
                            id=name,
                            hop=hop,
                            topic=topic,
                            payload=payload,
                            created_at=created_at,
                            event=event,
                            kind=kind,
                            privacy=Privacy(privacy),
                            seq=seq,
                            attempts=self._attempts.sent(hop, name),
                        )
                    )
            return records

    def attempted(self, hop: str, ids: Iterable[str], next_at: float) -> None:
        """Note that these records were sent and when they are due again (monotonic time); a restart makes all due."""
        with self._read_lock:
            self._attempts.note(hop, ids, next_at)

    def make_due(self, hop: str) -> None:
        """Make all records of this hop due now, because the connection is new."""
        with self._read_lock:
            self._attempts.forget_hop(hop)
        self._queued[hop].set()

    def settle(self, hop: str, ids: Iterable[str]) -> int:
        """Remove the records that the next hop has acknowledged. Return how many were still kept."""
        with self.transaction() as tx:
            return tx.settle(hop, ids)

    def backlog(self, hop: str) -> int:
        """Return the number of this hop's unsettled records."""
        return int(self.query("SELECT count(*) FROM outbox WHERE hop = ?", (hop,))[0][0])

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def waiting_count(self) -> int:
        """The number of messages that no worker has finished."""
        return int(self.query("SELECT count(*) FROM inbox WHERE done = 0")[0][0])

    def waiting_of(self, *topics: str) -> int:
        """Return the number of messages of these topics that no worker has finished."""
        marks = ", ".join("?" * len(topics))
        return int(self.query(f"SELECT count(*) FROM inbox WHERE topic IN ({marks}) AND done = 0", topics)[0][0])  # noqa: S608 - of marks

    def oldest_waiting(self, wanted: Callable[[str], bool]) -> tuple[float, str] | None:
        """Return receipt and topic of the oldest message of these topics that no worker has finished."""
        received = [
            (row[0], topic)
            for (topic,) in self.query(file.each_topic("inbox", "done = 0"))
            if wanted(topic)
            for row in self.query(
                "SELECT received_at FROM inbox WHERE topic = ? AND done = 0 ORDER BY row LIMIT 1", (topic,)
            )
        ]
        return min(received, default=None)

    @property
    def size_bytes(self) -> int:
        """The size of all stored payloads."""
        return self._size_bytes

    @property
    def full(self) -> bool:
        """Return whether new messages find no room. Stored records are never dropped to make room."""
        return self._room_bytes <= 0

    @property
    def _room_bytes(self) -> int:
        return self.limit_bytes - self._size_bytes + min(self._own_bytes, OWN_RESERVED_BYTES)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Read committed rows, the agent's own tables included."""
        with self._read_lock:
            return self._fetch(sql, parameters)

    def _demand_open(self) -> None:
        """Raise `Retry` if the spool is closed: a thread that is still busy handles it like any interruption."""
        if self._closed:
            raise Retry(f"{self.path} is closed")

    def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        self._demand_open()
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise file.mapped(error, self.path) from error

    def _of_topic(self, topic: str, after: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a topic one at a time, since frames may be large."""
        try:
            yield from self._reader.execute(
                "SELECT row, id, topic, payload, received_at, captured_at FROM inbox"
                " WHERE topic = ? AND row > ? AND done = 0 ORDER BY row",
                (topic, after),
            )
        except sqlite3.Error as error:
            raise file.mapped(error, self.path) from error

    def _apply(self, tx: Transaction) -> None:
        """Update the state in memory after a commit."""
        self._next_row = tx.next_row
        self._size_bytes += tx.grown_bytes
        self._own_bytes += tx.own_grown_bytes
        with self._read_lock:
            for topic, row in tx.stored:
                self._handout.add(topic, row - 1)
            self._handout.finished(tx.finished)
            for hop, name in tx.touched:
                self._attempts.forget(hop, name)
        if tx.stored:
            self.arrivals.ring()
        for hop in {hop for hop, _ in tx.touched}:
            self._queued[hop].set()

    def _load(self) -> None:
        ((last, inbox_bytes),) = self._fetch(
            "SELECT max(ifnull((SELECT max(row) FROM inbox), 0), ifnull((SELECT max(acknowledged) FROM link), 0)),"
            " ifnull((SELECT sum(length(payload)) FROM inbox), 0)",
            (),
        )
        self._next_row = last + 1
        sizes = dict(self._fetch("SELECT hop, sum(length(payload)) FROM outbox GROUP BY hop", ()))
        self._size_bytes = inbox_bytes + sum(sizes.values())
        self._own_bytes = sum(sizes.get(hop, 0) for hop in self._own_hops)
        topics = self._fetch(file.each_topic("inbox", "done = 0"), ())
        for (topic,) in topics:
            self._handout.add(topic, 0)

    def _tidy(self) -> None:
        """Forget old ids and free pages. An error here does not undo the commit; a later round tries again."""
        try:
            self._writer.execute("DELETE FROM seen WHERE row <= (SELECT max(row) FROM seen) - ?", (SEEN_KEEP,))
            self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            with self._read_lock:
                file.empty_log(self._writer)
        except sqlite3.Error as error:
            log.warning("%s was not tidied: %s", self.path, error)
