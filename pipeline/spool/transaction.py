"""What is committed together: the statements, and what they change in the spool's memory once committed.

::

    with spool.transaction() as tx:
        (receipt,) = tx.receive([arrival])
        tx.send(answer)
        tx.db.execute("INSERT INTO mine ...")
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence

from pipeline.ids import event_id
from pipeline.spool.records import Arrival, Item, Outgoing, Receipt

Fingerprint = tuple[str, bytes]
"""Topic and SHA-256: what a redelivery is recognised by."""

Expected = defaultdict[str, dict[Fingerprint, deque[str]]]
"""By link: ids of stored messages that the broker may deliver once more, oldest first."""


class Transaction:
    """Made by `Spool.transaction`, which looks at the lists once it is committed."""

    def __init__(self, db: sqlite3.Cursor, next_row: int, expected: Expected) -> None:
        self.db = db
        """For the agent's own tables."""
        self.next_row = next_row
        self.grown_bytes = 0
        self.stored: list[tuple[str, int]] = []
        """Topic and row."""
        self.finished: list[int] = []
        self.touched: list[tuple[str, str]] = []
        """Hop and id of what was put into the outbox or taken from it."""
        self._expected = expected
        self._matched: list[tuple[str, Fingerprint, str]] = []

    def forget(self) -> None:
        """It was rolled back: the redeliveries recognised in it are expected again."""
        for link, fingerprint, name in reversed(self._matched):
            self._expected[link][fingerprint].appendleft(name)

    def receive(self, arrivals: Sequence[Arrival], link: str = "site") -> list[Receipt]:
        """Store these, in order; `link` names the connection that they came over.

        The empty one is no connection: what came over it (from a camera of the agent's own) never comes again.
        """
        expected = self._expected[link]
        receipts: list[Receipt] = []
        rows: list[tuple[int, str, str, bytes, float, str, bytes]] = []
        row = self.next_row
        for topic, payload, received_at, own_id in arrivals:
            digest = hashlib.sha256(payload).digest()
            repeat = conflict = False
            if own_id is not None:
                name = own_id
                known = self._remember(own_id, topic, digest)
                repeat = known == (topic, digest)
                conflict = known is not None and not repeat
            elif expected and (ids := expected.get((topic, digest))):
                name = ids.popleft()
                self._matched.append((link, (topic, digest), name))
                repeat = True
            else:
                name = event_id(received_at)
            if not (repeat or conflict):
                rows.append((row, name, topic, payload, received_at, link, digest))
                self.stored.append((topic, row))
                self.grown_bytes += len(payload)
                row += 1
            receipts.append(Receipt(name, topic, payload, digest.hex(), repeat, conflict))
        self.next_row = row
        self.db.executemany(
            "INSERT INTO inbox(row, id, topic, payload, received_at, link, sha256) VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        return receipts

    def finish(self, *items: Item) -> None:
        """These are done with: their payloads are purged.

        A row that the broker may deliver once more stays, without its payload, until `broker_acknowledged`.
        """
        for item in items:
            self.db.execute(
                "DELETE FROM inbox WHERE row = ? AND (inbox.link = ''"
                " OR row <= ifnull((SELECT acknowledged FROM link WHERE name = inbox.link), 0))",
                (item.row,),
            )
            if self.db.rowcount == 0:
                self.db.execute("UPDATE inbox SET payload = NULL, done = 1 WHERE row = ?", (item.row,))
            self.finished.append(item.row)
            self.grown_bytes -= len(item.payload)

    def send(self, *outgoing: Outgoing) -> None:
        """Put these into the outbox; one of an id that is already there replaces it."""
        for out in outgoing:
            self._delete_outgoing("hop = ? AND id = ?", (out.hop, out.id))
            self.db.execute(
                "INSERT INTO outbox(hop, id, topic, payload, created_at, event, kind, privacy)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    out.hop,
                    out.id,
                    out.topic,
                    out.payload,
                    out.created_at,
                    out.event,
                    out.kind,
                    out.privacy.value,
                ),
            )
            self.touched.append((out.hop, out.id))
            self.grown_bytes += len(out.payload)

    def settle(self, hop: str, ids: Iterable[str]) -> int:
        """The next hop has acknowledged these; returns how many were still kept."""
        return sum(self._delete_outgoing("hop = ? AND id = ?", (hop, name)) for name in ids)

    def settle_exactly(self, records: Iterable[Outgoing]) -> int:
        """As `settle`, but spares a record that has replaced the one given here."""
        return sum(self._delete_outgoing("seq = ?", (record.seq,)) for record in records)

    def cancel(self, event: str, *, hop: str | None = None, kinds: Collection[str] | None = None) -> int:
        """Withdraw an event's records that were not acknowledged yet; returns how many."""
        where = "event = ? AND event <> ''"
        parameters: list[object] = [event]
        if hop is not None:
            where += " AND hop = ?"
            parameters.append(hop)
        if kinds is not None:
            where += f" AND kind IN ({', '.join('?' * len(kinds))})"
            parameters += kinds
        return self._delete_outgoing(where, parameters)

    def expire(self, hop: str, before: float) -> int:
        """Give up this hop's records that were put before this time, seconds since the epoch; returns how many."""
        return self._delete_outgoing("hop = ? AND created_at < ?", (hop, before))

    def _remember(self, own_id: str, topic: str, digest: bytes) -> Fingerprint | None:
        """What this id named already; None if it is new."""
        self.db.execute(
            "INSERT OR IGNORE INTO seen(id, topic, sha256) VALUES (?, ?, ?)", (own_id, topic, digest)
        )
        if self.db.rowcount:
            return None
        known: Fingerprint = self.db.execute(
            "SELECT topic, sha256 FROM seen WHERE id = ?", (own_id,)
        ).fetchone()
        return known if known[0] else (topic, digest)  # of an earlier schema, which kept the id alone

    def _delete_outgoing(self, where: str, parameters: Sequence[object]) -> int:
        deleted = self.db.execute(
            f"DELETE FROM outbox WHERE {where} RETURNING hop, id, length(payload)",  # noqa: S608 - of fixed texts
            parameters,
        ).fetchall()
        for hop, name, size_bytes in deleted:
            self.touched.append((hop, name))
            self.grown_bytes -= size_bytes
        return len(deleted)
