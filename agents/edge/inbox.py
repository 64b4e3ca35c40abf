"""Accept events and labels from the site's broker, and messages of gateway and cloud over the uplink.

::

    site's broker ──> SiteAdmission ──> inbox (events, labels)
    uplink ──> UplinkDispatch ──by topic──> UplinkAdmission (acknowledgements, the cloud's answers)
                                    └─────> Download (signed metadata and chunks of releases)

Admission runs inside the transaction of a batch of messages, so that an acknowledged message is committed. A message
that cannot be taken is refused, and the rest of its batch goes on: else the broker would send all of it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog

from agents.edge.label_rules import LABEL_MAX_BYTES
from agents.edge.resources import EdgeResources
from agents.edge.store import UPLINK
from agents.releases.downloader import Download
from agents.role.dead_letters import INTERNAL_ERROR, check_times
from agents.role.full_store import store_full
from pipeline import messages, topics
from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import Downlink, Event, Label, Malformed, Result, UplinkAck
from pipeline.mqtt import Handler, Message
from pipeline.spool import Arrival, Receipt, Transaction

log = structlog.get_logger("edge")

FULL_STORE: Final = ("the cloud", "edge.spool_mib")
"""The next hop, which a full spool waits for, and the setting that gives the spool more room."""


class SiteAdmission:
    """Admits messages of the site's broker: `admit` and `committed` for `pipeline.delivery.Ingest`."""

    def __init__(self, resources: EdgeResources) -> None:
        self._store = resources.store
        self._spool = resources.store.spool
        self._metrics = resources.metrics
        self._clock = resources.clock

    def admit(self, message: Message, tx: Transaction) -> Arrival | None:
        """Store an event of a device of this site, or a label, or refuse it."""
        refuse = partial(self._refuse, message.topic, message.payload, tx)
        return _take_or_refuse(partial(self._arrival, message), refuse)

    def _arrival(self, message: Message) -> Arrival | None:
        parsed = topics.parse(message.topic)
        if parsed is None:
            return None
        if parsed.channel == "label":
            return self._label(message)
        result = messages.decode(Event, message.payload).result
        if (result.site, result.device, result.stream) != (parsed.site, parsed.device, parsed.name):
            raise Rejected(
                "other-source",
                f"an event of {result.source} arrived under {message.topic}: publish it under its own topic",
            )
        self._metrics.received(result.source, "event")
        name = f"{result.event}/{result.revision}"
        return Arrival(message.topic, message.payload, self._clock.now(), name)

    def _label(self, message: Message) -> Arrival:
        """Store a label. It is resolved later, since its event may wait in the same inbox."""
        if message.retain:
            raise Rejected(
                "retained",
                "the broker would send a retained label again at every connect: publish without -r",
            )
        if len(message.payload) > LABEL_MAX_BYTES:
            raise Rejected(
                "label-too-large", f"the label has {len(message.payload)} bytes, more than {LABEL_MAX_BYTES}"
            )
        messages.decode(Label, message.payload)
        return Arrival(message.topic, message.payload, self._clock.now())

    def _refuse(self, topic: str, payload: bytes, tx: Transaction, error: Rejected) -> None:
        self._store.send_refusal(error, topic, payload, tx)
        self._metrics.refused(error.reason)

    def committed(self, receipts: list[Receipt], tx: Transaction) -> None:
        """Acknowledge each device's events, repeated and refused ones too: else the device would send them again.

        If the spool is full, a new event is refused without an acknowledgement: its device keeps it and sends it again.
        """
        by_device: dict[tuple[str, str], list[str]] = {}
        for receipt in receipts:
            if receipt.full:
                self._refuse(receipt.topic, receipt.payload, tx, store_full(self._spool, *FULL_STORE))
                continue
            parsed = topics.parse(receipt.topic)
            if parsed is not None and parsed.channel != "label":  # a label is acknowledged when it is answered
                by_device.setdefault((parsed.site, parsed.device), []).append(receipt.id)
            if receipt.conflict:
                why = Rejected("id-reused", f"{receipt.id} already names another event: give each event its own id")
                self._refuse(receipt.topic, receipt.payload, tx, why)
        for (site, device), ids in by_device.items():
            self._store.acknowledge_events(site, device, ids, tx)


class UplinkAdmission:
    """Admits messages of the gateway; `supersede` takes one answer of the cloud."""

    def __init__(self, resources: EdgeResources, supersede: Callable[[Result, Transaction], None]) -> None:
        self._site = resources.settings.site
        self._store = resources.store
        self._metrics = resources.metrics
        self._supersede = supersede

    def admit(self, message: Message, tx: Transaction) -> None:
        """Settle the records that Kafka has, and take the cloud's answers."""
        _take_or_refuse(partial(self._admit, message, tx), partial(self._refused, message.topic))

    def _admit(self, message: Message, tx: Transaction) -> None:
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
            log.error("the cloud refused these records for good", ids=ack.refused[:5], count=len(ack.refused))

    def _take(self, results: Sequence[Result], tx: Transaction) -> None:
        """Take each answer by itself, and acknowledge all of them, also those that are of no use here."""
        refused = partial(self._refused, topics.downlink(self._site))
        for result in results:
            if result.site == self._site:
                _take_or_refuse(partial(self._answer, result, tx), refused)
        if results:
            self._store.acknowledge_downlink(map(messages.downlink_id, results), tx)

    def _answer(self, result: Result, tx: Transaction) -> None:
        if not (topics.is_name(result.device) and topics.is_name(result.stream)):
            raise Rejected("odd-name", "an answer of the cloud names a device or stream by an invalid name")
        check_times(result.time)
        self._supersede(result, tx)

    def _refused(self, topic: str, error: Rejected) -> None:
        self._metrics.refused(error.reason)
        log.warning("a message of the gateway is refused", topic=topic, reason=error.reason, error=str(error))


class UplinkDispatch:
    """The uplink's handler: each message goes to the part that its topic names."""

    def __init__(self, answers: Handler, releases: Download) -> None:
        self._answers = answers
        self._releases = releases

    def connected(self, session_present: bool) -> int:
        """See `mqtt.Handler`."""
        self._releases.connected(session_present)
        return self._answers.connected(session_present)

    def received(self, batch: Sequence[Message]) -> int:
        """See `mqtt.Handler`. Releases are not committed: after a kill they are retained, or requested again."""
        of_releases = [message for message in batch if self._releases.takes(message.topic)]
        if of_releases:
            self._releases.received(of_releases)
        return self._answers.received([m for m in batch if not self._releases.takes(m.topic)])

    def confirmed(self, mark: int) -> None:
        """See `mqtt.Handler`."""
        self._answers.confirmed(mark)


T = TypeVar("T")


def _take_or_refuse(take: Callable[[], T], refuse: Callable[[Rejected], None]) -> T | None:
    """Take one message, or refuse it: else the broker would send it again and again, with all of its batch.

    Raises
    ------
    Retry, Stop, sqlite3.Error, MemoryError
        The message is not to blame.
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
