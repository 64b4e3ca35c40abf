"""The revisions of an event after the edge's own answer: the cloud's answer, or a notice that none came in time.

The edge owns the revisions of an event from its own answer on::

    device 1 ──> edge 2 ──> cloud 3
                    └─────> 3 (deadline: cloud out of reach) ──> cloud 4, whenever it comes
    device 1 ──> device 2 (deadline: edge out of reach) ──> edge 3 ──> ...

An answer is never less private than the one before it, and policy is asked again about what each tier found.
"""

from __future__ import annotations

import msgspec

from agents.edge.drift_monitor import DriftMonitor
from agents.edge.label_rules import LABELLED
from agents.edge.labels import EdgeLabels
from agents.edge.resources import EdgeResources
from agents.edge.sightings import Sightings
from agents.edge.store import DAY_S, Context, Known
from agents.role.spool_loops import past_deadline
from models.answering.cascade import contradicts, deeper, rank_of
from pipeline import clock
from pipeline.messages import UNKNOWN, Levels, Rank, Result, Task, Tier
from pipeline.privacy.policy import within
from pipeline.spool import Transaction


class Revisions:
    """Revises the answers of one site."""

    def __init__(self, resources: EdgeResources, sightings: Sightings, labels: EdgeLabels, drift: DriftMonitor) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._policy = resources.policy
        self._store = resources.store
        self._clock = resources.clock
        self._sightings = sightings
        self._labels = labels
        self._drift = drift
        self._keep_s = resources.settings.edge.keep_days * DAY_S

    # --- the cloud's answers -------------------------------------------------------------------------------------

    def supersede(self, answer: Result, tx: Transaction) -> None:
        """Publish the cloud's answer about an event as its next revision.

        An answer that was taken before changes nothing, nor does one about an event that is no longer kept.
        """
        known = self._store.answer_in(answer.event, tx)
        levels = self._levels_here(answer, known, tx)
        if levels is None and clock.seconds(answer.time) < self._clock.now() - self._keep_s:
            return
        context = known.context if known else Context(self._clock.now(), Levels(), answer.rank)
        if not is_news(answer, context):
            return
        result = self._refined(known, answer) if known else answer
        levels_before = levels
        levels = self._raised(result, levels)
        result = msgspec.structs.replace(result, privacy=result.privacy.join(levels.result))
        # The value in an answer about an hour is a mean, which is as private as a summary.
        value_level = levels.summary if result.rank is Rank.PATTERN else levels.reading
        result = within(result, msgspec.structs.replace(levels, reading=value_level))
        self._store.stop_waiting(result.event, tx)
        if levels != levels_before:
            self._labels.levels_raised(result.event, levels, tx)
        if known is not None:
            self._drift.observe(result, tx)
        context = with_cloud(answer, msgspec.structs.replace(context, levels=levels))
        result, context = self._labels.overlay(result, context, tx)
        if known is not None and result.rule == LABELLED and reads_the_same(result, known.result):
            self._store.keep(known.result, context, tx)
            return
        self._store.send_result(result, tx)
        self._store.keep(result, context, tx)
        if known is not None:
            self._sightings.count(result, tx, asked=result.event)
        self._resources.record(result)

    def _refined(self, known: Known, answer: Result) -> Result:
        """Return the cloud's answer as the next revision of an event that is known here."""
        before, known_here = known.models, known.context.known_here
        if contradicts(known_here, answer.path):
            return msgspec.structs.replace(
                before,
                revision=max(known.result.revision + 1, answer.revision),
                pending=None,
                rule="site-knows",
                reason=f"the cloud answers {answer.label} ({answer.probability:.2f}); labels of this site name {known_here[-1]}",
            )
        path = deeper(before.path, answer.path) if answer.task is Task.WILDLIFE else answer.path
        kept = path != answer.path
        return msgspec.structs.replace(
            answer,
            sighting=before.sighting,
            revision=max(known.result.revision + 1, answer.revision),
            rank=rank_of(path) if answer.task is Task.WILDLIFE else answer.rank,
            label=path[-1] if path else UNKNOWN,
            path=path,
            probability=before.probability if kept else answer.probability,
            privacy=known.result.privacy.join(answer.privacy),
            latency_ms=round((self._clock.now() - known.context.received_s) * 1000, 1),
        )

    def _levels_here(self, answer: Result, known: Known | None, tx: Transaction) -> Levels | None:
        """Return the levels of an event, or of the hour that an answer is about; None if neither is known here."""
        levels = known.context.levels if known else None
        if answer.rank is Rank.PATTERN:
            hour = self._store.rooms.hour(answer.source, clock.seconds(answer.time), tx)
            if hour is not None:
                levels = levels.join(hour.levels) if levels else hour.levels
        return levels

    def _raised(self, result: Result, levels: Levels | None) -> Levels:
        """Return the levels that policy gives the event after the cloud's answer, never below those that it has.

        A stream that only its device knows keeps the levels that the device gave it. Any other unknown stream has the
        levels of an unnamed stream.
        """
        if levels is not None and not self._policy.knows(result.source):
            return levels
        asked = self._policy.levels(result.source, clock.seconds(result.time), path=result.path).levels
        return levels.join(asked) if levels is not None else asked

    # --- deadlines -------------------------------------------------------------------------------------------

    def expire(self, event: str) -> None:
        """Publish that the cloud did not answer in time. Its answer supersedes whenever it comes.

        If the question was sent and may be lost, the next frame of the sighting asks again. A question that still waits
        for the uplink will be answered.
        """
        with self._store.transaction() as tx:
            known = self._store.answer_in(event, tx)
            if not self._store.stop_waiting(event, tx) or known is None:
                return
            if not self._store.unsent(event, tx):
                self._store.sightings.ask_again(event, tx)
            result = past_deadline(known.result, Tier.CLOUD, self._settings.edge.cloud_deadline_s)
            self._store.send_result(result, tx)
            self._store.keep(result, known.context, tx)
        self._resources.record(result)


def reads_the_same(new: Result, old: Result) -> bool:
    """Return whether a person would see no difference between two labelled answers about an event."""
    return (new.path, new.reason, new.privacy) == (old.path, old.reason, old.privacy)


def is_news(answer: Result, context: Context) -> bool:
    """Return whether an answer of the cloud is new: answers may come again, and in any order.

    Of one revision, the first answer of each model is taken.
    """
    if answer.revision != context.cloud_revision:
        return answer.revision > context.cloud_revision
    return answer.model not in context.cloud_models


def with_cloud(answer: Result, context: Context) -> Context:
    """Return the context of an event after this new answer of the cloud."""
    same = answer.revision == context.cloud_revision
    return msgspec.structs.replace(
        context,
        cloud_revision=answer.revision,
        cloud_models=(*(context.cloud_models if same else ()), answer.model),
    )
