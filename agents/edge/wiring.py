"""Put the parts of an edge together, and pass each record of the inbox to the part that answers it.

::

    inbox ──> EdgeParts.answer ──> label          ──> EdgeLabels
                               ──> sensor report  ──> Rooms
                               ──> frame          ──> FrameAnswers
    uplink ──> Revisions (the cloud's answers)
    tick ────> EdgeParts.tick (deadlines, windows, hours, sightings, label requests)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from agents.edge.drift_monitor import DriftMonitor
from agents.edge.frames import FrameAnswers
from agents.edge.labels import EdgeLabels
from agents.edge.learning import EdgeLearning
from agents.edge.resources import EdgeResources
from agents.edge.revisions import Revisions
from agents.edge.rooms import Rooms
from agents.edge.sightings import Sightings
from agents.role.dead_letters import check_times
from models.answering.edge import Families, FamilyModel
from models.labels.taxonomy import Taxonomy
from models.series.occupancy import OccupancyModel
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import SiteModels
from models.site_learning.site_head import BackgroundSums
from pipeline import clock, messages, topics
from pipeline.messages import Event, Malformed, Report
from pipeline.readings import FUTURE_MAX_S, TIME_IMPLAUSIBLE
from pipeline.spool import Item

Model = TypeVar("Model", bound=FamilyModel)


@dataclass(frozen=True, slots=True)
class EdgeParts:
    """The parts of one edge that answer; made by `wire_parts`."""

    resources: EdgeResources
    rooms: Rooms
    sightings: Sightings
    labels: EdgeLabels
    drift: DriftMonitor
    frames: FrameAnswers
    revisions: Revisions
    learning: EdgeLearning

    def answer(self, item: Item) -> None:
        """Answer one record of the inbox. Raises `Rejected` or `Malformed` if it cannot be answered."""
        parsed = topics.parse(item.topic)
        if parsed is not None and parsed.channel == "label":
            self.labels.take(item)
            return
        event = messages.decode(Event, item.payload)
        check_times(event.result.time, event.received_s)
        event = not_ahead(event, min(item.received_at, self.resources.clock.now()))
        if isinstance(event.body, Report):
            body = event.body
            if body.count < 1 or not all(map(math.isfinite, (body.value, body.total, body.low, body.high))):
                raise Malformed("malformed", "a report has at least one reading, and finite numbers")
            self.rooms.take(item, event, body)
        else:
            self.frames.answer(item, event)

    def tick(self, now_s: float, stop: threading.Event) -> None:
        """Do all that time alone makes due."""
        for event in self.resources.store.overdue(now_s, self.resources.settings.edge.cloud_deadline_s):
            self.revisions.expire(event)
        self.resources.record(*self.rooms.answer_windows())
        self.rooms.send_hours()
        self.sightings.close_quiet(now_s)
        self.drift.request_labels()
        self.labels.retry_early(stop)
        self.labels.notify_listeners()


def not_ahead(event: Event, received_s: float) -> Event:
    """Return the event with a time that is not ahead of the edge's clock: else it gets the time of receipt, flagged.

    A report from next week would end the windows of its room until then.
    """
    result = event.result
    if clock.seconds(result.time) <= received_s + FUTURE_MAX_S:
        return event
    flags = tuple(dict.fromkeys((*result.flags, TIME_IMPLAUSIBLE)))
    here = msgspec.structs.replace(result, time=clock.rfc3339(received_s), time_source="", flags=flags)
    return msgspec.structs.replace(event, result=here)


def wire_parts(
    resources: EdgeResources,
    models: SiteModels[Model],
    *,
    general: General,
    background: BackgroundSums | None,
    occupancy: OccupancyModel,
    tree: Callable[[], Taxonomy],
    learns: bool,
    learned: Callable[[], object] = lambda: None,
) -> EdgeParts:
    """Wire the parts over these resources and models; start nothing.

    `learned` is called when all waiting labels are learned. Without `learns`, labels are kept but teach nothing.
    """
    settings = resources.settings
    sightings = Sightings(resources)
    labels = EdgeLabels(resources, sightings, tree)
    drift = DriftMonitor(resources)
    families = Families(resources.policy, models, resources.keyring, settings.uplink.sealed)
    learning = EdgeLearning(
        settings.site, resources.store, models.serve, general, background, resources.metrics, learned
    )
    if learns:
        labels.subscribe(learning.on_label)
    labels.subscribe(drift.on_label)
    return EdgeParts(
        resources=resources,
        rooms=Rooms(resources, occupancy),
        sightings=sightings,
        labels=labels,
        drift=drift,
        frames=FrameAnswers(resources, families, sightings, labels, drift),
        revisions=Revisions(resources, sightings, labels, drift),
        learning=learning,
    )
