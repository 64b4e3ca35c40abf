"""Answer the events of a device's camera: by the crop or the vector, or else with the device's answer.

::

    event with a body ──> Families (models) ──> overlay of labels ──> result, feature for the cloud, sighting
    event without one ──> the device's answer is kept and counted into its sighting
    a later notice    ──> the edge's answer again, under a higher revision than the device's

Each answer, what goes on to the cloud, and the end of the inbox's row are one transaction.
"""

from __future__ import annotations

import msgspec

from agents.edge.drift_monitor import DriftMonitor
from agents.edge.labels import EdgeLabels
from agents.edge.last_pictures import shows_pictures
from agents.edge.resources import EdgeResources
from agents.edge.sightings import Sightings
from agents.edge.store import SITE, UPLINK, Context, Known
from models.answering.edge import Families
from pipeline.messages import Envelope, Event, Privacy, Tier
from pipeline.spool import Item


class FrameAnswers:
    """Answers the frames of one site."""

    def __init__(
        self,
        resources: EdgeResources,
        families: Families,
        sightings: Sightings,
        labels: EdgeLabels,
        drift: DriftMonitor,
    ) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._store = resources.store
        self._clock = resources.clock
        self._families = families
        self._sightings = sightings
        self._labels = labels
        self._drift = drift

    def answer(self, item: Item, event: Event) -> None:
        """Answer one event of a camera. Raises `Rejected` if its body cannot be used."""
        known = self._store.answer(event.result.event)
        if event.body is not None and (known is None or known.models.tier is Tier.DEVICE):
            self._answer_body(item, event, known)
        elif known is None:
            self._keep_device_answer(item, event)
        else:
            self._outrank(item, event)

    def _answer_body(self, item: Item, event: Event, known: Known | None) -> None:
        """Answer a crop or a vector, and ask the cloud where the cascade wants that."""
        before = event.result
        if known is not None:
            event = msgspec.structs.replace(event, levels=event.levels.join(known.context.levels))
        asked = self._store.sightings.asked(before.sighting) if before.sighting else None
        revision = max(before.revision, known.result.revision if known else 0) + 1
        answer = self._families.answer(event, revision=revision, asked=asked, now=self._clock.now)
        context = Context(event.received_s, answer.levels, event.wants, known_here=answer.known_here)
        with self._store.transaction() as tx:
            result, context = self._labels.overlay(answer.result, context, tx)
            self._store.send_result(result, tx)
            self._store.keep(result, context, tx, order=(event.boot, event.sequence))
            for envelope in (*event.sealed, answer.feature):
                if envelope is not None and self._may_leave(envelope):
                    self._store.send_up(envelope, tx)
            if answer.kept is not None:
                self._labels.feature_arrived(answer.kept, tx)
            self._drift.frame_answered(event, answer, tx)
            if answer.withdrawn:
                tx.cancel(result.event, hop=UPLINK)
                self._store.pictures.clear_stream(result.source, SITE, tx)
            elif shows_pictures(self._settings, self._settings.stream(result.source)):
                self._store.pictures.show(event, context.levels, SITE, tx)
            if result.pending is not None:
                deadline_s = self._clock.now() + self._settings.edge.cloud_deadline_s
                self._store.await_answer(result.event, deadline_s, tx)
            asked_now = answer.result.event if answer.result.pending is not None else None
            self._sightings.count(result, tx, asked=asked_now)
            tx.finish(item)
        if answer.withdrawn:
            self._store.scrub()
        self._resources.record(before, result)

    def _keep_device_answer(self, item: Item, event: Event) -> None:
        """Keep the answer of the device, which needs none of the edge, and count it into its sighting."""
        result = event.result
        context = Context(event.received_s, event.levels, event.wants)
        with self._store.transaction() as tx:
            self._store.keep(result, context, tx, order=(event.boot, event.sequence))
            for envelope in event.sealed:
                if self._may_leave(envelope):
                    self._store.send_up(envelope, tx)
            self._sightings.count(result, tx)
            self._drift.observe(result, tx)
            tx.finish(item)
        self._resources.record(result)

    def _outrank(self, item: Item, event: Event) -> None:
        """Publish the edge's answer again if the device's has a higher revision: the device gave up waiting for it."""
        with self._store.transaction() as tx:
            known = self._store.answer_in(event.result.event, tx)
            if (
                known is not None
                and known.result.tier is not Tier.DEVICE
                and event.result.revision >= known.result.revision
            ):
                result = msgspec.structs.replace(known.result, revision=event.result.revision + 1)
                self._store.send_result(result, tx)
                self._store.keep(result, known.context, tx)
            tx.finish(item)

    def _may_leave(self, envelope: Envelope) -> bool:
        return envelope.privacy is Privacy.PUBLIC or envelope.privacy in self._settings.uplink.sealed
