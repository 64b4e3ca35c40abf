"""Watch each stream for drift, and request the labels that would teach most.

::

    each answer, by tier ──> models.site_learning.drift ──alarm──> Drift (MQTT, log, metrics); more label requests
    a label ──(agrees or not)──────^
    the edge's doubt ──> one candidate a sighting ──(closed)──> active_learning ──> Ask (MQTT), settled by a label

All state is written in the transactions of the answers, so a restart continues where it was. Frames of a camera that
its device reports as faulty (flag ``camera-*``) count neither for drift nor for requests: labels cannot repair a
camera. A `Drift` and an `Ask` hold numbers and names, and stay at the site. The cloud learns of drift by the labels
that people give on request (`agents.trainer.triggers`, rule `drift`).
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import structlog
from numpy.typing import NDArray

from agents.edge.label_request_store import RequestCandidate
from agents.edge.label_rules import LABELLED, LabelledEvent
from agents.edge.resources import EdgeResources
from agents.edge.store import DAY_S, Known
from models.answering.edge import FamilyAnswer
from models.site_learning import drift
from models.site_learning.active_learning import Moment, Pace, decide, left, novelty, score
from models.site_learning.drift import Alarm, Observation, Watch
from pipeline import clock
from pipeline.messages import Ask, Drift, Event, Result, Task, Tier
from pipeline.spool import Transaction

log = structlog.get_logger("edge")

RAISED_S = 3 * DAY_S
"""Time for which a stream that drifted counts more among the label requests."""

KNOWN_MAX = 500
"""Newest vectors that a candidate's novelty is measured against: 128 KB are read for each sighting."""

CAMERA_FLAG = "camera-"
"""Prefix of the flags by which a device reports a faulty camera."""

PACE = "pace"
"""Name under which the pace of label requests is kept."""


