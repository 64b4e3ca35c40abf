"""Store the device agent's memory beside inbox and outbox, in the same transactions."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec
import structlog

from agents.role import outbox
from pipeline import messages, topics
from pipeline.clock import SET_BACK_S, Clock
from pipeline.messages import Event, Result, Tier
from pipeline.mqtt import Message
from pipeline.spool import Spool, Transaction
from pipeline.topics import Parsed

SITE, EDGE, ACKS = "site", "edge", "acks"
"""Hops of the outbox: the site's broker (settled by its PUBACK) and the edge agent (settled by its event-ack).

Acknowledgements and refusals go to the site's broker, too, but do not wait behind the results of a large pack."""

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS device_boots(boot INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS device_streams(
    stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL, memory BLOB NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS device_awaiting(event TEXT PRIMARY KEY, deadline REAL NOT NULL, sent BLOB NOT NULL);
""",
    """
CREATE TABLE device_contents(row INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE);
CREATE TABLE device_files(row INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, mark BLOB NOT NULL);
""",
    "CREATE TABLE IF NOT EXISTS device_heard(topic TEXT PRIMARY KEY, sha256 BLOB NOT NULL, at REAL NOT NULL);",
)
"""One script a version of its tables; only ever append."""

S = TypeVar("S", bound=msgspec.Struct)

FORGET_S = 30 * 86_400.0
"""A stream that was silent for so long begins anew, with the sequence numbers of a new boot."""

log = structlog.get_logger("device")


class DeviceStore:
    """The device's tables in its spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    def open(self) -> int:
        """Create the tables; return the number of this start, the `boot` that events carry."""
        self._spool.migrate("device", MIGRATIONS)
        with self._spool.transaction() as tx:
            tx.db.execute("INSERT INTO device_boots(at) VALUES (?)", (self._clock.now(),))
            return int(tx.db.lastrowid or 0)

    # --- streams -----------------------------------------------------------------------------------------------

    def recall(self, stream: Parsed, kind: type[S]) -> tuple[int, S | None]:
        """Return a stream's last sequence number and its memory, or None where another release wrote the memory."""
        rows = self._spool.query("SELECT sequence, memory FROM device_streams WHERE stream = ?", (_name(stream),))
        if not rows:
            return 0, None
        sequence, blob = rows[0]
        try:
            return int(sequence), msgspec.msgpack.decode(blob, type=kind)
        except msgspec.DecodeError:
            log.warning("the memory of a stream is dropped: another release wrote it", stream=stream)
            return int(sequence), None

    def remember(self, stream: Parsed, sequence: int, memory: msgspec.Struct, now_s: float, tx: Transaction) -> None:
        """Store the last sequence number and the memory of a stream."""
        blob = msgspec.msgpack.encode(memory)
        tx.db.execute(
            "INSERT OR REPLACE INTO device_streams VALUES (?, ?, ?, ?)",
            (_name(stream), sequence, blob, now_s),
        )

    def forget(self, before_s: float) -> None:
        """Drop streams that were silent since, so that invented names do not pile up."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM device_streams WHERE at < ?", (before_s,))
            tx.db.execute("DELETE FROM device_heard WHERE at < ?", (before_s,))

    # --- other programs' topics ----------------------------------------------------------------------------------

    def hear(self, message: Message, tx: Transaction) -> None:
        """Remember the last message of another program's topic."""
        digest = hashlib.sha256(message.payload).digest()
        tx.db.execute(
            "INSERT OR REPLACE INTO device_heard VALUES (?, ?, ?)", (message.topic, digest, self._clock.now())
        )

    def is_last_heard(self, message: Message, tx: Transaction) -> bool:
        """Return whether this is the last message of its topic again, as a broker sends it at every connect."""
        digest = hashlib.sha256(message.payload).digest()
        tx.db.execute(
            "UPDATE device_heard SET at = ? WHERE topic = ? AND sha256 = ?", (self._clock.now(), message.topic, digest)
        )
        return bool(tx.db.rowcount)

    # --- outbox --------------------------------------------------------------------------------------------------

    def send_result(self, result: Result, tx: Transaction) -> None:
        """Send a result to the users of this site."""
        tx.send(
            outbox.outgoing(
                result,
                hop=SITE,
                topic=topics.result(result.site, result.device, Tier.DEVICE, result.privacy),
                id=f"{result.event}/{result.revision}",
                now_s=self._clock.now(),
                event=result.event,
                privacy=result.privacy,
            )
        )

    def send_event(self, event: Event, tx: Transaction) -> None:
        """Send an event to the edge, unless even its result is for the device's own user alone."""
        result = event.result
        if result.privacy.reach is Tier.DEVICE:
            return
        tx.send(
            outbox.outgoing(
                event,
                hop=EDGE,
                topic=topics.event(result.site, result.device, result.stream),
                id=f"{result.event}/{result.revision}",
                now_s=self._clock.now(),
                event=result.event,
                privacy=result.privacy,
            )
        )

    # --- awaited answers ---------------------------------------------------------------------------------------

    def await_answer(self, event: Event, deadline_s: float, tx: Transaction) -> None:
        """Expect the answer of the edge by this time."""
        bare = messages.encode(msgspec.structs.replace(event, body=None, sealed=()))
        tx.db.execute("INSERT OR REPLACE INTO device_awaiting VALUES (?, ?, ?)", (event.result.event, deadline_s, bare))

    def answered(self, event: str, tx: Transaction) -> bool:
        """Stop waiting for the edge's answer to an event; return False if it was not awaited."""
        return bool(tx.db.execute("DELETE FROM device_awaiting WHERE event = ?", (event,)).rowcount)

    def overdue(self, now_s: float, wait_s: float) -> list[Event]:
        """Return the events whose answers are late, without their bodies. Each was awaited for `wait_s` seconds."""
        rows = self._spool.query(
            "SELECT sent FROM device_awaiting WHERE deadline <= ? OR deadline > ?", (now_s, now_s + wait_s + SET_BACK_S)
        )
        return [messages.decode(Event, blob) for (blob,) in rows]


def _name(stream: Parsed) -> str:
    """Return the key of a stream. Frames and readings under one stream name are kept apart."""
    return f"{stream.channel}/{stream.site}/{stream.device}/{stream.name}"
