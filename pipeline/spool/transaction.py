"""A transaction of the spool: the statements, and the changes that they make in memory after the commit.

Example::

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

from pipeline.ids import derived, event_id
from pipeline.spool.records import Arrival, Backlog, Item, MessagePart, Outgoing, Receipt

Fingerprint = tuple[str, bytes]
"""Topic and SHA-256, by which a redelivery is recognised."""

Expected = defaultdict[str, dict[Fingerprint, deque[str]]]
"""Ids of stored messages that the broker may deliver again, by link, the oldest first."""


class Transaction:
    """A transaction, made by `Spool.transaction`, which reads the lists after the commit."""

    def __init__(
        self,
        db: sqlite3.Cursor,
        next_row: int,
        expected: Expected,
        room_bytes: int,
        own_hops: Collection[str],
    ) -> None:
        self.db = db
        """Cursor for statements on the agent's own tables."""
        self.next_row = next_row
        self.grown_bytes = 0
        self.own_grown_bytes = 0
        """The part of `grown_bytes` that belongs to the agent's own records."""
        self.stored: list[tuple[str, int]] = []
        """Topic and row of each stored message."""
        self.finished: list[int] = []
        self.touched: list[tuple[str, str]] = []
        """Hop and id of each record that was put into the outbox or removed from it."""
        self._expected = expected
        self._room_bytes = room_bytes
        self._own_hops = own_hops
        self._matched: list[tuple[str, Fingerprint, str]] = []
        self._waiting: dict[str, tuple[int, float]] = {}
        """Waiting messages of a topic with a limit, those of this transaction included, and the first one's receipt."""

    def forget(self) -> None:
        """Undo the changes in memory after a rollback: the recognised redeliveries are expected again."""
        for link, fingerprint, name in reversed(self._matched):
            self._expected[link][fingerprint].appendleft(name)

    def receive(self, arrivals: Sequence[Arrival], link: str = "site") -> list[Receipt]:
        """Store these messages in order; `link` names the connection that delivered them.

        The empty link is for messages that no broker redelivers, such as frames of the agent's own camera. If the spool
        is full, a repeat is still recognised; a new message is not stored, and its receipt is `full`. The same holds
        for a message beyond its limit, whose receipt is `busy`.
        """
        expected = self._expected[link]
        receipts: list[Receipt] = []
        rows: list[tuple[int, str, str, bytes | None, float, str, bytes, float | None, int]] = []
        row = self.next_row
        for arrival in arrivals:
            topic, payload, received_at, own_id, limit = arrival[:5]
            digest = hashlib.sha256(payload).digest()
            repeat = conflict = full = busy = False
            if own_id is not None:
                name = own_id
                known = self._remember(own_id, topic, digest)
                repeat = known == (topic, digest)
                conflict = known is not None and not repeat
            elif expected and (ids := expected.get((topic, digest))):
                name = ids.popleft()
                self._matched.append((link, (topic, digest), name))
                repeat = True
            elif recent := self._recent(arrival, digest):
                name = recent
                repeat = True
            else:
                name = event_id(received_at)
            if not (repeat or conflict):
                full = self._room_bytes <= 0
                busy = not full and limit is not None and self._is_beyond(limit, topic, received_at)
            if full or busy:
                self.db.execute("DELETE FROM seen WHERE id = ?", (name,))
            elif not (repeat or conflict):
                if arrival.parts:  # the message's own row only recognises a redelivery
                    rows.append((row, name, topic, None, received_at, link, digest, None, 1))
                    row += 1
                for number, part in enumerate(arrival.parts or (MessagePart(topic, payload),)):
                    part_id = name if number == 0 else derived(received_at, name, "part", str(number))
                    origin = ("", b"") if arrival.parts else (link, digest)
                    rows.append((row, part_id, *part, received_at, *origin, arrival.captured_at, 0))
                    self.stored.append((part.topic, row))
                    self.grown_bytes += len(part.payload)
                    self._room_bytes -= len(part.payload)
                    row += 1
                if own_id is None and arrival.same_within_s:
                    self.db.execute(
                        "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?)", (topic, digest, name, received_at)
                    )
            receipts.append(Receipt(name, topic, payload, digest.hex(), repeat, conflict, full, busy))
        self.next_row = row
        self.db.executemany(
            "INSERT INTO inbox(row, id, topic, payload, received_at, link, sha256, captured_at, done)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        return receipts

    def _is_beyond(self, limit: Backlog, topic: str, now_s: float) -> bool:
        """Return whether a message would exceed its topic's limit; if not, count it among the waiting ones."""
        if topic not in self._waiting:
            where = "FROM inbox WHERE topic = ? AND done = 0"
            ((count,),) = self.db.execute(f"SELECT count(*) {where}", (topic,))
            oldest = self.db.execute(f"SELECT received_at {where} ORDER BY row LIMIT 1", (topic,)).fetchone()
            self._waiting[topic] = (count, oldest[0] if oldest else now_s)
        count, oldest_s = self._waiting[topic]
        if count >= limit.messages or now_s - max(oldest_s, limit.since_s) > limit.age_s:
            return True
        self._waiting[topic] = (count + 1, oldest_s)
        return False

    def finish(self, *items: Item) -> None:
        """Mark these messages as done and delete their payloads.

        A row that the broker may deliver again stays without its payload until `broker_acknowledged`.
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
        """Put these records into the outbox; a record replaces an earlier one with the same id."""
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
            self._touch(out.hop, out.id, len(out.payload))

    def settle(self, hop: str, ids: Iterable[str]) -> int:
        """Remove the records that the next hop has acknowledged. Return how many were still kept."""
        return sum(self._delete_outgoing("hop = ? AND id = ?", (hop, name)) for name in ids)

    def settle_exactly(self, records: Iterable[Outgoing]) -> int:
        """Remove exactly these records and none that replaced them. Return how many were still kept."""
        return sum(self._delete_outgoing("seq = ?", (record.seq,)) for record in records)

    def cancel(self, event: str, *, hop: str | None = None, kinds: Collection[str] | None = None) -> int:
        """Withdraw an event's unacknowledged records. Return how many."""
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
        """Remove this hop's records that were added before this time (seconds since the epoch). Return how many."""
        return self._delete_outgoing("hop = ? AND created_at < ?", (hop, before))

    def disown(self, item: Item) -> None:
        """Let an equal message be another event, since this one was refused: its sender gets the reason again."""
        self.db.execute("DELETE FROM recent WHERE id = ?", (item.id,))

    def has_seen(self, own_id: str, topic: str, digest: bytes) -> bool:
        """Return whether a message with this id and content was stored: known for the last `SEEN_KEEP` ids."""
        row = self.db.execute("SELECT topic, sha256 FROM seen WHERE id = ?", (own_id,)).fetchone()
        return row is not None and row in ((topic, digest), ("", b""))  # an earlier schema kept only the id

    def _recent(self, arrival: Arrival, digest: bytes) -> str:
        """Return the id of an equal message that was stored recently; empty if there is none."""
        if not arrival.same_within_s:
            return ""
        early_s, late_s = arrival.received_at - arrival.same_within_s, arrival.received_at + arrival.same_within_s
        self.db.execute("DELETE FROM recent WHERE at < ? OR at > ?", (early_s, late_s))
        found = self.db.execute(
            "SELECT id FROM recent WHERE topic = ? AND sha256 = ?", (arrival.topic, digest)
        ).fetchone()
        return found[0] if found else ""

    def _remember(self, own_id: str, topic: str, digest: bytes) -> Fingerprint | None:
        """Remember a publisher's id. Return the message that it named before, or None if it is new."""
        self.db.execute("INSERT OR IGNORE INTO seen(id, topic, sha256) VALUES (?, ?, ?)", (own_id, topic, digest))
        if self.db.rowcount:
            return None
        known: Fingerprint = self.db.execute("SELECT topic, sha256 FROM seen WHERE id = ?", (own_id,)).fetchone()
        return known if known[0] else (topic, digest)  # an earlier schema kept only the id

    def _delete_outgoing(self, where: str, parameters: Sequence[object]) -> int:
        deleted = self.db.execute(
            f"DELETE FROM outbox WHERE {where} RETURNING hop, id, length(payload)",  # noqa: S608 - of fixed texts
            parameters,
        ).fetchall()
        for hop, name, size_bytes in deleted:
            self._touch(hop, name, -size_bytes)
        return len(deleted)

    def _touch(self, hop: str, name: str, grown_bytes: int) -> None:
        self.touched.append((hop, name))
        self.grown_bytes += grown_bytes
        self.own_grown_bytes += grown_bytes if hop in self._own_hops else 0
