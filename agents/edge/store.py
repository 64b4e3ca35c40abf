"""What the edge remembers, and what it sends: answers beside inbox and outbox, in the same transactions; sightings,
rooms, labels, asks and what is learned have tables of their own (`SightingStore`, `RoomStore`, `LabelStore`, `AskStore`,
`LearningStore`). Kept for `edge.keep_days`; what was learned, for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from agents.edge import label_request_store, label_store, learning_store, room_store, sighting_store
from agents.edge.label_request_store import AskStore
from agents.edge.label_store import LabelStore
from agents.edge.learning_store import LearningStore
from agents.edge.room_store import RoomStore
from agents.edge.sighting_store import SightingStore
from agents.role import outbox
from pipeline import messages, topics
from pipeline.clock import Clock
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
    """What a later answer about an event has to know of it."""

    received_s: float
    levels: Levels
    wants: Rank
    cloud_revision: int = 0
    """The highest that the cloud gave its answers; what stands was told under a revision of the edge's own."""
    cloud_models: tuple[str, ...] = ()
    """Whose answers of that revision were taken."""
    known_here: tuple[str, ...] = ()
    """As far as the site's own labels made the edge sure."""
    models: Result | None = None
    """What the models say, where people said something as well: it is told again when no label stands any more."""


class Known(NamedTuple):
    """The last answer about an event, and its context."""

    result: Result
    context: Context

    @property
    def models(self) -> Result:
        """The models' last answer, whatever people said of the event."""
        return self.context.models or self.result


class EdgeStore:
    """The edge's tables in its spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self.sightings = SightingStore(spool, clock)
        self.rooms = RoomStore(spool)
        self.labels = LabelStore(spool)
        self.learning = LearningStore(spool)
        self.asks = AskStore(spool)

    def open(self) -> None:
        """Make the tables where there are none."""
        self._spool.migrate("edge", MIGRATIONS)
        self._spool.migrate("sightings", sighting_store.MIGRATIONS)
        self._spool.migrate("rooms", room_store.MIGRATIONS)
        self._spool.migrate("labels", label_store.MIGRATIONS)
        self._spool.migrate("learning", learning_store.MIGRATIONS)
        self._spool.migrate("asks", label_request_store.MIGRATIONS)

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

    def stop_waiting(self, event: str, tx: Transaction) -> bool:
        """The cloud answered, or the edge gave up waiting; False if nothing was waited for."""
        return bool(tx.db.execute("DELETE FROM edge_awaiting WHERE event = ?", (event,)).rowcount)

    def overdue(self, now_s: float) -> list[str]:
        """Events whose answers did not come in time."""
        return [
            event
            for (event,) in self._spool.query("SELECT event FROM edge_awaiting WHERE deadline <= ?", (now_s,))
        ]

    def unsent(self, event: str, tx: Transaction) -> bool:
        """Whether the gateway has not taken all about this event yet."""
        found = tx.db.execute("SELECT 1 FROM outbox WHERE hop = ? AND event = ?", (UPLINK, event))
        return found.fetchone() is not None

    def unsent_ids(self, event: str, tx: Transaction) -> frozenset[str]:
        """What about this event waits for the gateway, by `Envelope.id`."""
        found = tx.db.execute("SELECT id FROM outbox WHERE hop = ? AND event = ?", (UPLINK, event))
        return frozenset(name for (name,) in found)

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

    def send_ask(self, ask: Ask, tx: Transaction) -> None:
        """To the people of this site; withdrawn with its event where it has not left yet."""
        topic = topics.ask(ask.site, ask.device)
        self._send(ask, SITE, topic, f"ask/{ask.event}", ask.event, ask.privacy, tx)

    def send_drift(self, drift: Drift, tx: Transaction) -> None:
        """To the people of this site. What is told anew replaces what did not leave yet."""
        topic = topics.drift(drift.site, drift.device)
        name = f"drift/{drift.stream}/{drift.rule}/{drift.signal}"
        self._send(drift, SITE, topic, f"{drift.device}/{name}", "", drift.privacy, tx)

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

    def acknowledge_label(self, ack: Ack, site: str, device: str, tx: Transaction) -> None:
        """To who gave it: the label is in, or was before."""
        topic = topics.ack(site, device)
        self._send(ack, SITE, topic, f"label-ack/{device}/{ack.sha256}", "", Privacy.PUBLIC, tx)

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
            outbox.outgoing(message, hop=hop, topic=topic, id=id, now_s=now_s, event=event, privacy=privacy)
        )

    # --- tidying -------------------------------------------------------------------------------------------------

    def forget(self, before_s: float) -> None:
        """Drop answers, their labels and features, sightings and told hours that are older than this."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM edge_answers WHERE at < ?", (before_s,))
            self.sightings.forget(before_s, tx)
            self.rooms.forget(before_s, tx)
            self.labels.forget(tx)
            self.asks.forget(before_s, tx)