class DriftMonitor:
    """Drift and label requests of one site."""

    def __init__(self, resources: EdgeResources) -> None:
        self._settings = resources.settings
        self._budget = resources.settings.edge.asks_a_day
        self._store = resources.store
        self._metrics = resources.metrics
        self._clock = resources.clock

    # --- drift -------------------------------------------------------------------------------------------------

    def frame_answered(self, event: Event, answer: FamilyAnswer, tx: Transaction) -> None:
        """Observe the answers of device and edge about a frame, which may become a candidate for a label request."""
        result, kept = answer.result, answer.kept
        if answer.withdrawn:
            self._store.requests.drop(result.sighting or result.event, tx)
            return
        self.observe(event.result, tx)
        if kept is None:
            self.observe(result, tx)
            return
        vector = np.frombuffer(kept.vector, np.uint8)
        self._observe(result, _observed(result, self._quarter(result), vector, kept.space), tx)
        if self._budget and answer.doubt > 0 and not _is_broken(result):
            candidate = RequestCandidate(kept.sighting, kept.event, round(answer.doubt, 4))
            self._store.requests.consider(candidate, self._clock.now(), tx)

    def observe(self, result: Result, tx: Transaction) -> None:
        """Observe an answer of a tier about a frame without a vector."""
        if result.task is Task.WILDLIFE:
            self._observe(result, _observed(result, self._quarter(result)), tx)

    def _observe(self, result: Result, seen: Observation, tx: Transaction) -> None:
        if _is_broken(result):
            return
        watch = self._recall(result, seen.model, tx)
        self._remember(result, *drift.observe(watch, seen), tx)

    def on_label(self, found: LabelledEvent) -> None:
        """Settle the request that a committed label answers, and observe whether the label agrees with the models."""
        with self._store.transaction() as tx:
            known = self._store.answer_in(found.event, tx)
            self._store.requests.settle(found.sighting, None if found.label is None else self._clock.now(), tx)
            if known is None or found.label is None:
                return
            models = known.models
            shared = min(len(models.path), len(found.path))
            watch = self._recall(models, models.model, tx)
            agrees = models.path[:shared] == found.path[:shared]
            self._remember(models, *drift.labelled(watch, self._quarter(models), agrees=agrees), tx)

    def _recall(self, result: Result, model: str, tx: Transaction) -> Watch:
        return self._store.requests.recall(_name(result, result.tier), Watch, tx) or drift.start(model)

    def _remember(self, result: Result, watch: Watch, alarms: tuple[Alarm, ...], tx: Transaction) -> None:
        name, now_s = _name(result, result.tier), self._clock.now()
        self._store.requests.remember(name, watch, now_s, tx)
        for alarm in alarms:
            self._store.requests.raise_share(name, now_s + RAISED_S, tx)
            then = "more labels of this stream are requested" if self._budget else "edge.asks_a_day is 0"
            message = Drift(
                time=clock.rfc3339(now_s),
                site=result.site,
                device=result.device,
                stream=result.stream,
                rule=alarm.rule,
                signal=f"{alarm.signal}, {result.tier}",
                before=alarm.before,
                now=alarm.now,
                reason=f"{alarm.reason}; {then}",
                privacy=result.privacy,
            )
            if message.privacy.reach is not Tier.DEVICE:
                self._store.send_drift(message, tx)
            self._metrics.drifted(result.source, alarm.rule)
            log.warning(
                "a stream drifts",
                stream=result.source,
                rule=alarm.rule,
                tier=result.tier,
                reason=message.reason,
            )

    # --- label requests ---------------------------------------------------------------------------------------

    def request_labels(self) -> None:
        """Decide about the candidates of closed sightings, and withdraw requests that are no longer allowed."""
        now_s = self._clock.now()
        for candidate in self._store.requests.closed():
            with self._store.transaction() as tx:
                self._store.requests.drop(candidate.sighting, tx)
                known = self._store.answer_in(candidate.event, tx)
                if known is not None and self._may_ask(known, candidate, tx):
                    self._decide(candidate, known, now_s, tx)
        if self._store.requests.outdated():
            with self._store.transaction() as tx:
                self._store.requests.withdraw_outdated(tx)

    def _may_ask(self, known: Known, candidate: RequestCandidate, tx: Transaction) -> bool:
        """Return whether people may be asked: not about persons, labelled events, or what others may not see."""
        level = self._store.sightings.privacy(candidate.sighting, tx).join(known.result.privacy)
        return level.reach is not Tier.DEVICE and known.result.rule != LABELLED and known.result.path[:1] != ("person",)

    def _decide(self, candidate: RequestCandidate, known: Known, now_s: float, tx: Transaction) -> None:
        feature = self._store.labels.feature(candidate.event)
        if feature is None:
            return
        result = known.models
        # If the cloud is sure of it meanwhile, there is no doubt any more.
        doubt = min(candidate.doubt, 1 - result.probability) if result.tier is Tier.CLOUD else candidate.doubt
        new = novelty(
            np.frombuffer(feature.vector, np.uint8),
            self._store.requests.known_vectors(feature.space, KNOWN_MAX),
        )
        drifting = self._store.requests.is_raised(tuple(_name(result, tier) for tier in Tier), now_s, RAISED_S, tx)
        at = self._moment(now_s)
        pace = self._store.requests.recall(PACE, Pace, tx) or Pace()
        pace, asks = decide(pace, score(doubt, new, drifting=drifting), at=at, budget=self._budget)
        self._store.requests.remember(PACE, pace, now_s, tx)
        if not asks:
            return
        drifted = "; its stream has drifted" if drifting else ""
        ask = Ask(
            event=result.event,
            time=result.time,
            site=result.site,
            device=result.device,
            stream=result.stream,
            label=result.label,
            path=result.path,
            probability=result.probability,
            privacy=known.result.privacy.join(self._store.sightings.privacy(candidate.sighting, tx)),
            rule="drifting" if drifting else "unsure-and-new",
            reason=f"the models doubt ({doubt:.2f}), and it differs from the labelled and requested events ({new:.2f}){drifted}",
            budget_left=left(pace, at=at, budget=self._budget),
        )
        if self._store.requests.keep(ask, candidate.sighting, now_s, tx):
            self._store.send_label_request(ask, tx)
            self._metrics.asked(ask.rule)

    # --- time --------------------------------------------------------------------------------------------------

    def _quarter(self, result: Result) -> int:
        """Return the quarter of the day in which a frame was taken, by the site's own time."""
        return drift.quarter_of(self._local(clock.seconds(result.time)).hour)

    def _moment(self, now_s: float) -> Moment:
        now = self._local(now_s)
        return Moment(now.toordinal(), (now.hour * 3600 + now.minute * 60 + now.second) / DAY_S)

    def _local(self, at_s: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(at_s, self._settings.zone)


def _observed(result: Result, quarter: int, vector: NDArray[np.uint8] | None = None, space: str = "") -> Observation:
    sighting = result.sighting or result.event
    return Observation(result.model, sighting, quarter, result.path, result.probability, vector, space)


def _name(result: Result, tier: Tier) -> str:
    return f"{result.source}/{tier}"


def _is_broken(result: Result) -> bool:
    return any(flag.startswith(CAMERA_FLAG) for flag in result.flags)
