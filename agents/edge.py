"""The edge agent: names families, finds out about rooms, asks the cloud where it must, and tells the site's users all of it.

::

    MQTT event ──> inbox ──> Families, Rooms ──> outbox ──> MQTT result, sighting (users of the site)
    (devices)                                       └─────> MQTT uplink           (gateway, kept until its uplink-ack)
    MQTT downlink (the cloud's answers) ──> refined in place ──> MQTT result, sighting

The edge owns the revisions of an event from its own answer on: the cloud's answer passes through it, and where none
comes in time the edge says so. Nothing here waits for the cloud.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import msgspec
import structlog

from agents import outbox
from agents.batching import BatchSender
from agents.edge_frames import Families
from agents.edge_inbox import SiteAdmission, UplinkAdmission
from agents.edge_rooms import Rooms
from agents.edge_store import DAY_S, SITE, UPLINK, UPLINK_ACKS, Context, EdgeStore, Known
from agents.links import broker_parts, endpoint, model_names, presence
from agents.refusals import refusal
from agents.role import Health
from agents.sightings import Vote, consensus
from agents.telemetry import Metrics
from models.cascade import deeper, rank_of
from models.registry import load_zoo
from models.taxonomy import load_taxonomy
from pipeline import clock, messages, topics
from pipeline.clock import Clock, SystemClock
from pipeline.delivery import Ingest, Sender
from pipeline.errors import Rejected
from pipeline.messages import (
    UNKNOWN,
    Envelope,
    Event,
    Kind,
    Privacy,
    Report,
    Result,
    SightingReport,
    Task,
    Tier,
    UplinkBatch,
)
from pipeline.mqtt import Connection
from pipeline.privacy import gate
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings import Settings
from pipeline.spool import Item, Outgoing, Spool, Transaction
from pipeline.timeseries import open_writer, reading_point, result_point, sighting_point

log = structlog.get_logger("edge")

BATCH = 32
"""Records taken from the inbox at once."""

TICK_S = 0.5
"""How often deadlines, rooms and quiet sightings are looked at."""

TIDY_S = 3600.0
"""How often what is too old is dropped."""

NAMED_KINGDOMS = frozenset({"animal", "plant", "person"})
"""Sightings of these are told to the cloud where they are public: empty frames are nobody's sighting."""


