"""What the device agent remembers, and what it sends: its own tables beside inbox and outbox, in the same transactions."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import structlog

from agents.role import outbox
from pipeline import messages, topics
from pipeline.clock import Clock
from pipeline.messages import Event, Result, Tier
from pipeline.spool import Spool, Transaction
from pipeline.topics import Parsed

SITE, EDGE = "site", "edge"
"""Hops of the outbox: the site's broker (settled by its PUBACK) and the edge agent (settled by its event-ack)."""

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS device_boots(boot INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS device_streams(
    stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL, memory BLOB NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS device_awaiting(event TEXT PRIMARY KEY, deadline REAL NOT NULL, sent BLOB NOT NULL);
""",
)
"""One script a version of its tables; only ever append."""

S = TypeVar("S", bound=msgspec.Struct)

FORGET_S = 30 * 86_400.0
"""A stream that said nothing for so long begins anew, with a new boot's sequence numbers."""

log = structlog.get_logger("device")


class DeviceStore:
    """The device's tables in its spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    def open(self) -> int:
        """Make the tables; returns this start's number, the `boot` of the order that events carry."""
        self._spool.migrate("device", MIGRATIONS)
        with self._spool.transaction() as tx:
            tx.db.execute("INSERT INTO device_boots(at) VALUES (?)", (self._clock.now(),))
            return int(tx.db.lastrowid or 0)

    # --- streams -----------------------------------------------------------------------------------------------

    def recall(self, stream: Parsed, kind: type[S]) -> tuple[int, S | None]:
        """A stream's last sequence number, and what was remembered of it: nothing, where another release wrote it."""
        rows = self._spool.query(
            "SELECT sequence, memory FROM device_streams WHERE stream = ?", (_name(stream),)
        )
        if not rows:
            return 0, None
        sequence, blob = rows[0]
        try:
            return int(sequence), msgspec.msgpack.decode(blob, type=kind)
        except msgspec.DecodeError:
            log.warning(
                "what was remembered of a stream is forgotten: another release wrote it", stream=stream
            )
            return int(sequence), None

    def remember(
        self, stream: Parsed, sequence: int, memory: msgspec.Struct, now_s: float, tx: Transaction
    ) -> None:
        """Until nothing came for `FORGET_S`."""
        blob = msgspec.msgpack.encode(memory)
        tx.db.execute(
            "INSERT OR REPLACE INTO device_streams VALUES (?, ?, ?, ?)",
            (_name(stream), sequence, blob, now_s),
        )

    def forget(self, before_s: float) -> None:
        """Drop what was remembered of streams that said nothing since: invented names must not pile up."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM device_streams WHERE at < ?", (before_s,))

    # --- what leaves ---------------------------------------------------------------------------------------------

    def send_result(self, result: Result, tx: Transaction) -> None:
        """To the users of this site."""
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
        """To the edge, unless even the answer is for the device's own user alone."""
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

    # --- what is waited for ------------------------------------------------------------------------------------

    def await_answer(self, event: Event, deadline_s: float, tx: Transaction) -> None:
        """Expect the edge's answer by this time."""
        told = messages.encode(msgspec.structs.replace(event, body=None, sealed=()))
        tx.db.execute(
            "INSERT OR REPLACE INTO device_awaiting VALUES (?, ?, ?)", (event.result.event, deadline_s, told)
        )

    def answered(self, event: str, tx: Transaction) -> bool:
        """The edge answered, or the device gave up waiting; False if nothing was waited for."""
        return bool(tx.db.execute("DELETE FROM device_awaiting WHERE event = ?", (event,)).rowcount)

    def overdue(self, now_s: float) -> list[Event]:
        """Events whose answers did not come in time, without their bodies."""
        rows = self._spool.query("SELECT sent FROM device_awaiting WHERE deadline <= ?", (now_s,))
        return [messages.decode(Event, blob) for (blob,) in rows]


def _name(stream: Parsed) -> str:
    """Frames and readings that come under the same stream name are remembered apart."""
    return f"{stream.channel}/{stream.site}/{stream.device}/{stream.name}"
