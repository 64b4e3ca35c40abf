"""What the edge lets in: events of its devices, people's labels of them, and over the uplink the gateway's acknowledgements and the cloud's answers.

Runs inside the transaction of a batch of messages, so that what is acknowledged is committed. Each message stands for
itself: one that cannot be taken is refused, and the batch goes on, since the broker would only bring it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from agents.edge.label_rules import LABEL_MAX_BYTES
from agents.edge.store import SITE, UPLINK, EdgeStore
from agents.role.dead_letters import INTERNAL_ERROR, refusal
from agents.role.telemetry import Metrics
from pipeline import messages, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import Downlink, Event, Label, Malformed, Result, UplinkAck
from pipeline.mqtt import Message
from pipeline.spool import Arrival, Receipt, Spool, Transaction

log = structlog.get_logger("edge")


class SiteAdmission:
    """Of the site's broker: `admit` and `committed`, as `pipeline.delivery.Ingest` calls them."""

    def __init__(self, site: str, spool: Spool, store: EdgeStore, metrics: Metrics, clock: Clock) -> None:
        self._site = site
        self._spool = spool
        self._store = store
        self._metrics = metrics
        self._clock = clock

    def admit(self, message: Message, tx: Transaction) -> Arrival | None:
        """Store an event of a device of this site, or a label of one, or refuse it.

        Raises
        ------
        Retry
            The spool is full: nothing is acknowledged, so the devices keep what they have.
        """
        if self._spool.full:
            raise Retry(
                f"the edge's spool is full ({self._spool.limit_bytes >> 20} MiB) until the cloud takes what waits in "
                "it: look after the uplink, or raise edge.spool_mib"
            )
        return _for_itself(
            partial(self._arrival, message), partial(self._refuse, message.topic, message.payload, tx)
        )

    def _arrival(self, message: Message) -> Arrival | None:
        parsed = topics.parse(message.topic)
        if parsed is None:
            return None
        if parsed.channel == "label":
            return self._label(message)
        told = messages.decode(Event, message.payload).result
        if (told.site, told.device, told.stream) != (parsed.site, parsed.device, parsed.name):
            raise Rejected(
                "other-source",
                f"an event of {told.source} came under {message.topic}: send it under its own",
            )
        self._metrics.received(told.source, "event")
        return Arrival(message.topic, message.payload, self._clock.now(), f"{told.event}/{told.revision}")

    def _label(self, message: Message) -> Arrival:
        """What it means is found out when its turn comes: it may be about an event that waits in the same inbox."""
        if message.retain:
            raise Rejected(
                "retained", "a retained label would be said again at every connect: publish without -r"
            )
        if len(message.payload) > LABEL_MAX_BYTES:
            raise Rejected(
                "label-too-large", f"{len(message.payload)} bytes; a label has at most {LABEL_MAX_BYTES}"
            )
        messages.decode(Label, message.payload)
        return Arrival(message.topic, message.payload, self._clock.now())

    def _refuse(self, topic: str, payload: bytes, tx: Transaction, error: Rejected) -> None:
        now_s = self._clock.now()
        tx.send(refusal(error, topic, payload, site=self._site, hop=SITE, now_s=now_s))
        self._metrics.refused(error.reason)

    def committed(self, receipts: list[Receipt], tx: Transaction) -> None:
        """One acknowledgement a device: repeats are acknowledged again, and so is what is refused, else it would come again."""
        by_device: dict[tuple[str, str], list[str]] = {}
        for receipt in receipts:
            parsed = topics.parse(receipt.topic)
            if parsed is not None and parsed.channel != "label":  # acknowledged once it was dealt with
                by_device.setdefault((parsed.site, parsed.device), []).append(receipt.id)
            if receipt.conflict:
                why = Rejected("id-reused", f"{receipt.id} named another event before: this one is not taken")
                self._refuse(receipt.topic, receipt.payload, tx, why)
        for (site, device), ids in by_device.items():
            self._store.acknowledge_events(site, device, ids, tx)


class UplinkAdmission:
    """Of the uplink's broker; `supersede` takes in one answer of the cloud."""

    def __init__(
        self,
        site: str,
        store: EdgeStore,
        metrics: Metrics,
        supersede: Callable[[Result, Transaction], None],
    ) -> None:
        self._site = site
        self._store = store
        self._metrics = metrics
        self._supersede = supersede

    def admit(self, message: Message, tx: Transaction) -> None:
        """Settle what Kafka has; take in what the cloud answered."""
        _for_itself(partial(self._deal_with, message, tx), partial(self._refused, message.topic))

    def _deal_with(self, message: Message, tx: Transaction) -> None:
        if message.topic == topics.uplink_ack(self._site):
            self._settle(messages.decode(UplinkAck, message.payload), tx)
        elif message.topic == topics.downlink(self._site):
            self._take(messages.decode(Downlink, message.payload).results, tx)

    def _settle(self, ack: UplinkAck, tx: Transaction) -> None:
        tx.settle(UPLINK, (*ack.ids, *ack.refused))
        if ack.refused:
            for name in ack.refused:
                self._store.sightings.ask_again(name.split("/")[0], tx)
            self._metrics.refused("refused-by-the-cloud", len(ack.refused))
            log.error("the cloud will never take these records", ids=ack.refused[:5], count=len(ack.refused))

    def _take(self, results: Sequence[Result], tx: Transaction) -> None:
        """Each answer for itself; all are acknowledged, also those that are of no use here."""
        refused = partial(self._refused, topics.downlink(self._site))
        for result in results:
            if result.site == self._site:
                _for_itself(partial(self._answer, result, tx), refused)
        if results:
            self._store.acknowledge_downlink(self._site, map(messages.downlink_id, results), tx)

    def _answer(self, result: Result, tx: Transaction) -> None:
        if not (topics.is_name(result.device) and topics.is_name(result.stream)):
            raise Rejected(
                "odd-name", "an answer of the cloud names a device or a stream that can be none of ours"
            )
        self._supersede(result, tx)

    def _refused(self, topic: str, error: Rejected) -> None:
        self._metrics.refused(error.reason)
        log.warning("what the gateway sent is refused", topic=topic, reason=error.reason, error=str(error))


T = TypeVar("T")


def _for_itself(take: Callable[[], T], refuse: Callable[[Rejected], None]) -> T | None:
    """Take in one message, or refuse it: else the broker would bring it again and again, and with it all of its batch.

    Raises
    ------
    Retry, Stop, sqlite3.Error, MemoryError
        No message is to blame.
    """
    try:
        return take()
    except (Retry, Stop, sqlite3.Error, MemoryError):
        raise
    except (Malformed, Rejected) as error:
        refuse(Rejected(error.reason, str(error)))
    except Exception as error:
        log.exception("a message met a bug of ours and is refused")
        why = f"a bug of ours ({type(error).__name__}): please report it with the log"
        refuse(Rejected(INTERNAL_ERROR, why))
    return None
