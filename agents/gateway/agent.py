"""Connect sites to the cloud: deliver uplink batches from MQTT to Kafka, and send the cloud's results back to sites.

::

    MQTT uplink ──> checked, cleared ──> Kafka tierwise.features.ingest ──(acknowledged)──> MQTT uplink-ack
    Kafka tierwise.results (cloud's) ──> outbox ──> MQTT downlink ──(downlink-ack)──> removed
    Kafka tierwise.models (releases) ──> folder ──> MQTT release/metadata (retained), release/chunk (on request)

The gateway acknowledges a batch to its edge, and to the broker, after Kafka acknowledged every record of it. Several
gateways share the sites: the uplink is a shared subscription, and the results are read as one consumer group.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from functools import partial

import structlog

from agents.gateway import outbox_claim
from agents.gateway.uplink import SiteUplink, acknowledgements, check_site
from agents.releases.server import ReleaseServer
from agents.role import outbox
from agents.role.dead_letters import INTERNAL_ERROR, refusal_of
from agents.role.kafka_wait import await_topics
from agents.role.lifecycle import Health
from agents.role.presence import broker_parts, endpoint
from agents.role.telemetry import Metrics
from pipeline import messages, records, topics
from pipeline.clock import Clock, SystemClock
from pipeline.delivery import BatchSender
from pipeline.errors import Rejected, Retry, Stop
from pipeline.kafka import Consumer, Fetched, Producer, RefusedRecord
from pipeline.messages import (
    Downlink,
    DownlinkAck,
    Malformed,
    Result,
    Tier,
    UplinkBatch,
)
from pipeline.mqtt import Connection, Message
from pipeline.privacy import gate
from pipeline.settings.settings import Settings
from pipeline.spool import Outgoing

log = structlog.get_logger("gateway")

DOWN = "down"
"""Hop of the outbox: results that the site's edge has not acknowledged."""

GROUP = topics.Group.GATEWAY
SHARE = "$share/tierwise-gateway/"
SHARE_RELEASES = "$share/tierwise-gateway-releases/"
"""A share group of its own: with two filters in one group, the embedded broker stops delivering one of them."""
SPOOL_MIB = 1024
"""Room for results whose sites are away; a result takes less than a kilobyte."""

RETRY_S = 1.0
"""Pause after Kafka could not be reached."""

KEEP_S = 7 * 86_400.0
"""A result waits this long for a site that is away; then it is dropped."""

DROP_EVERY_S = 3600.0
"""Interval between checks for results that are older than `KEEP_S`."""

ADOPT_EVERY_S = 30.0
"""Interval between checks for outboxes of gateways that are gone; a live gateway adopts their results."""


