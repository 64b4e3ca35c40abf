"""The spool itself: its connections, its locks, and what it keeps in memory.

In memory is only what a restart may forget: whose turn it is, what is claimed, what was sent when. The write lock
guards the writer's connection and, with it, what belongs to a commit: `_expected`, `_next_row`, `_size_bytes`,
`_commits`. The read lock guards the reader's connection and what is handed out: `_turn`, `_claimed`, `_attempts`.
Who needs both takes the write lock first.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.errors import Retry
from pipeline.messages import Privacy
from pipeline.spool import file
from pipeline.spool.attempts import Attempts
from pipeline.spool.records import Arrival, Item, Outgoing, Receipt
from pipeline.spool.transaction import Expected, Fingerprint, Transaction

log = logging.getLogger(__name__)

SEEN_KEEP = 500_000
"""Own ids remembered: some 100 MB; a publisher that repeats after more events than these is taken twice."""

TIDY_EVERY = 1000
"""Commits between two rounds of forgetting old ids and giving freed pages back to the file system."""

VACUUM_PAGES = 2000
"""Pages (4 KiB) given back a round: bounded, since a commit waits for it."""

INFLIGHT_MAX = 500
"""Sent and unsettled records of a topic of a hop: bounds memory, and the broker's queue for a peer that is away."""

HANDOUT_MAX_BYTES = 32 << 20
"""Payloads of one `waiting` call: two frames of the largest kind."""


def _each_topic(table: str, where: str) -> str:
    """SQL for the topics of some rows: one look at the index a topic, however many rows there are."""
    return (
        f"WITH RECURSIVE t(topic) AS (SELECT min(topic) FROM {table} WHERE {where} UNION ALL"  # noqa: S608 - fixed texts
        f" SELECT (SELECT min(topic) FROM {table} WHERE {where} AND topic > t.topic) FROM t WHERE t.topic IS NOT NULL)"
        " SELECT topic FROM t WHERE topic IS NOT NULL"
    )


