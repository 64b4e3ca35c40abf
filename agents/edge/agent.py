"""The edge agent: names families, finds out about rooms, asks the cloud where it must, and tells the site's users all of it.

::

    MQTT event ──> inbox ──> Families, Rooms ──> outbox ──> MQTT result, sighting (users of the site)
    (devices)        ^                              └─────> MQTT uplink           (gateway, kept until its uplink-ack)
    MQTT label ──────┴─────> Labels ──────────────────^
    (people)
    MQTT downlink (the cloud's answers) ──> refined in place ──> MQTT result, sighting

The edge owns the revisions of an event from its own answer on: the cloud's answer passes through it, and where none
comes in time the edge says so. Nothing here waits for the cloud.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import structlog

from agents.edge import home_assistant
from agents.edge.drift_monitor import SiteWatch
from agents.edge.inbox import SiteAdmission, UplinkAdmission
from agents.edge.labels import Labels
from agents.edge.learning import EdgeLearning
from agents.edge.revisions import Answers
from agents.edge.rooms import Rooms
from agents.edge.sightings import Sightings
from agents.edge.store import DAY_S, SITE, UPLINK, UPLINK_ACKS, EdgeStore
from agents.edge.sum_sharing import SumTeller
from agents.edge.time_series import SiteSeries
from agents.releases.downloader import Download
from agents.role import outbox
from agents.role.dead_letters import answer_or_refuse
from agents.role.lifecycle import Health
from agents.role.presence import broker_parts, endpoint, model_names, presence, update_parts
from agents.role.telemetry import Metrics
from agents.rollout.edge import edge_updates
from models.answering.edge import Families
from models.shipped import load_zoo
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import SiteModels
from models.site_learning.site_head import BackgroundSums
from models.vision.tier_models import EdgeModel
from pipeline import topics
from pipeline.clock import Clock, SystemClock
from pipeline.delivery import BatchSender, Ingest, Sender
from pipeline.errors import Rejected, Retry
from pipeline.messages import Envelope, Tier, UplinkBatch
from pipeline.mqtt import Connection
from pipeline.privacy import gate
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.series.writer import open_writer
from pipeline.settings.settings import Settings
from pipeline.spool import Outgoing, Spool

log = structlog.get_logger("edge")

BATCH = 32
"""Records taken from the inbox at once."""

TICK_S = 0.5
"""How often deadlines, rooms and quiet sightings are looked at."""

TIDY_S = 3600.0
"""How often what is too old is dropped."""


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
        self._summed_s = 0.0

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open store, models, keys and time series; connect in the background."""
        settings, folder, site = self._settings, self._settings.data_dir / "edge", self._settings.site
        # First: where the model is missing, nothing else is opened.
        zoo = load_zoo(settings.zoo_dir)
        self._updates = edge_updates(settings, zoo, self.metrics, self._clock, self._tell_status)
        self._spool = Spool.open(folder / "spool.db", limit_bytes=settings.edge.spool_mib << 20)
        self._store = EdgeStore(self._spool, self._clock)
        self._store.open()
        self._series = open_writer(settings.influx, folder / "series.db", settings.edge.keep_days)
        keyring = Keyring.open(settings.data_dir / "keys", create=True)
        self._rooms = Rooms(settings, self._policy, self._store, zoo.occupancy(), keyring, self._clock)
        self._rooms.open()
        series = SiteSeries(self._series)
        self._sightings = Sightings(settings, self._store, series)
        serving = self._updates.serving
        local = SiteModels(serving)
        families = Families(self._policy, local, keyring, settings.uplink.sealed)
        self.labels = Labels(
            settings,
            self._policy,
            self._spool,
            self._store,
            self._sightings,
            series,
            keyring,
            lambda: serving.model.tree,
            self.metrics,
            self._clock,
        )
        self._learning = EdgeLearning(
            site,
            self._spool,
            self._store,
            local.serve,
            General.of(serving.model),
            BackgroundSums.of(zoo.sums()),
            self.metrics,
            self._tell_status,
        )
        self._sums = SumTeller(site, self._spool, self._store, self._clock)
        # Families by a model of the site's own are not a general head's: there is nothing to transfer.
        learns = settings.edge.learn and isinstance(serving.model, EdgeModel)
        if learns:
            self.labels.listen(self._learning.heard)
            serving.subscribe(lambda eye: self._learning.served_by(General.of(eye)))
        self._watch = SiteWatch(settings, self._spool, self._store, self.metrics, self._clock)
        self.labels.listen(self._watch.labelled)
        self._answers = Answers(
            settings,
            self._policy,
            self._spool,
            self._store,
            families,
            self._rooms,
            self._sightings,
            self.labels,
            self._watch,
            series,
            self.metrics,
            self._clock,
        )
        self._status, will = presence(
            site,
            self.name,
            self._clock,
            models=lambda: model_names(zoo, local.name_beside(serving.model.name), heads=self._updates.title),
            backlog=self._backlog,
            update=lambda: self._updates.update,
        )
        at_site = SiteAdmission(site, self._spool, self._store, self.metrics, self._clock)
        at_uplink = UplinkAdmission(site, self._store, self.metrics, self._answers.supersede)
        self._mqtt = Connection(
            endpoint(settings.mqtt),
            f"tierwise-{site}-edge",
            subscriptions=[topics.event(site, "+", "+"), topics.label(site, "+")],
            handler=Ingest(self._spool, SITE, at_site.admit, at_site.committed),
            birth=self._status,
            will=will,
        )
        self._download = Download(
            settings,
            lambda: settings.releases_root,
            Ingest(self._spool, UPLINK, at_uplink.admit),
            self._clock,
        )
        self._updates.follow(self._download.source)
        self._uplink = Connection(
            endpoint(settings.uplink_mqtt),
            f"tierwise-{site}-uplink",
            subscriptions=[topics.uplink_ack(site), topics.downlink(site), *self._download.subscriptions],
            handler=self._download,
        )
        sender = partial(Sender, settled_by="broker", refused=self._undelivered, clock=self._clock)
        self._senders: list[BatchSender] = [
            sender(self._spool, self._mqtt, SITE, partial(self._clear, "edge-site")),
            sender(self._spool, self._uplink, UPLINK_ACKS, partial(self._clear, "edge-cloud")),
            BatchSender(
                self._spool, self._uplink, UPLINK, self._wrap, refused=self._undelivered, clock=self._clock
            ),
        ]
        for hop in (SITE, UPLINK):
            self.metrics.backlog(hop, partial(self._spool.backlog, hop))
        self._series.start()
        if learns:  # not before there is a connection to tell by what was learned before
            self._learning.start()
        self._mqtt.start()
        self._uplink.start()
        for each in self._senders:
            each.start()
        self._download.start(self._uplink)
        self._updates.start()
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
            **update_parts(self._updates.title, self._updates.update),
        }
        parts["learning"] = self._learning.state
        if self._series.trouble:
            parts["series"] = self._series.trouble
        return Health(self._mqtt.connected, parts)

    def stop(self, deadline_s: float) -> None:
        self._stop.set()
        if not self._ready:
            return
        self._spool.arrived.set()
        self._updates.stop(deadline_s / 6)
        self._download.stop(0.2)
        self._learning.stop(deadline_s / 8)
        for sender in self._senders:
            sender.stop(0.3)
        self._mqtt.stop(deadline_s / 4, farewell=presence(self._settings.site, self.name, self._clock)[1])
        self._uplink.stop(deadline_s / 4)
        self._series.close(deadline_s / 4)
        self._spool.close()

    def _backlog(self) -> int:
        return self._spool.backlog(UPLINK)

    def _tell_status(self) -> None:
        """After a change of what serves, or may next; where there is no connection, the next one tells it."""
        with contextlib.suppress(Retry):
            self._mqtt.publish(self._status())

    # --- answering -------------------------------------------------------------------------------------------

    def _answer_loop(self) -> None:
        while not self._stop.is_set():
            items = self._spool.waiting(BATCH)
            if not items:
                self._spool.arrived.wait(TICK_S)
                self._spool.arrived.clear()
            for item in items:
                answer, refuse = partial(self._answers.answer, item), partial(self._answers.refuse, item)
                answer_or_refuse(answer, refuse, self._stop)

    # --- time ------------------------------------------------------------------------------------------------

    def _tick_loop(self) -> None:
        tidied_s = 0.0
        announced = 0
        while not self._stop.wait(TICK_S):
            now_s = self._clock.now()
            try:
                self._tick(now_s)
                if self._settings.edge.home_assistant and announced != (connects := self._mqtt.connects):
                    self._announce(now_s)
                    announced = connects
                if now_s - tidied_s > TIDY_S:
                    self._store.forget(now_s - self._settings.edge.keep_days * DAY_S)
                    tidied_s = now_s
            except Retry as error:
                log.warning("deadlines wait for the store", error=str(error))

    def _tick(self, now_s: float) -> None:
        for event in self._store.overdue(now_s):
            self._answers.expire(event)
        for window in self._rooms.answer_windows(self._spool):
            self._answers.told(window)
        self._rooms.tell_hours(self._spool)
        self._sightings.close_quiet(now_s, self._spool)
        self._watch.ask()
        self.labels.retry_early(self._stop)
        self.labels.tell_changes()
        if self._settings.edge.share_sums and now_s - self._summed_s > TIDY_S:
            general = self._learning.general
            self._sums.tell(general.space, general.tree)
            self._summed_s = now_s

    def _announce(self, now_s: float) -> None:
        """At each connection: a broker that was set up anew has forgotten what it retained."""
        with self._spool.transaction() as tx:
            for topic, entity in home_assistant.announcements(self._settings, version("tierwise")):
                tx.send(outbox.outgoing(entity, hop=SITE, topic=topic, id=topic, now_s=now_s))

    # --- out ---------------------------------------------------------------------------------------------------

    def _clear(self, hop: str, outgoing: Outgoing) -> gate.Cleared:
        self.metrics.hop(hop, len(outgoing.payload))
        private = outgoing.privacy.reach is Tier.DEVICE
        return outbox.cleared(outgoing, to=Tier.DEVICE if private else Tier.EDGE)

    def _wrap(self, batch: Sequence[Outgoing]) -> gate.Cleared:
        """One uplink message, through the gate. Raises `Withheld` if any of it may not leave."""
        envelopes = tuple(outbox.opened_as(Envelope, record) for record in batch)
        site = self._settings.site
        cleared = gate.clear(UplinkBatch(site=site, envelopes=envelopes), topics.uplink(site), to=Tier.CLOUD)
        self.metrics.hop("edge-cloud", len(cleared.payload))
        return cleared

    def _undelivered(self, outgoing: Outgoing, error: Rejected) -> None:
        if error.reason == "withheld":
            self.metrics.withheld()
        self.metrics.refused(error.reason)
        log.error("not sent", what=outgoing.kind, of=outgoing.event, reason=error.reason, error=str(error))


def build(settings: Settings, clock: Clock | None = None) -> Edge:
    """The edge role; opens nothing yet."""
    return Edge(settings, clock or SystemClock())
