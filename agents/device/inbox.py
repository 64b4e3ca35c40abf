"""Check each message to the device agent before it is committed and acknowledged.

This runs inside the transaction of a batch of messages. A frame or reading is stored, an acknowledgement of the edge
settles the records that it names, and bad input is refused; all of it is committed, or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import structlog

from agents.device import packs
from agents.device.foreign_topics import ForeignTopics
from agents.device.store import ACKS, EDGE, SITE, DeviceStore
from agents.role import outbox
from agents.role.dead_letters import refusal
from agents.role.full_store import store_full
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline import ids, messages, readings, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected
from pipeline.messages import Ack, EventAck, Malformed, Result, Task
from pipeline.mqtt import Message
from pipeline.settings.settings import Settings
from pipeline.spool import Arrival, Backlog, Receipt, Spool, Transaction
from pipeline.topics import Parsed

log = structlog.get_logger("device")

FULL_STORE: Final = ("the edge", "device.spool_mib")
"""The next hop, which a full spool waits for, and the setting that gives the spool more room."""


REPEATED_WITHIN_S: Final = 600.0
"""An equal frame on a topic within this time is sent again for want of an acknowledgement: the same event."""


class Admission:
    """Provides `admit` and `committed` for `pipeline.delivery.Ingest`."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        store: DeviceStore,
        metrics: Metrics,
        clock: Clock,
        seen: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._seen = seen
        self._foreign = ForeignTopics(settings)
        self._limit = Backlog(settings.device.busy_at, settings.device.busy_after_s, clock.now())

    def subscriptions(self) -> list[str]:
        """Return the other programs' topics that streams listen on."""
        return self._foreign.subscriptions()

    def admit(self, message: Message, tx: Transaction) -> Arrival | None:
        """Store a message, settle the records that it acknowledges, or refuse it."""
        parsed = topics.parse(message.topic)
        if parsed is None:
            self._admit_foreign(message, tx)
            return None
        try:
            if parsed.channel == "event-ack":
                tx.settle(EDGE, messages.decode(EventAck, message.payload).ids)
                return None
            if parsed.channel in ("result", "private"):
                self._store.answered(messages.decode(Result, message.payload).event, tx)
                return None
        except Malformed as error:
            log.warning("the message of another agent cannot be read", topic=message.topic, error=str(error))
            self._metrics.refused(error.reason)
            return None
        self._metrics.received(f"{parsed.site}/{parsed.device}/{parsed.name}", parsed.channel)
        try:
            return self._checked(parsed, message, tx)
        except Rejected as error:
            self._refuse(error, message.topic, message.payload, tx)
            return None

    def _admit_foreign(self, message: Message, tx: Transaction) -> None:
        """Store what a message on another program's topic has for our streams; a repeated state is read once."""
        feeds = self._foreign.feeds(message.topic, message.payload)
        if not feeds or (message.retain and self._store.is_last_heard(message, tx)):
            return
        arrivals = []
        for origin, found in feeds:
            source = f"{origin.site}/{origin.device}/{origin.name}"
            if found is None:
                self._metrics.without_value(source)
                continue
            try:
                if isinstance(found, Rejected):
                    raise found
                topic = f"{topics.ROOT}/{origin.site}/{origin.device}/{origin.channel}/{origin.name}"
                arrivals.append(self._checked(origin, Message(topic, found, False), tx))
                self._metrics.received(source, origin.channel)
            except Rejected as error:
                named = Rejected(error.reason, f"for {origin.device}/{origin.name}: {error}")
                self._refuse(named, message.topic, message.payload, tx, device=origin.device)
        receipts = tx.receive(arrivals, SITE)
        self.committed(receipts, tx, sent=message)
        if not any(receipt.full or receipt.busy for receipt in receipts):
            self._store.hear(message, tx)

    def committed(self, receipts: list[Receipt], tx: Transaction, sent: Message | None = None) -> None:
        """Put acknowledgements into the outbox, so that a kill between commit and publish only delays them.

        `sent` is the message on another program's topic that these receipts come from.
        """
        now_s = self._clock.now()
        for receipt in receipts:
            parsed = topics.parse(receipt.topic)
            topic, payload = (receipt.topic, receipt.payload) if sent is None else (sent.topic, sent.payload)
            device = parsed.device if parsed else ""
            if receipt.full:
                self._refuse(store_full(self._spool, *FULL_STORE), topic, payload, tx, device=device)
            elif receipt.busy:
                self._refuse(self._busy(), topic, payload, tx, device=device)
            elif receipt.conflict:
                error = Rejected("id-reused", "its id already names another event: give each event its own id")
                self._refuse(error, topic, payload, tx, device=device)
            elif parsed is not None:
                digest = receipt.sha256 if sent is None else hashlib.sha256(payload).hexdigest()
                ack = Ack(ids=(receipt.id,), topic=topic, sha256=digest, repeat=receipt.repeat)
                name = f"ack/{receipt.id}"
                tx.send(outbox.outgoing(ack, hop=ACKS, topic=topics.ack(parsed.site, device), id=name, now_s=now_s))

    def _busy(self) -> Rejected:
        return Rejected(
            "busy",
            f"{self._limit.messages} frames of this stream wait already, or one has waited for "
            f"{self._limit.age_s:g} s. Send it again later, send fewer frames, or raise device.busy_at and "
            "device.busy_after_s",
        )

    def _refuse(self, error: Rejected, topic: str, payload: bytes, tx: Transaction, device: str = "") -> None:
        now_s = self._clock.now()
        tx.send(refusal(error, topic, payload, site=self._settings.site, hop=ACKS, now_s=now_s, device=device))
        self._metrics.refused(error.reason)
        if topics.is_frame(topic):
            self._metrics.frame_refused(topics.stream_of(topic))

    def readings_of(self, parsed: Parsed, payload: bytes, received_s: float) -> list[readings.Reading]:
        """Return the readings in a stored payload, as their stream has them. Raises `Rejected`."""
        return [self._fitted(parsed, r) for r in readings.unpacked(payload, received_s=received_s)]

    def _fitted(self, parsed: Parsed, reading: readings.Reading) -> readings.Reading:
        stream = self._settings.stream(f"{parsed.site}/{parsed.device}/{parsed.name}")
        return readings.check(reading, stream.unit, stream.states) if stream else readings.check(reading, None)

    def _reading(self, parsed: Parsed, message: Message, tx: Transaction) -> Arrival:
        """Check each record of a payload. What is wrong with one record of a pack refuses that one alone."""
        now_s = self._clock.now()
        records = readings.records(message.payload, received_s=now_s)
        streams = packs.streams_of(records, parsed.name)
        fitted: dict[str, list[readings.Reading]] = {}
        refused: list[tuple[int, Rejected]] = []
        for number, (record, name) in enumerate(zip(records, streams, strict=True)):
            try:
                if isinstance(record.found, Rejected):
                    raise record.found
                reading = self._fitted(self._named(parsed._replace(name=name)), record.found)
                fitted.setdefault(name, []).append(reading)
            except Rejected as error:
                refused.append((number, error))
        if not fitted:
            raise refused[0][1]
        for number, why in refused:
            known = self._settings.stream(f"{parsed.site}/{parsed.device}/{streams[number]}")
            text = f"record {number + 1} of the pack{f' ({streams[number]})' if known else ''}: {why}"
            self._refuse(Rejected(why.reason, text), message.topic, records[number].sent, tx)
        whole = not refused and list(fitted) == [parsed.name] and len(records) <= packs.SLICE
        parts = () if whole else packs.parts(parsed, fitted)
        own_id = fitted[streams[0]][0].id if whole else None
        return Arrival(message.topic, message.payload, now_s, own_id, parts=parts)

    def _check_task(self, parsed: Parsed) -> None:
        """Check that a camera gets frames and a sensor gets readings. Raises `Rejected`."""
        stream = self._settings.stream(f"{parsed.site}/{parsed.device}/{parsed.name}")
        if stream is not None and (stream.task is Task.WILDLIFE) is not (parsed.channel == "frame"):
            raise Rejected(
                "wrong-task",
                f"{parsed.device}/{parsed.name} is a stream of task {stream.task}: it takes "
                f"{'frames' if stream.task is Task.WILDLIFE else 'readings'}; publish this under another stream",
            )

    def _named(self, parsed: Parsed) -> Parsed:
        """Check the names of a topic, and that its stream takes such input. Raises `Rejected`."""
        for name in (parsed.device, parsed.name):
            if not topics.is_name(name):
                raise Rejected(
                    "odd-name",
                    f"{name!r} is not a valid name: use 1 to 63 of a-z, 0-9, _ and -, and no reserved word",
                )
        self._check_task(parsed)
        return parsed

    def _checked(self, parsed: Parsed, message: Message, tx: Transaction) -> Arrival:
        self._named(parsed)
        if message.retain:
            raise Rejected(
                "retained",
                "the broker would send a retained frame or reading again at every connect: publish without -r",
            )
        if parsed.channel == "reading":
            return self._reading(parsed, message, tx)
        images.inspect(message.payload)
        self._seen(f"{parsed.site}/{parsed.device}/{parsed.name}")
        now_s, own_id = self._clock.now(), ids.of_jpeg(message.payload)
        return Arrival(message.topic, message.payload, now_s, own_id, self._limit, same_within_s=REPEATED_WITHIN_S)
