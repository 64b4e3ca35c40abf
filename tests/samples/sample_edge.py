"""An edge for tests: the real parts over a real store, with hands that deliver messages and turn the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sample_messages import NOW_S, background, edge_model, occupancy, settings

from agents.edge.drift_monitor import SiteWatch
from agents.edge.inbox import SiteAdmission, UplinkAdmission
from agents.edge.labels import Labels
from agents.edge.learning import EdgeLearning
from agents.edge.revisions import Answers
from agents.edge.rooms import Rooms
from agents.edge.sightings import Sightings
from agents.edge.store import SITE, UPLINK, UPLINK_ACKS, EdgeStore
from agents.edge.time_series import SiteSeries
from agents.role import outbox
from agents.role.dead_letters import answer_or_refuse
from agents.role.telemetry import Metrics
from models.answering.edge import Families
from models.answering.model_source import FixedModel
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import SiteModels
from models.vision.tier_models import EdgeModel
from pipeline import messages, topics
from pipeline.clock import HandClock
from pipeline.delivery import Ingest
from pipeline.messages import Downlink, Envelope, Event, Label, Result, SightingReport
from pipeline.mqtt import Message
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.series.writer import Writer, open_writer
from pipeline.settings.settings import Settings
from pipeline.spool import Spool

HOPS = (SITE, UPLINK, UPLINK_ACKS)


class SampleEdge:
    """What `agents.edge.agent` wires, without its threads and connections."""

    def __init__(
        self,
        folder: Path,
        told: Settings | None = None,
        *,
        series: Writer | None = None,
        limit_bytes: int = 1 << 26,
        general_model: EdgeModel | None = None,
    ) -> None:
        self.settings = told or settings(folder)
        self.clock = HandClock(NOW_S)
        self.metrics = Metrics()
        self.spool = Spool.open(folder / "spool.db", limit_bytes=limit_bytes)
        self.store = EdgeStore(self.spool, self.clock)
        self.store.open()
        self.keyring = Keyring.open(folder / "keys", create=True)
        self.policy = Policy(self.settings)
        charts = SiteSeries(series or open_writer(self.settings.influx, folder / "series.db", 30))
        self.rooms = Rooms(self.settings, self.policy, self.store, occupancy(), self.keyring, self.clock)
        self.rooms.open()
        self.sightings = Sightings(self.settings, self.store, charts)
        self.eyes = SiteModels(FixedModel(general_model or edge_model()))
        families = Families(self.policy, self.eyes, self.keyring, self.settings.uplink.sealed)
        self.labels = Labels(
            self.settings,
            self.policy,
            self.spool,
            self.store,
            self.sightings,
            charts,
            self.keyring,
            lambda: (general_model or edge_model()).tree,
            self.metrics,
            self.clock,
        )
        self.learning = EdgeLearning(
            self.settings.site,
            self.spool,
            self.store,
            self.eyes.serve,
            General.of(general_model or edge_model()),
            background(),
            self.metrics,
        )
        self.labels.listen(self.learning.heard)
        self.learning.open()
        self.learning.work()
        self.watch = SiteWatch(self.settings, self.spool, self.store, self.metrics, self.clock)
        self.labels.listen(self.watch.labelled)
        self.answers = Answers(
            self.settings,
            self.policy,
            self.spool,
            self.store,
            families,
            self.rooms,
            self.sightings,
            self.labels,
            self.watch,
            charts,
            self.metrics,
            self.clock,
        )
        site = self.settings.site
        at_site = SiteAdmission(site, self.spool, self.store, self.metrics, self.clock)
        at_uplink = UplinkAdmission(site, self.store, self.metrics, self.answers.supersede)
        self._site = Ingest(self.spool, SITE, at_site.admit, at_site.committed)
        self._uplink = Ingest(self.spool, UPLINK, at_uplink.admit)

    # --- in --------------------------------------------------------------------------------------------------

    def deliver(self, *events: Event) -> None:
        """Events of devices, and the answers to them."""
        self.deliver_raw(
            *(
                Message(
                    topics.event(e.result.site, e.result.device, e.result.stream), messages.encode(e), False
                )
                for e in events
            )
        )

    def receive(self, *received: Message) -> None:
        """Whatever comes from the site's broker, into the inbox."""
        self._site.received(received)

    def deliver_raw(self, *received: Message) -> None:
        """The same, and everything in the inbox dealt with."""
        self.receive(*received)
        for item in self.spool.waiting(100):
            answer, refuse = partial(self.answers.answer, item), partial(self.answers.refuse, item)
            answer_or_refuse(answer, refuse, threading.Event())

    def deliver_answers(self, *results: Result) -> None:
        """The cloud's."""
        self.deliver_uplink(topics.downlink(self.settings.site), messages.encode(Downlink(results=results)))

    def deliver_uplink(self, topic: str, payload: bytes) -> None:
        self._uplink.received([Message(topic, payload, False)])

    def pass_deadlines(self) -> None:
        """Let the cloud's time run out."""
        self.clock.turn(self.settings.edge.cloud_deadline_s + 1)
        for event in self.store.overdue(self.clock.now()):
            self.answers.expire(event)

    def label(self, label: Label, device: str = "cam1", *, retain: bool = False) -> None:
        """A person's word, published under this device."""
        topic = topics.label(self.settings.site, device)
        self.deliver_raw(Message(topic, messages.encode(label), retain))

    def wait_for_early(self, seconds: float = 0.0) -> None:
        """Let time pass, and look again at labels that came before their events."""
        self.clock.turn(seconds)
        self.labels.retry_early(threading.Event())

    @property
    def model(self) -> str:
        """What answers are named for."""
        return self.eyes.name_beside(self.learning.general.name)

    # --- out -------------------------------------------------------------------------------------------------

    def take(self, hop: str = SITE) -> list[msgspec.Struct]:
        """What leaves over a hop, in order; it is gone afterwards."""
        taken: list[msgspec.Struct] = []
        while records := self.spool.outgoing(hop, 100, self.clock.now()):
            taken += map(outbox.opened, records)
            self.spool.settle(hop, [record.id for record in records])
        return taken

    def take_results(self) -> list[Result]:
        return [told for told in self.take() if isinstance(told, Result)]

    def take_reports(self) -> list[SightingReport]:
        return [told for told in self.take() if isinstance(told, SightingReport)]

    def take_up(self) -> list[Envelope]:
        return [told for told in self.take(UPLINK) if isinstance(told, Envelope)]


@contextmanager
def sample_edge(folder: Path, told: Settings | None = None, **parts: Any) -> Iterator[SampleEdge]:
    """Opened, and closed at the end; `parts` as `SampleEdge` takes them."""
    edge = SampleEdge(folder, told, **parts)
    try:
        yield edge
    finally:
        edge.spool.close()
