"""The edge agent: answers families and rooms, asks the cloud if needed, and publishes the answers to the site's users.

::

    MQTT event ──> inbox ──> FrameAnswers, Rooms ──> outbox ──> MQTT result, sighting (users of the site)
    (devices)        ^                                 └──────> MQTT uplink (gateway, kept until its uplink-ack)
    MQTT label ──────┴─────> EdgeLabels ─────────────────^
    (people)
    MQTT downlink (the cloud's answers) ──> Revisions ──> outbox ──> MQTT result, sighting

From its own answer on, the edge owns the revisions of an event: it publishes the cloud's answers, or
that the cloud did not answer in time. Nothing here waits for the cloud.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import structlog

from agents.edge import home_assistant
from agents.edge.inbox import FULL_STORE, SiteAdmission, UplinkAdmission, UplinkDispatch
from agents.edge.resources import open_resources
from agents.edge.store import DAY_S, SITE, UPLINK, UPLINK_ACKS
from agents.edge.sum_sharing import SumSharing
from agents.edge.wiring import wire_parts
from agents.releases.downloader import Download
from agents.role import outbox
from agents.role.dead_letters import answer_or_refuse
from agents.role.full_store import store_parts
from agents.role.lifecycle import Health
from agents.role.presence import broker_parts, endpoint, model_names, presence, update_parts
from agents.role.spool_loops import TIDY_S, SpoolLoops
from agents.role.telemetry import Metrics
from agents.rollout.edge import edge_updates
from models.shipped import load_zoo
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import SiteModels
from models.site_learning.site_head import BackgroundSums
from models.vision.tier_models import EdgeModel
from pipeline import topics
from pipeline.clock import Clock, SystemClock
from pipeline.delivery import Ingest
from pipeline.errors import Retry
from pipeline.messages import Envelope, Tier, UplinkBatch
from pipeline.mqtt import Connection
from pipeline.privacy import gate
from pipeline.series.writer import open_writer
from pipeline.settings.settings import Settings
from pipeline.spool import Item, Outgoing, Spool

log = structlog.get_logger("edge")


HEARD_MAX = 1000
"""Streams that are announced though only a pattern names them: anyone may invent names."""


class Edge:
    """The edge agent of one site."""

    name = "edge"

    def __init__(self, settings: Settings, time: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = time
        self._stop = threading.Event()
        self._ready = False
        self._shared_s = -math.inf
        self._announced = (0, 0)
        """The connection, by its number, at which Home Assistant's entities were announced, and of how many streams."""
        self._heard: set[str] = set()
        """Streams that only a pattern of the settings names, and that sent something."""

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open models, stores and keys; connect in the background."""
        self._open_models()  # first: if a model is missing, nothing else is opened
        self._open_stores()
        self._open_parts()
        self._open_site()
        self._open_uplink()
        self._start_all()
        self._ready = True

    def _open_models(self) -> None:
        self._zoo = load_zoo(self._settings.zoo_dir)
        self._updates = edge_updates(self._settings, self._zoo, self.metrics, self._clock, self._publish_status)
        self._models = SiteModels(self._updates.serving)

    def _open_stores(self) -> None:
        settings, folder = self._settings, self._settings.data_dir / "edge"
        self._spool = Spool.open(
            folder / "spool.db", limit_bytes=settings.edge.spool_mib << 20, own_hops=(SITE, UPLINK_ACKS)
        )
        self._series = open_writer(settings.influx, folder / "series.db", settings.edge.keep_days)
        self.metrics.series(self._series.counts)
        self._resources = open_resources(settings, self._clock, self.metrics, self._spool, self._series)

    def _open_parts(self) -> None:
        serving = self._updates.serving
        # An imported model's families are not those of a general head: there is nothing to transfer.
        self._learns = self._settings.edge.learn and isinstance(serving.model, EdgeModel)
        self._parts = wire_parts(
            self._resources,
            self._models,
            general=General.of(serving.model),
            background=BackgroundSums.of(self._zoo.sums()),
            occupancy=self._zoo.occupancy(),
            tree=lambda: serving.model.tree,
            learns=self._learns,
            learned=self._publish_status,
        )
        self._parts.rooms.open()
        self._resources.store.pictures.keep_only(self._settings, SITE)
        if self._learns:
            serving.subscribe(lambda model: self._parts.learning.on_model(General.of(model)))
        self._sums = SumSharing(self._settings.site, self._resources.store, self._clock)

    def _open_site(self) -> None:
        site = self._settings.site
        self._status, will = presence(
            site,
            self.name,
            self._clock,
            models=self._model_names,
            backlog=self._backlog,
            update=lambda: self._updates.update,
        )
        admission = SiteAdmission(self._resources)
        self._mqtt = Connection(
            endpoint(self._settings.mqtt),
            f"tierwise-{site}-edge",
            subscriptions=[topics.event(site, "+", "+"), topics.label(site, "+")],
            handler=Ingest(self._spool, SITE, admission.admit, admission.committed),
            birth=self._status,
            will=will,
        )

    def _open_uplink(self) -> None:
        settings, site = self._settings, self._settings.site
        self._download = Download(settings, lambda: settings.releases_root, self._clock)
        self._updates.follow(self._download.source)
        admission = UplinkAdmission(self._resources, self._parts.revisions.supersede)
        self._uplink = Connection(
            endpoint(settings.uplink_mqtt),
            f"tierwise-{site}-uplink",
            subscriptions=[topics.uplink_ack(site), topics.downlink(site), *self._download.subscriptions],
            handler=UplinkDispatch(Ingest(self._spool, UPLINK, admission.admit), self._download),
        )

    def _start_all(self) -> None:
        self._loops = loops = SpoolLoops(self._spool, self._clock, self.metrics, self._stop)
        for hop in (SITE, UPLINK):
            self.metrics.backlog(hop, partial(self._spool.backlog, hop))
        self._series.start()
        if self._learns:  # not before there is a connection, by which it publishes the status
            self._parts.learning.start()
        self._mqtt.start()
        self._uplink.start()
        loops.send(self._mqtt, SITE, settled_by="broker", measured_as="edge-site")
        loops.send(self._uplink, UPLINK_ACKS, settled_by="broker", measured_as="edge-cloud")
        loops.send_batches(self._uplink, UPLINK, self._wrap)
        self._download.start(self._uplink)
        self._updates.start()
        loops.start("answer", partial(loops.answer, self._answer_batch))
        loops.start("deadlines", partial(loops.tick, self._tick, self._tidy))

    def health(self) -> Health:
        """See `Role`."""
        if not self._ready:
            return Health(False, {"edge": "starting"})
        parts = {
            **broker_parts(self._mqtt),
            **broker_parts(self._uplink, "uplink"),
            "waiting": str(self._spool.waiting_count),
            "unsent": str(self._backlog()),
            **store_parts(self._spool, *FULL_STORE),
            **update_parts(self._updates.title, self._updates.update),
            "learning": self._parts.learning.state,
        }
        if state := self._series.state():
            parts["series"] = state
        return Health(self._mqtt.connected, parts)

    def stop(self, deadline_s: float) -> None:
        """See `Role`."""
        self._stop.set()
        if not self._ready:
            return
        self._spool.arrivals.ring()
        self._updates.stop(deadline_s / 6)
        self._download.stop(0.2)
        self._parts.learning.stop(deadline_s / 8)
        self._loops.stop_senders()
        self._mqtt.stop(deadline_s / 4, farewell=presence(self._settings.site, self.name, self._clock)[1])
        self._uplink.stop(deadline_s / 4)
        self._loops.join(deadline_s / 8)
        self._series.close(deadline_s / 4)
        self._spool.close()

    def _backlog(self) -> int:
        return self._spool.backlog(UPLINK)

    def _model_names(self) -> Sequence[str]:
        serves = self._models.name_beside(self._updates.serving.model.name)
        return model_names(self._zoo, serves, heads=self._updates.title)

    def _publish_status(self) -> None:
        """Publish a change of what serves. Without a connection, the next one publishes it."""
        with contextlib.suppress(Retry):
            self._mqtt.publish(self._status())

    # --- loops -----------------------------------------------------------------------------------------------

    def _answer_batch(self, items: Sequence[Item]) -> None:
        for item in items:
            self._hear(item.topic)
            answer, refuse = partial(self._parts.answer, item), partial(self._resources.refuse, item)
            answer_or_refuse(answer, refuse, self._stop)

    def _tick(self, now_s: float) -> None:
        self._parts.tick(now_s, self._stop)
        if self._settings.edge.share_sums and (monotonic_s := self._clock.monotonic()) - self._shared_s > TIDY_S:
            general = self._parts.learning.general
            self._sums.share(general.space, general.tree)
            self._shared_s = monotonic_s
        announced = (self._mqtt.connects, len(self._heard))
        if self._settings.edge.home_assistant and self._announced != announced:
            self._announce(now_s)
            self._announced = announced

    def _hear(self, topic: str) -> None:
        """Note a stream that only a pattern names, so that it is announced."""
        if (parsed := topics.parse(topic)) is None or len(self._heard) >= HEARD_MAX:
            return
        source = f"{parsed.site}/{parsed.device}/{parsed.name}"
        if source not in self._settings.streams and self._settings.stream(source) is not None:
            self._heard.add(source)

    def _tidy(self, now_s: float) -> None:
        self._resources.store.forget(now_s - self._settings.edge.keep_days * DAY_S)

    def _announce(self, now_s: float) -> None:
        """Announce Home Assistant's entities: at each connection, since a new broker retains nothing, and new ones."""
        with self._spool.transaction() as tx:
            for topic, entity in home_assistant.announcements(
                self._settings, version("tierwise"), sorted(self._heard.copy())
            ):
                tx.send(outbox.outgoing(entity, hop=SITE, topic=topic, id=topic, now_s=now_s))

    def _wrap(self, batch: Sequence[Outgoing]) -> gate.Cleared:
        """Return one uplink message, through the gate. Raises `Withheld` if a record in it may not leave."""
        envelopes = tuple(outbox.opened_as(Envelope, record) for record in batch)
        site = self._settings.site
        cleared = gate.clear(UplinkBatch(site=site, envelopes=envelopes), topics.uplink(site), to=Tier.CLOUD)
        self.metrics.hop("edge-cloud", len(cleared.payload))
        return cleared


def build(settings: Settings, clock: Clock | None = None) -> Edge:
    """Return the edge role. It opens nothing yet."""
    return Edge(settings, clock or SystemClock())
