"""What the edge remembers, and what it sends: answers, sightings, rooms and hours beside inbox and outbox, in the same
transactions. Kept for `edge.keep_days`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from agents import outbox
from agents.rooms import Hour
from agents.sightings import Vote
from pipeline import messages, topics
from pipeline.clock import Clock
from pipeline.messages import (
    DownlinkAck,
    Envelope,
    EventAck,
    Levels,
    Privacy,
    Rank,
    Result,
    SightingReport,
)
from pipeline.spool import Spool, Transaction

SITE, UPLINK, UPLINK_ACKS = "site", "uplink", "uplink-acks"
"""Hops of the outbox: the site's broker (settled by its PUBACK), the gateway (by its uplink-ack), and acknowledgements
to the gateway (by the uplink broker's PUBACK)."""

DAY_S = 86_400.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS edge_answers(
    event TEXT PRIMARY KEY, sighting TEXT, at REAL NOT NULL, boot INTEGER, sequence INTEGER, told BLOB NOT NULL,
    context BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS edge_answers_at ON edge_answers(at);
CREATE TABLE IF NOT EXISTS edge_awaiting(event TEXT PRIMARY KEY, deadline REAL NOT NULL);
CREATE TABLE IF NOT EXISTS edge_sightings(
    sighting TEXT PRIMARY KEY, at REAL NOT NULL, asked TEXT, open INTEGER NOT NULL, told BLOB);
CREATE TABLE IF NOT EXISTS edge_votes(
    sighting TEXT, event TEXT, path TEXT NOT NULL, probability REAL NOT NULL, PRIMARY KEY(sighting, event));
CREATE TABLE IF NOT EXISTS edge_samples(
    room TEXT, source TEXT, unit TEXT NOT NULL, time REAL, value REAL NOT NULL, PRIMARY KEY(room, source, time));
CREATE TABLE IF NOT EXISTS edge_rooms(room TEXT PRIMARY KEY, end REAL NOT NULL);
CREATE TABLE IF NOT EXISTS edge_hours(
    source TEXT, start REAL, hour BLOB NOT NULL, levels BLOB NOT NULL, changed INTEGER NOT NULL,
    PRIMARY KEY(source, start));
"""


class Context(msgspec.Struct, frozen=True):
    """What a later answer about an event has to know of it."""

    received_s: float
    levels: Levels
    wants: Rank


class Known(NamedTuple):
    """The last answer about an event, and its context."""

    result: Result
    context: Context


class OpenHour(NamedTuple):
    """An hour, and the levels of its records: raised by each report, never lowered."""

    source: str
    hour: Hour
    levels: Levels


class EdgeStore:
    """The edge's tables in its spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    def open(self) -> None:
        self._spool.create(SCHEMA)

    # --- answers -----------------------------------------------------------------------------------------------

    def answer(self, event: str) -> Known | None:
        """The last answer about an event; None if the edge never told one."""
        return self._known(
            self._spool.query("SELECT told, context FROM edge_answers WHERE event = ?", (event,))
        )

    def answer_in(self, event: str, tx: Transaction) -> Known | None:
        """As `answer`, as this transaction sees it."""
        return self._known(
            tx.db.execute("SELECT told, context FROM edge_answers WHERE event = ?", (event,)).fetchall()
        )

    @staticmethod
    def _known(rows: list[tuple[bytes, bytes]]) -> Known | None:
        if not rows:
            return None
        told, context = rows[0]
        return Known(messages.decode(Result, told), msgspec.msgpack.decode(context, type=Context))

    def keep(
        self, result: Result, context: Context, tx: Transaction, *, order: tuple[int, int] | None = None
    ) -> None:
        """Remember the last answer about an event."""
        tx.db.execute(
            "INSERT INTO edge_answers VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT(event) DO UPDATE SET told = excluded.told, context = excluded.context",
            (
                result.event,
                result.sighting,
                self._clock.now(),
                *(order or (None, None)),
                messages.encode(result),
                msgspec.msgpack.encode(context),
            ),
        )

    # --- what is waited for --------------------------------------------------------------------------------------

    def await_answer(self, event: str, deadline_s: float, tx: Transaction) -> None:
        tx.db.execute("INSERT OR REPLACE INTO edge_awaiting VALUES (?, ?)", (event, deadline_s))

    def answered(self, event: str, tx: Transaction) -> bool:
        """The cloud answered, or the edge gave up waiting; False if nothing was waited for."""
        return bool(tx.db.execute("DELETE FROM edge_awaiting WHERE event = ?", (event,)).rowcount)

    def overdue(self, now_s: float) -> list[str]:
        """Events whose answers did not come in time."""
        return [
            event
            for (event,) in self._spool.query("SELECT event FROM edge_awaiting WHERE deadline <= ?", (now_s,))
        ]

    # --- sightings -----------------------------------------------------------------------------------------------

    def asked(self, sighting: str) -> str | None:
        """The event of this sighting about which the cloud was asked."""
        rows = self._spool.query("SELECT asked FROM edge_sightings WHERE sighting = ?", (sighting,))
        return rows[0][0] if rows else None

    def vote(
        self, sighting: str, event: str, vote: Vote, tx: Transaction, *, asked: str | None = None
    ) -> None:
        """Count (or count anew) one frame of a sighting; `asked`: the event that the cloud was asked about with it."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_votes VALUES (?, ?, ?, ?)",
            (sighting, event, "/".join(vote.path), vote.probability),
        )
        tx.db.execute(
            "INSERT INTO edge_sightings VALUES (?, ?, ?, 1, NULL) ON CONFLICT(sighting) DO UPDATE SET "
            "at = excluded.at, open = 1, asked = COALESCE(edge_sightings.asked, excluded.asked)",
            (sighting, self._clock.now(), asked),
        )

    def votes(self, sighting: str, tx: Transaction) -> dict[str, Vote]:
        rows = tx.db.execute(
            "SELECT event, path, probability FROM edge_votes WHERE sighting = ?", (sighting,)
        )
        return {
            event: Vote(tuple(path.split("/")) if path else (), probability)
            for event, path, probability in rows
        }

    def report(self, sighting: str, tx: Transaction) -> SightingReport | None:
        """What was last told of a sighting."""
        rows = tx.db.execute("SELECT told FROM edge_sightings WHERE sighting = ?", (sighting,)).fetchall()
        return messages.decode(SightingReport, rows[0][0]) if rows and rows[0][0] else None

    def keep_report(self, report: SightingReport, tx: Transaction) -> None:
        tx.db.execute(
            "UPDATE edge_sightings SET told = ?, open = ? WHERE sighting = ?",
            (messages.encode(report), not report.closed, report.sighting),
        )

    def quiet(self, before_s: float) -> list[str]:
        """Open sightings to which nothing was added since."""
        rows = self._spool.query("SELECT sighting FROM edge_sightings WHERE open AND at <= ?", (before_s,))
        return [sighting for (sighting,) in rows]

    # --- rooms and hours -----------------------------------------------------------------------------------------

    def add_sample(
        self, room: str, source: str, unit: str, time_s: float, value: float, tx: Transaction
    ) -> None:
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_samples VALUES (?, ?, ?, ?, ?)", (room, source, unit, time_s, value)
        )

    def samples(self, room: str, until_s: float, span_s: float) -> dict[str, list[tuple[float, float]]]:
        """Unit -> (time, value) of a room's reports in the span before `until_s`, and of each stream the last one
        before that: it holds until the next report."""
        rows = self._spool.query(
            "SELECT unit, time, value FROM edge_samples WHERE room = ? AND time < ? AND (time >= ? OR time = ("
            "SELECT MAX(time) FROM edge_samples AS s WHERE s.room = edge_samples.room AND s.source = edge_samples.source "
            "AND s.time < ?)) ORDER BY time",
            (room, until_s, until_s - span_s, until_s - span_s),
        )
        found: dict[str, list[tuple[float, float]]] = {}
        for unit, time_s, value in rows:
            found.setdefault(unit, []).append((time_s, value))
        return found

    def first_sample(self, room: str, from_s: float, tx: Transaction) -> float | None:
        """Time of the room's first report at or after this moment."""
        found = tx.db.execute(
            "SELECT MIN(time) FROM edge_samples WHERE room = ? AND time >= ?", (room, from_s)
        )
        time_s: float | None = found.fetchone()[0]
        return time_s

    def newest(self, room: str) -> dict[str, float]:
        rows = self._spool.query(
            "SELECT source, MAX(time) FROM edge_samples WHERE room = ? GROUP BY source", (room,)
        )
        return dict(rows)

    def forget_samples(self, room: str, before_s: float, tx: Transaction) -> None:
        """Drop samples that no window needs any more; each stream's last one stays."""
        tx.db.execute(
            "DELETE FROM edge_samples WHERE room = ? AND time < ? AND time < (SELECT MAX(time) FROM edge_samples AS s "
            "WHERE s.room = edge_samples.room AND s.source = edge_samples.source AND s.time < ?)",
            (room, before_s, before_s),
        )

    def room_ends(self) -> dict[str, float]:
        """End of each room's running window."""
        return dict(self._spool.query("SELECT room, end FROM edge_rooms"))

    def keep_room_end(self, room: str, end_s: float, tx: Transaction) -> None:
        tx.db.execute("INSERT OR REPLACE INTO edge_rooms VALUES (?, ?)", (room, end_s))

    def hour(self, source: str, start_s: float, tx: Transaction) -> OpenHour | None:
        """What was counted into an hour so far."""
        found = tx.db.execute(
            "SELECT hour, levels FROM edge_hours WHERE source = ? AND start = ?", (source, start_s)
        ).fetchone()
        return None if found is None else _open_hour(source, *found)

    def keep_hour(self, source: str, hour: Hour, levels: Levels, tx: Transaction, *, changed: bool) -> None:
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_hours VALUES (?, ?, ?, ?, ?)",
            (source, hour.start_s, msgspec.msgpack.encode(hour), msgspec.msgpack.encode(levels), changed),
        )

    def changed_hours(self) -> list[OpenHour]:
        """Hours that changed since they were told, oldest first."""
        rows = self._spool.query("SELECT source, hour, levels FROM edge_hours WHERE changed ORDER BY start")
        return [_open_hour(*row) for row in rows]

    # --- what leaves ---------------------------------------------------------------------------------------------

    def send_result(self, result: Result, tx: Transaction) -> None:
        """To the users of this site, under the tier that made it."""
        self._send(
            result,
            SITE,
            topics.result(result.site, result.device, result.tier, result.privacy),
            f"{result.event}/{result.revision}",
            result.event,
            result.privacy,
            tx,
        )

    def send_report(self, report: SightingReport, tx: Transaction) -> None:
        """To the users of this site. A newer report replaces one that did not leave yet."""
        topic = topics.sighting(report.site, report.device, report.stream)
        self._send(report, SITE, topic, f"sighting/{report.sighting}", report.sighting, report.privacy, tx)

    def send_up(self, envelope: Envelope, site: str, tx: Transaction) -> None:
        """To the gateway."""
        self._send(envelope, UPLINK, topics.uplink(site), envelope.id, envelope.event, envelope.privacy, tx)

    def acknowledge_events(self, site: str, device: str, ids: Iterable[str], tx: Transaction) -> None:
        ack = EventAck(ids=tuple(ids))
        self._send(
            ack,
            SITE,
            topics.event_ack(site, device),
            f"event-ack/{device}/{ack.ids[0]}",
            "",
            Privacy.PUBLIC,
            tx,
        )

    def acknowledge_downlink(self, site: str, ids: Iterable[str], tx: Transaction) -> None:
        ack = DownlinkAck(ids=tuple(ids))
        self._send(
            ack, UPLINK_ACKS, topics.downlink_ack(site), f"downlink-ack/{ack.ids[0]}", "", Privacy.PUBLIC, tx
        )

    def _send(
        self,
        message: msgspec.Struct,
        hop: str,
        topic: str,
        id: str,
        event: str,
        privacy: Privacy,
        tx: Transaction,
    ) -> None:
        now_s = self._clock.now()
        tx.send(
            outbox.letter(message, hop=hop, topic=topic, id=id, now_s=now_s, event=event, privacy=privacy)
        )

    # --- tidying -------------------------------------------------------------------------------------------------

    def forget(self, before_s: float) -> None:
        """Drop answers, sightings and told hours that are older than this."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM edge_answers WHERE at < ?", (before_s,))
            tx.db.execute(
                "DELETE FROM edge_votes WHERE sighting IN (SELECT sighting FROM edge_sightings WHERE at < ?)",
                (before_s,),
            )
            tx.db.execute("DELETE FROM edge_sightings WHERE at < ?", (before_s,))
            tx.db.execute("DELETE FROM edge_hours WHERE start < ? AND NOT changed", (before_s,))


def _open_hour(source: str, hour: bytes, levels: bytes) -> OpenHour:
    return OpenHour(
        source, msgspec.msgpack.decode(hour, type=Hour), msgspec.msgpack.decode(levels, type=Levels)
    )