class Edge:
    """The edge agent of one site."""

    name = "edge"

    def __init__(self, settings: Settings, time: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = time
        self._policy = Policy(settings)
        self._stop = threading.Event()
        self._ready = False

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open store, models, keys and time series; connect in the background."""
        settings, folder, site = self._settings, self._settings.data_dir / "edge", self._settings.site
        self._spool = Spool.open(folder / "spool.db", limit_bytes=settings.edge.spool_mib << 20)
        self._store = EdgeStore(self._spool, self._clock)
        self._store.open()
        self._series = open_writer(settings.influx, folder / "series.db", settings.edge.keep_days)
        zoo = load_zoo()
        keyring = Keyring.open(settings.data_dir / "keys", create=True)
        self._families = Families(
            self._policy, load_taxonomy(), zoo.edge_eye(), keyring, settings.uplink.sealed
        )
        self._rooms = Rooms(settings, self._policy, self._store, zoo.occupancy(), keyring, self._clock)
        self._rooms.open()
        birth, will = presence(site, self.name, self._clock, models=model_names(zoo), backlog=self._backlog)
        at_site = SiteAdmission(site, self._store, self.metrics, self._clock)
        at_uplink = UplinkAdmission(site, self._store, self.metrics, self._supersede)
        self._mqtt = Connection(
            endpoint(settings.mqtt),
            f"tierwise-{site}-edge",
            subscriptions=[topics.event(site, "+", "+")],
            handler=Ingest(self._spool, SITE, at_site.admit, at_site.committed),
            birth=birth,
            will=will,
        )
        self._uplink = Connection(
            endpoint(settings.uplink_mqtt),
            f"tierwise-{site}-uplink",
            subscriptions=[topics.uplink_ack(site), topics.downlink(site)],
            handler=Ingest(self._spool, UPLINK, at_uplink.admit),
        )
        sender = partial(Sender, settled_by="broker", refused=self._undelivered, clock=self._clock)
        self._senders: list[Sender | BatchSender] = [
            sender(self._spool, self._mqtt, SITE, partial(self._clear, "edge-site")),
            sender(self._spool, self._uplink, UPLINK_ACKS, partial(self._clear, "edge-cloud")),
            BatchSender(
                self._spool, self._uplink, UPLINK, self._wrap, refused=self._undelivered, clock=self._clock
            ),
        ]
        for hop in (SITE, UPLINK):
            self.metrics.backlog(hop, partial(self._spool.backlog, hop))
        self._series.start()
        self._mqtt.start()
        self._uplink.start()
        for each in self._senders:
            each.start()
        threading.Thread(target=self._answer_loop, name="answer", daemon=True).start()
        threading.Thread(target=self._tick_loop, name="deadlines", daemon=True).start()
        self._ready = True

    def health(self) -> Health:
        if not self._ready:
            return Health(False, {"edge": "starting"})
        parts = {
            **broker_parts(self._mqtt),
            **broker_parts(self._uplink, "uplink"),
            "waiting": str(self._spool.waiting_count),
            "unsent": str(self._backlog()),
        }
        if self._series.trouble:
            parts["series"] = self._series.trouble
        return Health(self._mqtt.connected, parts)

    def stop(self, deadline_s: float) -> None:
        self._stop.set()
        if not self._ready:
            return
        self._spool.arrived.set()
        for sender in self._senders:
            sender.stop(0.3)
        self._mqtt.stop(deadline_s / 4, farewell=presence(self._settings.site, self.name, self._clock)[1])
        self._uplink.stop(deadline_s / 4)
        self._series.close(deadline_s / 4)

    def _backlog(self) -> int:
        return self._spool.backlog(UPLINK)

    # --- answering -------------------------------------------------------------------------------------------

    def _answer_loop(self) -> None:
        while not self._stop.is_set():
            items = self._spool.waiting(BATCH)
            if not items:
                self._spool.arrived.wait(TICK_S)
                self._spool.arrived.clear()
            for item in items:
                if self._stop.is_set():
                    return
                self._answer(item)

    def _answer(self, item: Item) -> None:
        event = messages.decode(Event, item.payload)
        if isinstance(event.body, Report):
            self._answer_report(item, event, event.body)
            return
        known = self._store.answer(event.result.event)
        if event.body is not None and (known is None or known.result.tier is Tier.DEVICE):
            self._answer_frame(item, event, known)
        elif known is None:
            self._take_over(item, event)
        else:
            self._outrank(item, event, known)

    def _answer_report(self, item: Item, event: Event, report: Report) -> None:
        """A sensor's report: into its hour and its room; the device's answer about it stands."""
        with self._spool.transaction() as tx:
            self._rooms.take(event, report, tx)
            tx.finish(item)
        time_s = clock.seconds(event.result.time)
        self._series.write(
            [
                result_point(event.result),
                reading_point(event.result.source, report.value, report.unit, time_s),
            ]
        )

    def _answer_frame(self, item: Item, event: Event, known: Known | None) -> None:
        """A crop or a vector: feature and family, and perhaps a question to the cloud."""
        before = event.result
        asked = self._store.asked(before.sighting) if before.sighting else None
        revision = max(before.revision, known.result.revision if known else 0) + 1
        try:
            answer = self._families.answer(event, revision=revision, asked=asked, now=self._clock.now)
        except Rejected as error:
            self._refuse(item, error)
            return
        result = answer.result
        context = Context(event.received_s, answer.levels, event.wants)
        with self._spool.transaction() as tx:
            self._store.send_result(result, tx)
            self._store.keep(result, context, tx, order=(event.boot, event.sequence))
            for envelope in (*event.sealed, answer.feature):
                if envelope is not None and self._may_leave(envelope):
                    self._store.send_up(envelope, result.site, tx)
            if answer.withdrawn:
                tx.cancel(result.event, hop=UPLINK)
            if result.pending is not None:
                deadline_s = self._clock.now() + self._settings.edge.cloud_deadline_s
                self._store.await_answer(result.event, deadline_s, tx)
            self._count(result, tx, asked=result.event if result.pending is not None else None)
            tx.finish(item)
        self._told(before, result)

    def _take_over(self, item: Item, event: Event) -> None:
        """An event that needs no answer of the edge: remember the device's, count it into its sighting."""
        result = event.result
        with self._spool.transaction() as tx:
            self._store.keep(
                result,
                Context(event.received_s, event.levels, event.wants),
                tx,
                order=(event.boot, event.sequence),
            )
            for envelope in event.sealed:
                if self._may_leave(envelope):
                    self._store.send_up(envelope, result.site, tx)
            self._count(result, tx)
            tx.finish(item)
        self._series.write([result_point(result)])

    def _outrank(self, item: Item, event: Event, known: Known) -> None:
        """A repeat, or the device's notice that it gave up waiting: the edge's answer must have the highest revision."""
        with self._spool.transaction() as tx:
            if event.result.revision >= known.result.revision and known.result.tier is not Tier.DEVICE:
                result = msgspec.structs.replace(known.result, revision=event.result.revision + 1)
                self._store.send_result(result, tx)
                self._store.keep(result, known.context, tx)
            tx.finish(item)

    def _may_leave(self, envelope: Envelope) -> bool:
        return envelope.privacy is Privacy.PUBLIC or envelope.privacy in self._settings.uplink.sealed

    def _refuse(self, item: Item, error: Rejected) -> None:
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(error, item.topic, item.payload, site=self._settings.site, hop=SITE, now_s=now_s))
            tx.finish(item)
        self.metrics.refused(error.reason)

    # --- the cloud's answers -------------------------------------------------------------------------------------

    def _supersede(self, answer: Result, tx: Transaction) -> None:
        """Refine an event in place with what the cloud said; the same answer again changes nothing."""
        known = self._store.answer_in(answer.event, tx)
        if known is None:
            self._store.send_result(answer, tx)
            self._store.keep(answer, Context(self._clock.now(), self._levels_of(answer), answer.rank), tx)
            self._told(answer)
            return
        before = known.result
        same = (answer.model, answer.rule, answer.reason) == (before.model, before.rule, before.reason)
        if before.tier is Tier.CLOUD and same and answer.time == before.time:
            return
        path = deeper(before.path, answer.path) if answer.task is Task.WILDLIFE else answer.path
        kept = path != answer.path
        result = msgspec.structs.replace(
            answer,
            sighting=before.sighting,
            revision=max(before.revision + 1, answer.revision),
            rank=rank_of(path) if answer.task is Task.WILDLIFE else answer.rank,
            label=path[-1] if path else UNKNOWN,
            path=path,
            probability=before.probability if kept else answer.probability,
            privacy=before.privacy.join(answer.privacy),
            latency_ms=round((self._clock.now() - known.context.received_s) * 1000, 1),
        )
        self._store.answered(result.event, tx)
        self._store.send_result(result, tx)
        self._store.keep(result, known.context, tx)
        self._count(result, tx)
        self._told(result)

    def _levels_of(self, result: Result) -> messages.Levels:
        return self._policy.levels(result.source, clock.seconds(result.time), path=result.path).levels

    # --- time ------------------------------------------------------------------------------------------------

    def _tick_loop(self) -> None:
        tidied_s = 0.0
        while not self._stop.wait(TICK_S):
            now_s = self._clock.now()
            for event in self._store.overdue(now_s):
                self._expire(event)
            for result in self._rooms.answer_windows(self._spool):
                self._told(result)
            self._rooms.tell_hours(self._spool)
            patience_s = self._settings.device.sighting_gap_s + self._settings.edge.cloud_deadline_s
            for sighting in self._store.quiet(now_s - patience_s):
                self._close(sighting)
            if now_s - tidied_s > TIDY_S:
                tidied_s = now_s
                self._store.forget(now_s - self._settings.edge.keep_days * DAY_S)

    def _expire(self, event: str) -> None:
        """The cloud did not answer in time: say so. Its answer supersedes whenever it comes."""
        known = self._store.answer(event)
        with self._spool.transaction() as tx:
            if not self._store.answered(event, tx) or known is None:
                return
            result = msgspec.structs.replace(
                known.result,
                revision=known.result.revision + 1,
                pending=None,
                rule="deadline",
                reason=f"cloud out of reach for {self._settings.edge.cloud_deadline_s:g} s; a later answer supersedes",
            )
            self._store.send_result(result, tx)
            self._store.keep(result, known.context, tx)
        self._told(result)

    # --- sightings ---------------------------------------------------------------------------------------------

    def _count(self, result: Result, tx: Transaction, *, asked: str | None = None) -> None:
        """Count an event's newest answer into its sighting, and tell the consensus if that changed."""
        if result.sighting is None:
            return
        self._store.vote(
            result.sighting, result.event, Vote(result.path, result.probability), tx, asked=asked
        )
        self._report(result.sighting, tx, result, closed=False)

    def _close(self, sighting: str) -> None:
        with self._spool.transaction() as tx:
            self._report(sighting, tx, None, closed=True)

    def _report(self, sighting: str, tx: Transaction, latest: Result | None, *, closed: bool) -> None:
        """Publish a sighting's consensus; once it is closed and public, tell the cloud as well."""
        before = self._store.report(sighting, tx)
        agreed = consensus(self._store.votes(sighting, tx))
        if latest is not None:
            times = [latest.time] + ([before.time, before.until] if before else [])
            privacy = latest.privacy.join(before.privacy) if before else latest.privacy
            site, device, stream, model = latest.site, latest.device, latest.stream, latest.model
        elif before is not None:
            times, privacy, model = [before.time, before.until], before.privacy, before.model
            site, device, stream = before.site, before.device, before.stream
        else:
            return
        report = SightingReport(
            sighting=sighting,
            time=min(times),
            until=max(times),
            site=site,
            device=device,
            stream=stream,
            revision=before.revision + 1 if before else 1,
            rank=rank_of(agreed.path),
            label=agreed.path[-1] if agreed.path else UNKNOWN,
            path=agreed.path,
            probability=round(agreed.probability, 4),
            frames=agreed.frames,
            agree=agreed.agree,
            privacy=privacy,
            closed=closed,
            rule="consensus",
            model=model,
        )
        if privacy.reach is Tier.DEVICE:
            return
        self._store.send_report(report, tx)
        self._store.keep_report(report, tx)
        if closed:
            self._series.write([sighting_point(report)])
            if privacy is Privacy.PUBLIC and NAMED_KINGDOMS.intersection(report.path[:1]):
                self._store.send_up(_as_envelope(report), site, tx)

    # --- out ---------------------------------------------------------------------------------------------------

    def _clear(self, hop: str, outgoing: Outgoing) -> gate.Cleared:
        self.metrics.hop(hop, len(outgoing.payload))
        private = outgoing.privacy.reach is Tier.DEVICE
        return outbox.cleared(outgoing, to=Tier.DEVICE if private else Tier.EDGE)

    def _wrap(self, batch: Sequence[Outgoing]) -> gate.Cleared:
        """One uplink message, through the gate. Raises `Withheld` if any of it may not leave."""
        envelopes = tuple(messages.decode(Envelope, record.payload) for record in batch)
        site = self._settings.site
        cleared = gate.clear(UplinkBatch(site=site, envelopes=envelopes), topics.uplink(site), to=Tier.CLOUD)
        self.metrics.hop("edge-cloud", len(cleared.payload))
        return cleared

    def _undelivered(self, outgoing: Outgoing, error: Rejected) -> None:
        if error.reason == "withheld":
            self.metrics.withheld()
        self.metrics.refused(error.reason)
        log.error("not sent", what=outgoing.kind, event=outgoing.event, reason=error.reason, error=str(error))

    def _told(self, *results: Result) -> None:
        """Count answers and keep them as time series."""
        for result in results:
            if result.tier is not Tier.DEVICE:
                self.metrics.answered(result)
        self._series.write([result_point(result) for result in results])


def _as_envelope(report: SightingReport) -> Envelope:
    return Envelope(
        event=report.sighting,
        kind=Kind.RESULT,
        privacy=report.privacy,
        key=f"{report.site}/{report.device}",
        payload=messages.encode(report),
        source=report.source,
        time=report.time,
        revision=report.revision,
    )


def build(settings: Settings, clock: Clock | None = None) -> Edge:
    """The edge role; opens nothing yet."""
    return Edge(settings, clock or SystemClock())
