"""Store the edge's answers beside inbox and outbox, in the same transactions.

Sightings, rooms, labels, label requests and lessons have tables of their own (`SightingStore`, `RoomStore`,
`LabelStore`, `LabelRequestStore`, `LearningStore`). Lessons are kept for ever, all else for `edge.keep_days`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec
import structlog

from agents.edge import label_request_store, label_store, last_pictures, learning_store, room_store, sighting_store
from agents.edge.label_request_store import LabelRequestStore
from agents.edge.label_store import LabelStore
from agents.edge.last_pictures import LastPictures
from agents.edge.learning_store import LearningStore
from agents.edge.room_store import RoomStore
from agents.edge.sighting_store import SightingStore
from agents.role import outbox
from agents.role.dead_letters import refusal
from pipeline import messages, topics
from pipeline.clock import SET_BACK_S, Clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import (
    Ack,
    Ask,
    DownlinkAck,
    Drift,
    Envelope,
    EventAck,
    Levels,
    Privacy,
    Rank,
    Result,
    SightingReport,
)
from pipeline.spool import Spool, Transaction

log = structlog.get_logger("edge")

SITE, UPLINK, UPLINK_ACKS = "site", "uplink", "uplink-acks"
"""Hops of the outbox: the site's broker (settled by its PUBACK), the gateway (by its uplink-ack), and acknowledgements
to the gateway (by the uplink broker's PUBACK)."""

DAY_S = 86_400.0

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_answers(
    event TEXT PRIMARY KEY, sighting TEXT, at REAL NOT NULL, boot INTEGER, sequence INTEGER, told BLOB NOT NULL,
    context BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS edge_answers_at ON edge_answers(at);
CREATE TABLE IF NOT EXISTS edge_awaiting(event TEXT PRIMARY KEY, deadline REAL NOT NULL);
""",
)
"""One script a version of its tables; only ever append."""


class Context(msgspec.Struct, frozen=True):
    """Facts of an event that a later answer needs."""

    received_s: float
    levels: Levels
    wants: Rank
    cloud_revision: int = 0
    """The highest revision of the cloud's answers, by the cloud's own count."""
    cloud_models: tuple[str, ...] = ()
    """The models whose answers of that revision were taken."""
    known_here: tuple[str, ...] = ()
    """The part of the path of which the site's own labels made the edge sure."""
    models: Result | None = None
    """The models' answer, where people labelled the event: it is published again when no label stands any more."""


class Known(NamedTuple):
    """The last answer about an event, and its context."""

    result: Result
    context: Context

    @property
    def models(self) -> Result:
        """Return the models' last answer, without any labels of people."""
        return self.context.models or self.result


class EdgeStore:
    """The edge's tables in its spool."""

    def __init__(self, site: str, spool: Spool, clock: Clock) -> None:
        self.spool = spool
        self._site = site
        self._clock = clock
        self.sightings = SightingStore(spool, clock)
        self.rooms = RoomStore(spool, clock)
        self.labels = LabelStore(spool)
        self.learning = LearningStore(spool)
        self.requests = LabelRequestStore(spool)
        self.pictures = LastPictures(spool, clock)

    def open(self) -> None:
        """Create the tables where there are none."""
        self.spool.migrate("edge", MIGRATIONS)
        self.spool.migrate("sightings", sighting_store.MIGRATIONS)
        self.spool.migrate("rooms", room_store.MIGRATIONS)
        self.spool.migrate("labels", label_store.MIGRATIONS)
        self.spool.migrate("learning", learning_store.MIGRATIONS)
        self.spool.migrate("asks", label_request_store.MIGRATIONS)
        self.spool.migrate("pictures", last_pictures.MIGRATIONS)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """See `Spool.transaction`."""
        return self.spool.transaction()

    # --- answers -----------------------------------------------------------------------------------------------

    def answer(self, event: str) -> Known | None:
        """Return the last answer about an event, or None if the edge has none."""
        return self._known(self.spool.query("SELECT told, context FROM edge_answers WHERE event = ?", (event,)))

    def answer_in(self, event: str, tx: Transaction) -> Known | None:
        """Return the same as this transaction sees it."""
        return self._known(tx.db.execute("SELECT told, context FROM edge_answers WHERE event = ?", (event,)).fetchall())

    @staticmethod
    def _known(rows: list[tuple[bytes, bytes]]) -> Known | None:
        if not rows:
            return None
        result, context = rows[0]
        return Known(messages.decode(Result, result), msgspec.msgpack.decode(context, type=Context))

    def keep(self, result: Result, context: Context, tx: Transaction, *, order: tuple[int, int] | None = None) -> None:
        """Store the last answer about an event; `order` is the (boot, sequence) of its device."""
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

    # --- awaited answers -----------------------------------------------------------------------------------------

    def await_answer(self, event: str, deadline_s: float, tx: Transaction) -> None:
        """Expect the answer of the cloud by this time."""
        tx.db.execute("INSERT OR REPLACE INTO edge_awaiting VALUES (?, ?)", (event, deadline_s))

    def stop_waiting(self, event: str, tx: Transaction) -> bool:
        """Stop waiting for the cloud's answer to an event; return False if it was not awaited."""
        return bool(tx.db.execute("DELETE FROM edge_awaiting WHERE event = ?", (event,)).rowcount)

    def overdue(self, now_s: float, wait_s: float) -> list[str]:
        """Return the events whose answers are late. Each was awaited for `wait_s` seconds."""
        rows = self.spool.query(
            "SELECT event FROM edge_awaiting WHERE deadline <= ? OR deadline > ?", (now_s, now_s + wait_s + SET_BACK_S)
        )
        return [event for (event,) in rows]

    def unsent(self, event: str, tx: Transaction) -> bool:
        """Return whether a record about this event still waits for the gateway."""
        found = tx.db.execute("SELECT 1 FROM outbox WHERE hop = ? AND event = ?", (UPLINK, event))
        return found.fetchone() is not None

    def unsent_ids(self, event: str, tx: Transaction) -> frozenset[str]:
        """Return the records about this event that wait for the gateway, by `Envelope.id`."""
        found = tx.db.execute("SELECT id FROM outbox WHERE hop = ? AND event = ?", (UPLINK, event))
        return frozenset(name for (name,) in found)

    # --- outbox --------------------------------------------------------------------------------------------------

    def send_result(self, result: Result, tx: Transaction) -> None:
        """Send a result to the users of this site, under the tier that made it."""
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
        """Send a report to the users of this site; it replaces an older one that did not leave yet."""
        topic = topics.sighting(report.site, report.device, report.stream)
        self._send(report, SITE, topic, f"sighting/{report.sighting}", report.sighting, report.privacy, tx)

    def send_label_request(self, ask: Ask, tx: Transaction) -> None:
        """Send a request to the people of this site. It is cancelled with its event if it did not leave yet."""
        topic = topics.ask(ask.site, ask.device)
        self._send(ask, SITE, topic, f"ask/{ask.event}", ask.event, ask.privacy, tx)

    def send_drift(self, drift: Drift, tx: Transaction) -> None:
        """Send an alarm to the people of this site; it replaces the same alarm if that did not leave yet."""
        topic = topics.drift(drift.site, drift.device)
        name = f"drift/{drift.stream}/{drift.rule}/{drift.signal}"
        self._send(drift, SITE, topic, f"{drift.device}/{name}", "", drift.privacy, tx)

    def send_up(self, envelope: Envelope, tx: Transaction) -> None:
        """Send an envelope to the gateway."""
        topic = topics.uplink(self._site)
        self._send(envelope, UPLINK, topic, envelope.id, envelope.event, envelope.privacy, tx)

    def send_refusal(self, error: Rejected, topic: str, payload: bytes, tx: Transaction) -> None:
        """Send the reason why a payload is refused to the people of this site."""
        now_s = self._clock.now()
        tx.send(refusal(error, topic, payload, site=self._site, hop=SITE, now_s=now_s))

    def acknowledge_events(self, site: str, device: str, ids: Iterable[str], tx: Transaction) -> None:
        """Send the acknowledgement of a device's events."""
        ack = EventAck(ids=tuple(ids))
        name = f"event-ack/{device}/{ack.ids[0]}"
        self._send(ack, SITE, topics.event_ack(site, device), name, "", Privacy.PUBLIC, tx)

    def acknowledge_label(self, ack: Ack, device: str, tx: Transaction) -> None:
        """Send the acknowledgement of a label to its publisher."""
        topic = topics.ack(self._site, device)
        self._send(ack, SITE, topic, f"label-ack/{device}/{ack.sha256}", "", Privacy.PUBLIC, tx)

    def acknowledge_downlink(self, ids: Iterable[str], tx: Transaction) -> None:
        """Send the acknowledgement of the cloud's answers to the gateway."""
        ack = DownlinkAck(ids=tuple(ids))
        topic = topics.downlink_ack(self._site)
        self._send(ack, UPLINK_ACKS, topic, f"downlink-ack/{ack.ids[0]}", "", Privacy.PUBLIC, tx)

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
        tx.send(outbox.outgoing(message, hop=hop, topic=topic, id=id, now_s=now_s, event=event, privacy=privacy))

    # --- tidying -------------------------------------------------------------------------------------------------

    def scrub(self) -> None:
        """Overwrite deleted rows on the disk. If the store is busy, this is logged and happens later."""
        try:
            self.spool.scrub()
        except Retry as error:
            log.warning("deleted records are not overwritten yet", error=str(error))

    def forget(self, before_s: float) -> None:
        """Drop answers, their labels and features, sightings and published hours that are older than this."""
        with self.transaction() as tx:
            tx.db.execute("DELETE FROM edge_answers WHERE at < ?", (before_s,))
            self.sightings.forget(before_s, tx)
            self.rooms.forget(before_s, tx)
            self.labels.forget(tx)
            self.requests.forget(before_s, tx)
            self.pictures.forget(before_s, SITE, tx)