class Gateway:
    """A gateway for all sites. Several may run."""

    name = "gateway"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._kafka = "connecting"
        self._dropped_s = self._adopted_s = -math.inf
        self._ready = False

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the outbox; connect in the background."""
        settings, folder = self._settings, self._settings.data_dir / "gateway"
        self._spool, instance = outbox_claim.claim(folder, limit_bytes=SPOOL_MIB << 20)
        self._producer = Producer(settings.kafka, "tierwise-gateway")
        self._releases = ReleaseServer(settings.kafka, folder / f"releases-{instance}")
        self._mqtt = Connection(
            endpoint(settings.uplink_mqtt),
            f"tierwise-gateway-{instance}",
            subscriptions=[
                SHARE + topics.uplink("+"),
                topics.downlink_ack("+"),
                SHARE_RELEASES + topics.release_want("+"),
                topics.release_metadata("+"),
            ],
            handler=self,
            # A clean session: edges repeat every message that was not acknowledged. With a kept session on a shared
            # subscription, Mosquitto holds messages back for a client that is away (5 of 10 waited), and rumqttd
            # crashes when such a session has unacknowledged messages.
            persistent=False,
        )
        self._sender = BatchSender(
            self._spool, self._mqtt, DOWN, self._wrap, refused=self._undelivered, clock=self._clock
        )
        self.metrics.backlog(DOWN, partial(self._spool.backlog, DOWN))
        self._reader = threading.Thread(target=self._read_results, name="results", daemon=True)
        self._reader.start()
        self._releases.start(self._mqtt)
        self._ready = True

    def health(self) -> Health:
        """Ready while connected to MQTT and Kafka."""
        if not self._ready:
            return Health(False, {"gateway": "starting"})
        parts = {**broker_parts(self._mqtt, "uplink"), "kafka": self._kafka, "releases": self._releases.state}
        return Health(self._mqtt.connected and self._kafka == "connected", parts)

    def stop(self, deadline_s: float) -> None:
        """Stop senders and readers, then close the connections and the outbox."""
        self._stop.set()
        if not self._ready:
            return
        self._sender.stop(0.5)
        self._releases.stop(deadline_s / 6)
        self._mqtt.stop(deadline_s / 3)
        self._reader.join(deadline_s / 3)
        self._producer.close(deadline_s / 3)
        self._spool.close()

    # --- uplink: the handler of the connection
    # ------------------------------------------------------------------------------

    def connected(self, session_present: bool) -> int:  # noqa: ARG002 - the handler's signature
        """See `mqtt.Handler`. Batches that an edge repeats are delivered to Kafka again; repeats are harmless."""
        return 0

    def confirmed(self, mark: int) -> None:
        """See `mqtt.Handler`. Nothing to store: sites repeat messages that were not acknowledged."""

    def received(self, batch: Sequence[Message]) -> int:
        """Deliver uplink batches to Kafka, then acknowledge them. Remove results that edges acknowledged.

        All uplinks of the batch are one delivery, and a site gets one acknowledgement for them: each delivery waits for
        Kafka, and meanwhile no acknowledgement of the broker is read.

        Raises
        ------
        Retry
            Kafka did not take them. Nothing is acknowledged; the edges send the batches again.
        """
        uplinks: list[SiteUplink] = []
        settled: list[str] = []
        for message in batch:
            with self._refusing(message):
                if topics.is_uplink(message.topic):
                    uplinks.append(self._checked(message))
                elif site := topics.wanting_site(message.topic):
                    self._send_release_chunk(message, site)
                elif file := topics.metadata_file(message.topic):
                    self._releases.on_retained(file, message.payload)
                else:
                    settled += self._settled(message)
        if settled:
            self._spool.settle(DOWN, settled)
        try:
            self._deliver_uplinks(uplinks)
        except (Retry, Stop, MemoryError):
            raise
        except Exception:  # find the message that causes it
            for uplink in uplinks:
                with self._refusing(uplink.message):
                    self._deliver_uplinks([uplink])
        return 0

    @contextlib.contextmanager
    def _refusing(self, message: Message) -> Iterator[None]:
        """Refuse a message that causes an internal error: else the edge would repeat it, and end this gateway again."""
        try:
            yield
        except (Retry, Stop, MemoryError):
            raise
        except Exception as error:
            log.exception("a message caused an internal error", topic=message.topic)
            why = Rejected(INTERNAL_ERROR, f"internal error ({type(error).__name__}); please report it with the log")
            self._refuse(why, message, topics.site_of(message.topic) or topics.NO_DEVICE)

    def _deliver_uplinks(self, uplinks: Sequence[SiteUplink]) -> None:
        owners = [(uplink, envelope.id) for uplink in uplinks for envelope, _ in uplink.accepted]
        for failed in self._deliver([cleared for uplink in uplinks for _, cleared in uplink.accepted]):
            uplink, name = owners[failed.index]
            uplink.refused[name] = Rejected(failed.reason, failed.message)
        for uplink in uplinks:
            for reason in {why.reason: why for why in uplink.refused.values()}.values():
                self._refuse(reason, uplink.message, uplink.site)
        for site, ack in acknowledgements(uplinks):
            try:
                self._mqtt.publish(gate.clear(ack, topics.uplink_ack(site), to=Tier.CLOUD))
            except Retry as error:
                log.info("an acknowledgement did not leave; the edge will repeat", site=site, error=str(error))

    def _deliver(self, cleared: list[gate.ClearedRecord]) -> Sequence[RefusedRecord]:
        if not cleared:
            return ()
        try:
            return self._producer.deliver(cleared)
        except Retry as error:
            self._kafka = str(error)
            raise

    def _checked(self, message: Message) -> SiteUplink:
        """Read an uplink batch, and check each of its envelopes. A message that is no batch is refused as a whole."""
        uplink = SiteUplink(message, topics.site_of(message.topic) or topics.NO_DEVICE, [], {})
        self.metrics.hop("edge-cloud", len(message.payload))
        try:
            batch = messages.decode(UplinkBatch, message.payload)
        except Malformed as error:
            self._refuse(Rejected(error.reason, str(error)), message, uplink.site)
            return uplink
        for envelope in batch.envelopes:
            try:
                check_site(envelope, batch.site, uplink.site)
                uplink.accepted.append((envelope, gate.clear_record(envelope)))
            except Rejected as error:
                uplink.refused[envelope.id] = error
        return uplink

    def _refuse(self, error: Rejected, message: Message, site: str) -> None:
        """Publish a refusal, without content, to the site on MQTT and to the operator on Kafka's rejected topic."""
        self.metrics.refused(error.reason)
        refusal = refusal_of(error, message.topic, message.payload, self._clock.now())
        log.warning("refused", site=site, reason=error.reason, error=str(error))
        self._deliver([gate.clear_refusal(refusal)])
        try:
            self._mqtt.publish(gate.clear(refusal, topics.rejected(site, topics.NO_DEVICE), to=Tier.EDGE))
        except Retry as busy:
            log.info("a refusal did not leave", site=site, error=str(busy))

    # --- downlink ---------------------------------------------------------------------------------------------

    def _read_results(self) -> None:
        """Move results from Kafka to the outbox. A result's offset is committed after the result itself."""
        settings = self._settings
        if not await_topics(settings.kafka, [topics.INGEST, topics.RESULTS], self._stop, self._set_kafka_state):
            return
        self._kafka = "connected"
        self._mqtt.start()
        self._sender.start()
        consumer = Consumer(settings.kafka, [topics.RESULTS], GROUP, "tierwise-gateway")
        fetched: Sequence[Fetched] = ()
        while not self._stop.is_set():
            try:
                self._maintain()
                fetched = fetched or self._poll(consumer)
                if fetched:
                    self._queue([record.value or b"" for record in fetched])
                    fetched = ()
                    consumer.commit()
            except Retry as error:  # Kafka or the outbox is busy; the fetched records are queued later
                self._kafka = str(error)
                self._stop.wait(RETRY_S)
        consumer.close()

    def _poll(self, consumer: Consumer) -> Sequence[Fetched]:
        """Return the next results. Raises `Retry` while the outbox is full."""
        if self._spool.full:
            raise Retry(f"not reading: {SPOOL_MIB} MiB of results wait for sites that are away")
        fetched = consumer.poll()
        self._kafka = "connected"
        return fetched

    def _maintain(self) -> None:
        """Adopt abandoned outboxes; drop results older than a week."""
        now_s = self._clock.monotonic()
        if now_s - self._adopted_s > ADOPT_EVERY_S:
            folder = self._settings.data_dir / "gateway"
            if count := outbox_claim.adopt(folder, self._spool, DOWN, now_s):
                log.info("adopted the results of a gateway that is gone", count=count)
            self._adopted_s = now_s
        if now_s - self._dropped_s > DROP_EVERY_S:
            with self._spool.transaction() as tx:
                count = tx.expire(DOWN, self._clock.now() - KEEP_S)
            self._dropped_s = now_s
            if count:
                log.warning("dropped results whose sites stayed away for a week", count=count)

    def _set_kafka_state(self, state: str) -> None:
        self._kafka = state

    def _queue(self, values: Sequence[bytes]) -> None:
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            for value in values:
                try:
                    answer = records.answer(value)
                except Rejected as error:
                    self.metrics.refused(error.reason)
                    continue
                if isinstance(answer, Result):
                    topic = topics.downlink(answer.site)
                    name = f"{answer.site}/{messages.downlink_id(answer)}"
                    tx.send(outbox.outgoing(answer, hop=DOWN, topic=topic, id=name, now_s=now_s, event=answer.event))

    def _wrap(self, batch: Sequence[Outgoing]) -> gate.Cleared:
        """Return one downlink message, cleared by the gate."""
        results = tuple(outbox.opened_as(Result, record) for record in batch)
        cleared = gate.clear(Downlink(results=results), batch[0].topic, to=Tier.CLOUD)
        self.metrics.hop("cloud-edge", len(cleared.payload))
        return cleared

    def _settled(self, message: Message) -> list[str]:
        """Return the results that an edge acknowledged. An edge can acknowledge only its own site's results."""
        site = topics.site_of(message.topic)
        try:
            return [f"{site}/{name}" for name in messages.decode(DownlinkAck, message.payload).ids]
        except Malformed as error:
            self.metrics.refused(error.reason)
            return []

    def _send_release_chunk(self, message: Message, site: str) -> None:
        """Send a chunk of a release file to the site that requested it. The site repeats a request that failed."""
        try:
            cleared = self._releases.answer(message, site)
            self._mqtt.publish(cleared)
            self.metrics.hop("cloud-edge", len(cleared.payload))
        except (Malformed, Rejected) as error:
            self.metrics.refused(error.reason)
            log.warning("refused", site=site, reason=error.reason, error=str(error))
        except Retry as error:
            log.info("a part of a release did not leave", site=site, error=str(error))

    def _undelivered(self, outgoing: Outgoing, error: Rejected) -> None:
        self.metrics.refused(error.reason)
        log.error("a result was not sent", of=outgoing.event, reason=error.reason, error=str(error))


def build(settings: Settings, clock: Clock | None = None) -> Gateway:
    """Return the gateway role. Opens nothing yet."""
    return Gateway(settings, clock or SystemClock())