class Spool:
    """Made by `open`; see the module."""

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        lock: IO[bytes],
    ) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.arrived = threading.Event()
        """Set after each commit that stored something: wait on it when `waiting` returned nothing."""
        self._writer = writer
        self._reader = reader
        self._lock_file = lock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._next_row = 1
        self._size_bytes = 0
        self._commits = 0
        self._closed = False
        self._expected: Expected = defaultdict(dict)
        self._turn: OrderedDict[str, int] = OrderedDict()
        """Topics with rows to hand out, in whose turn it is, and the last row handed out of each."""
        self._claimed: set[int] = set()
        self._attempts = Attempts()
        self._queued: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    @classmethod
    def open(cls, path: Path, *, limit_bytes: int) -> Spool:
        """Open the file, made on first use, and bring its schema up to date.

        Raises
        ------
        Stop
            It is corrupt, cannot be written, belongs to a newer release, or another process uses it.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(file.lock(path))
            try:
                writer = undo.enter_context(closing(file.connect(path)))
                file.migrate(writer, path)
                reader = undo.enter_context(closing(file.connect(path)))
                spool = cls(path, limit_bytes, writer, reader, lock)
                spool._load()
            except sqlite3.Error as error:
                raise file.mapped(error, path) from error
            undo.pop_all()
        return spool

    def migrate(self, name: str, scripts: Sequence[str]) -> None:
        """Bring an agent's own tables up to date, for use within transactions; `name` is theirs within this file.

        Scripts are as `file.MIGRATIONS`: one a version, only appended to. Raises `Stop`: a newer release wrote them.
        """
        with self._write_lock:
            try:
                file.migrate_tables(self._writer, self.path, name, scripts)
            except sqlite3.Error as error:
                raise file.mapped(error, self.path) from error

    def close(self) -> None:
        """Let go of the file. What is claimed will be handed out again."""
        with self._write_lock, self._read_lock:
            self._closed = True
            self._writer.close()
            self._reader.close()
            self._lock_file.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything done in it is committed (and synced) together, or nothing is.

        Other writers wait meanwhile: no network and no inference inside.

        Raises
        ------
        Retry
            The disk is full, or the file was closed: nothing was changed.
        Stop
            The file is corrupt.
        """
        with self._write_lock:
            self._demand_open()
            cursor = self._writer.cursor()
            tx = Transaction(cursor, self._next_row, self._expected)
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
        """Leave no trace of what was deleted: it is overwritten in the file, and goes from the log beside it, too.

        For what was withdrawn, outside transactions; all else follows within `TIDY_EVERY` commits.

        Raises
        ------
        Retry
            The disk is full, or another program reads the file: what was deleted still stands in the log.
        """
        with self._write_lock, self._read_lock:
            self._demand_open()
            try:
                emptied = file.empty_log(self._writer)
            except sqlite3.Error as error:
                raise file.mapped(error, self.path) from error
        if not emptied:
            raise Retry(f"{self.path}: another program reads it; what was deleted stays in its log")

    # --- inbox -------------------------------------------------------------------------------------------------

    def receive(self, arrivals: Sequence[Arrival], link: str = "site") -> list[Receipt]:
        """Store these in one transaction; when it returns they are on disk."""
        with self.transaction() as tx:
            return tx.receive(arrivals, link)

    def reconnected(self, link: str, *, session_present: bool) -> int:
        """Prepare for what the broker will deliver again; returns the mark of the last row stored so far.

        Messages whose acknowledgement it may have missed are recognised until `broker_acknowledged`. A broker that
        kept no session redelivers nothing.
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
        """The broker surely has the acknowledgements of this link's rows up to the mark: none comes again."""
        with self.transaction() as tx:
            self._expected[link] = {}
            tx.db.execute(
                "INSERT INTO link VALUES (?, ?) ON CONFLICT DO UPDATE SET acknowledged = max(acknowledged, excluded.acknowledged)",
                (link, mark),
            )
            tx.db.execute("DELETE FROM inbox WHERE done = 1 AND row <= ? AND link = ?", (mark, link))

    @property
    def mark(self) -> int:
        """Of the last row stored so far: what `broker_acknowledged` takes."""
        return self._next_row - 1

    def waiting(self, limit: int) -> list[Item]:
        """Claim up to this many messages: fair over topics, in order within one.

        They are not handed out again until `release`, or until the file is opened anew. After `close` there are none:
        whoever waits for work finds out that it is to stop.
        """
        items: list[Item] = []
        size_bytes = 0
        with self._read_lock:
            if self._closed:
                return items
            share = max(1, limit // max(1, len(self._turn)))
            while self._turn and len(items) < limit and size_bytes < HANDOUT_MAX_BYTES:
                topic, last = self._turn.popitem(last=False)
                taken = 0
                for item in map(Item._make, self._of_topic(topic, last)):
                    if item.row not in self._claimed:
                        self._claimed.add(item.row)
                        items.append(item)
                        size_bytes += len(item.payload)
                        taken += 1
                    last = item.row
                    if taken == share or len(items) == limit or size_bytes >= HANDOUT_MAX_BYTES:
                        self._turn[topic] = last
                        break
        return items

    def release(self, items: Iterable[Item]) -> None:
        """Give claimed messages back: they will be handed out again."""
        with self._read_lock:
            for item in items:
                self._claimed.discard(item.row)
                self._turn[item.topic] = min(self._turn.get(item.topic, item.row), item.row - 1)
        self.arrived.set()

    # --- outbox ------------------------------------------------------------------------------------------------

    def queued(self, hop: str) -> threading.Event:
        """Set after each commit that changed this hop's outbox."""
        return self._queued[hop]

    def outgoing(self, hop: str, limit: int, now: float) -> list[Outgoing]:
        """Records of this hop that are due, in the order in which they were put."""
        with self._read_lock:
            due: list[tuple[int, str]] = []
            for (topic,) in self._fetch(_each_topic("outbox", "hop = ?1"), (hop,)):
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
        """These were sent; they are due again at this time. In memory only: after a restart all are due."""
        with self._read_lock:
            self._attempts.note(hop, ids, next_at)

    def make_due(self, hop: str) -> None:
        """Everything of this hop is due now: the connection is new."""
        with self._read_lock:
            self._attempts.forget_hop(hop)
        self._queued[hop].set()

    def settle(self, hop: str, ids: Iterable[str]) -> int:
        """The next hop has acknowledged these; returns how many were still kept."""
        with self.transaction() as tx:
            return tx.settle(hop, ids)

    def backlog(self, hop: str) -> int:
        """Records of this hop that are not settled."""
        return int(self.query("SELECT count(*) FROM outbox WHERE hop = ?", (hop,))[0][0])

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def waiting_count(self) -> int:
        """Messages that no worker has finished."""
        return int(self.query("SELECT count(*) FROM inbox WHERE done = 0")[0][0])

    @property
    def size_bytes(self) -> int:
        """Of all payloads kept."""
        return self._size_bytes

    @property
    def full(self) -> bool:
        """More is kept than the settings allow: refuse new input; what was acknowledged is never dropped."""
        return self._size_bytes >= self.limit_bytes

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Read committed state, the agent's own tables included."""
        with self._read_lock:
            return self._fetch(sql, parameters)

    def _demand_open(self) -> None:
        """Threads that are still busy when the agent stops learn it like any other interruption."""
        if self._closed:
            raise Retry(f"{self.path} is closed")

    def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        self._demand_open()
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise file.mapped(error, self.path) from error

    def _of_topic(self, topic: str, after: int) -> Iterator[tuple[Any, ...]]:
        """Rows of one topic, fetched one at a time: a frame may be large."""
        try:
            yield from self._reader.execute(
                "SELECT row, id, topic, payload, received_at FROM inbox"
                " WHERE topic = ? AND row > ? AND done = 0 ORDER BY row",
                (topic, after),
            )
        except sqlite3.Error as error:
            raise file.mapped(error, self.path) from error

    def _apply(self, tx: Transaction) -> None:
        """Bring the memory up to what was just committed."""
        self._next_row = tx.next_row
        self._size_bytes += tx.grown_bytes
        with self._read_lock:
            for topic, row in tx.stored:
                self._turn.setdefault(topic, row - 1)
            self._claimed.difference_update(tx.finished)
            for hop, name in tx.touched:
                self._attempts.forget(hop, name)
        if tx.stored:
            self.arrived.set()
        for hop in {hop for hop, _ in tx.touched}:
            self._queued[hop].set()

    def _load(self) -> None:
        ((last, size_bytes),) = self._fetch(
            "SELECT max(ifnull((SELECT max(row) FROM inbox), 0), ifnull((SELECT max(acknowledged) FROM link), 0)),"
            " ifnull((SELECT sum(length(payload)) FROM inbox), 0) + ifnull((SELECT sum(length(payload)) FROM outbox), 0)",
            (),
        )
        self._next_row = last + 1
        self._size_bytes = size_bytes
        topics = self._fetch(_each_topic("inbox", "done = 0"), ())
        self._turn.update((topic, 0) for (topic,) in topics)

    def _tidy(self) -> None:
        """What was just committed stands, whatever this finds: a later round does what this one could not."""
        try:
            self._writer.execute(
                "DELETE FROM seen WHERE row <= (SELECT max(row) FROM seen) - ?", (SEEN_KEEP,)
            )
            self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            with self._read_lock:
                file.empty_log(self._writer)
        except sqlite3.Error as error:
            log.warning("%s was not tidied: %s", self.path, error)
