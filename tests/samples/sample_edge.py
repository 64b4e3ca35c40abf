"""An edge for tests: the real parts over a real store, with hands that deliver messages and turn the clock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sample_messages import NOW_S, background, edge_model, occupancy, settings

from agents.edge.inbox import SiteAdmission, UplinkAdmission
from agents.edge.resources import open_resources
from agents.edge.store import SITE, UPLINK, UPLINK_ACKS
from agents.edge.wiring import wire_parts
from agents.role import outbox
from agents.role.dead_letters import answer_or_refuse
from agents.role.telemetry import Metrics
from models.answering.model_source import FixedModel
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import SiteModels
from models.vision.tier_models import EdgeModel
from pipeline import clock, messages, topics
from pipeline.clock import HandClock
from pipeline.delivery import Ingest
from pipeline.messages import Downlink, Envelope, Event, Label, Result, SightingReport
from pipeline.mqtt import Message
from pipeline.series.writer import Writer, open_writer
from pipeline.settings.settings import Settings
from pipeline.spool import Spool

HOPS = (SITE, UPLINK, UPLINK_ACKS)


class SampleEdge:
    """What `agents.edge.agent` wires, without its threads and connections."""

    def __init__(
        self,
        folder: Path,
        configured: Settings | None = None,
        *,
        series: Writer | None = None,
        limit_bytes: int = 1 << 26,
        general_model: EdgeModel | None = None,
    ) -> None:
        self.settings = configured or settings(folder)
        self.clock = HandClock(NOW_S)
        self.metrics = Metrics()
        self.spool = Spool.open(folder / "spool.db", limit_bytes=limit_bytes, own_hops=(SITE, UPLINK_ACKS))
        writer = series or open_writer(self.settings.influx, folder / "series.db", 30)
        self.resources = open_resources(self.settings, self.clock, self.metrics, self.spool, writer)
        self.store, self.keyring = self.resources.store, self.resources.keyring
        eye = general_model or edge_model()
        self.eyes = SiteModels(FixedModel(eye))
        self.parts = wire_parts(
            self.resources,
            self.eyes,
            general=General.of(eye),
            background=background(),
            occupancy=occupancy(),
            tree=lambda: eye.tree,
            learns=True,
        )
        self.rooms, self.sightings, self.labels = self.parts.rooms, self.parts.sightings, self.parts.labels
        self.learning, self.drift = self.parts.learning, self.parts.drift
        self.revisions = self.parts.revisions
        self.rooms.open()
        self.learning.open()
        self.learning.work()
        at_site = SiteAdmission(self.resources)
        at_uplink = UplinkAdmission(self.resources, self.revisions.supersede)
        self._site = Ingest(self.spool, SITE, at_site.admit, at_site.committed)
        self._uplink = Ingest(self.spool, UPLINK, at_uplink.admit)

    # --- in --------------------------------------------------------------------------------------------------

    def deliver(self, *events: Event) -> None:
        """Events of devices, and the answers to them. It is as late as the latest event says."""
        for each in events:
            with contextlib.suppress(ValueError):
                self.clock.turn(max(0.0, clock.seconds(each.result.time) - self.clock.now()))
        self.forge(*events)

    def forge(self, *events: Event) -> None:
        """Events of devices whose clocks may say anything."""
        topic = topics.event
        sent = [(topic(e.result.site, e.result.device, e.result.stream), messages.encode(e)) for e in events]
        self.deliver_raw(*(Message(to, payload, False) for to, payload in sent))

    def receive(self, *received: Message) -> None:
        """Whatever comes from the site's broker, into the inbox."""
        self._site.received(received)

    def deliver_raw(self, *received: Message) -> None:
        """The same, and everything in the inbox dealt with."""
        self.receive(*received)
        for item in self.spool.waiting(100):
            answer, refuse = partial(self.parts.answer, item), partial(self.resources.refuse, item)
            answer_or_refuse(answer, refuse, threading.Event())

    def deliver_answers(self, *results: Result) -> None:
        """The cloud's."""
        self.deliver_uplink(topics.downlink(self.settings.site), messages.encode(Downlink(results=results)))

    def deliver_uplink(self, topic: str, payload: bytes) -> None:
        self._uplink.received([Message(topic, payload, False)])

    def pass_deadlines(self) -> None:
        """Let the cloud's time run out."""
        self.clock.turn(self.settings.edge.cloud_deadline_s + 1)
        for event in self.store.overdue(self.clock.now(), self.settings.edge.cloud_deadline_s):
            self.revisions.expire(event)

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
        return [each for each in self.take() if isinstance(each, Result)]

    def take_reports(self) -> list[SightingReport]:
        return [each for each in self.take() if isinstance(each, SightingReport)]

    def take_up(self) -> list[Envelope]:
        return [each for each in self.take(UPLINK) if isinstance(each, Envelope)]


@contextmanager
def sample_edge(folder: Path, configured: Settings | None = None, **parts: Any) -> Iterator[SampleEdge]:
    """Opened, and closed at the end; `parts` as `SampleEdge` takes them."""
    edge = SampleEdge(folder, configured, **parts)
    try:
        yield edge
    finally:
        edge.spool.close()
