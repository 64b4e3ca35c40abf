"""What the edge lets in: events of its devices, and over the uplink the gateway's acknowledgements and the cloud's answers.

Runs inside the transaction of a batch of messages, so that what is acknowledged is committed.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agents.edge_store import SITE, UPLINK, EdgeStore
from agents.refusals import refusal
from agents.telemetry import Metrics
from pipeline import messages, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected
from pipeline.messages import Downlink, Event, Malformed, Result, UplinkAck
from pipeline.mqtt import Message
from pipeline.spool import Arrival, Receipt, Transaction

log = structlog.get_logger("edge")


class SiteAdmission:
    """Of the site's broker: `admit` and `committed`, as `pipeline.delivery.Ingest` calls them."""

    def __init__(self, site: str, store: EdgeStore, metrics: Metrics, clock: Clock) -> None:
        self._site = site
        self._store = store
        self._metrics = metrics
        self._clock = clock

    def admit(self, message: Message, tx: Transaction) -> Arrival | None:
        """Store an event of a device of this site, or refuse it."""
        parsed = topics.parse(message.topic)
        if parsed is None:
            return None
        now_s = self._clock.now()
        try:
            event = messages.decode(Event, message.payload)
            told = event.result
            if (told.site, told.device, told.stream) != (parsed.site, parsed.device, parsed.name):
                raise Rejected(
                    "other-source",
                    f"an event of {told.source} came under {message.topic}: send it under its own",
                )
        except (Malformed, Rejected) as error:
            reason = Rejected(error.reason, str(error))
            tx.send(refusal(reason, message.topic, message.payload, site=self._site, hop=SITE, now_s=now_s))
            self._metrics.refused(reason.reason)
            return None
        self._metrics.received(told.source, "event")
        return Arrival(message.topic, message.payload, now_s, f"{told.event}/{told.revision}")

    def committed(self, receipts: list[Receipt], tx: Transaction) -> None:
        """One acknowledgement a device: repeats are acknowledged again."""
        by_device: dict[tuple[str, str], list[str]] = {}
        for receipt in receipts:
            parsed = topics.parse(receipt.topic)
            if parsed is not None:
                by_device.setdefault((parsed.site, parsed.device), []).append(receipt.id)
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
        try:
            if message.topic == topics.uplink_ack(self._site):
                ack = messages.decode(UplinkAck, message.payload)
                tx.settle(UPLINK, (*ack.ids, *ack.refused))
                if ack.refused:
                    self._metrics.refused("refused-by-the-cloud", len(ack.refused))
                    log.error(
                        "the cloud will never take these records", ids=ack.refused[:5], count=len(ack.refused)
                    )
            elif message.topic == topics.downlink(self._site):
                results = messages.decode(Downlink, message.payload).results
                for result in results:
                    if result.site == self._site:
                        self._supersede(result, tx)
                if results:
                    self._store.acknowledge_downlink(self._site, map(messages.downlink_id, results), tx)
        except Malformed as error:
            self._metrics.refused(error.reason)
            log.warning("a message of the gateway is not understood", topic=message.topic, error=str(error))
