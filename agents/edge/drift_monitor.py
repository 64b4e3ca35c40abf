"""The edge watches what its streams turn into, and asks people for the labels that would teach most.

::

    every answer, by tier ──> models.site_learning.drift ──alarm──> Drift (MQTT, log, metrics); the stream counts twice among the asks
    a label ────────────────────────^ (agrees or not)
    the edge's doubt ──> candidate, one a sighting ──(it is over)──> models.site_learning.active_learning ──> Ask (MQTT), settled by a label

All within the transactions of the answers, so that a restart goes on where it was. A frame of a camera that its device calls broken
(flag ``camera-*``) is neither held against the past nor asked about: what is wrong there is no matter of labels. A `Drift` and
an `Ask` hold numbers and names; both stay at the site. The cloud
hears of drift by the labels that come of the asks (`trainer_triggers`, rule `drift`).
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import structlog
from numpy.typing import NDArray

from agents.edge.label_request_store import Candidate
from agents.edge.label_rules import LABELLED, LabelledEvent
from agents.edge.store import DAY_S, EdgeStore, Known
from agents.role.telemetry import Metrics
from models.answering.edge import FamilyAnswer
from models.site_learning import drift
from models.site_learning.active_learning import Moment, Pace, decide, left, novelty, score
from models.site_learning.drift import Alarm, Observation, Watch
from pipeline import clock
from pipeline.clock import Clock
from pipeline.messages import Ask, Drift, Event, Result, Task, Tier
from pipeline.settings.settings import Settings
from pipeline.spool import Spool, Transaction

log = structlog.get_logger("edge")

RAISED_S = 3 * DAY_S
"""So long a stream that drifted counts more among the asks."""

KNOWN_MAX = 500
"""Vectors that a candidate's novelty is measured against, the newest: 128 KB are read a sighting."""

CAMERA_FLAG = "camera-"
"""How flags begin by which a device says that its camera is broken."""

PACE = "pace"


class SiteWatch:
    """Drift and asks of one site."""

    def __init__(
        self, settings: Settings, spool: Spool, store: EdgeStore, metrics: Metrics, time: Clock
    ) -> None:
        self._settings = settings
        self._budget = settings.edge.asks_a_day
        self._spool = spool
        self._store = store
        self._metrics = metrics
        self._clock = time

    # --- what the tiers say ------------------------------------------------------------------------------------

    def answered(self, event: Event, answer: FamilyAnswer, tx: Transaction) -> None:
        """The edge answered a frame of a device."""
        result, kept = answer.result, answer.kept
        if answer.withdrawn:
            self._store.asks.drop(result.sighting or result.event, tx)
            return
        self.told(event.result, tx)
        if kept is None:
            self.told(result, tx)
            return
        self._see(
            result,
            _observed(result, self._quarter(result), np.frombuffer(kept.vector, np.uint8), kept.space),
            tx,
        )
        if self._budget and answer.doubt > 0 and not _is_broken(result):
            candidate = Candidate(kept.sighting, kept.event, round(answer.doubt, 4))
            self._store.asks.consider(candidate, self._clock.now(), tx)

    def told(self, result: Result, tx: Transaction) -> None:
        """A tier told an answer about a frame, of which there is no vector here."""
        if result.task is Task.WILDLIFE:
            self._see(result, _observed(result, self._quarter(result)), tx)

    def _see(self, result: Result, seen: Observation, tx: Transaction) -> None:
        if _is_broken(result):
            return
        watch = self._recall(result, seen.model, tx)
        self._remember(result, *drift.observe(watch, seen), tx)

    def labelled(self, found: LabelledEvent) -> None:
        """Hear of a label, after its commit: does it agree with what the models said, and was it asked for?"""
        with self._spool.transaction() as tx:
            known = self._store.answer_in(found.event, tx)
            self._store.asks.settle(found.sighting, None if found.label is None else self._clock.now(), tx)
            if known is None or found.label is None:
                return
            models = known.models
            shared = min(len(models.path), len(found.path))
            watch = self._recall(models, models.model, tx)
            agrees = models.path[:shared] == found.path[:shared]
            self._remember(models, *drift.labelled(watch, self._quarter(models), agrees=agrees), tx)

    def _recall(self, result: Result, model: str, tx: Transaction) -> Watch:
        return self._store.asks.recall(_name(result, result.tier), Watch, tx) or drift.start(model)

    def _remember(self, result: Result, watch: Watch, alarms: tuple[Alarm, ...], tx: Transaction) -> None:
        name, now_s = _name(result, result.tier), self._clock.now()
        self._store.asks.remember(name, watch, now_s, tx)
        for alarm in alarms:
            self._store.asks.raise_share(name, now_s + RAISED_S, tx)
            then = "more labels of this stream are asked for" if self._budget else "edge.asks_a_day is 0"
            told = Drift(
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
            if told.privacy.reach is not Tier.DEVICE:
                self._store.send_drift(told, tx)
            self._metrics.drifted(result.source, alarm.rule)
            log.warning("drift", stream=result.source, rule=alarm.rule, tier=result.tier, reason=told.reason)

    # --- what is asked -----------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Decide about sightings that are over; take back what may not be asked any more."""
        now_s = self._clock.now()
        for candidate in self._store.asks.over():
            with self._spool.transaction() as tx:
                self._store.asks.drop(candidate.sighting, tx)
                known = self._store.answer_in(candidate.event, tx)
                if known is not None and self._may_ask(known, candidate, tx):
                    self._decide(candidate, known, now_s, tx)
        if self._store.asks.outdated():
            with self._spool.transaction() as tx:
                self._store.asks.unask(tx)

    def _may_ask(self, known: Known, candidate: Candidate, tx: Transaction) -> bool:
        """Nobody is asked about persons, about what was labelled by itself, or about what others may not see."""
        level = self._store.sightings.privacy(candidate.sighting, tx).join(known.result.privacy)
        return (
            level.reach is not Tier.DEVICE
            and known.result.rule != LABELLED
            and known.result.path[:1] != ("person",)
        )

    def _decide(self, candidate: Candidate, known: Known, now_s: float, tx: Transaction) -> None:
        feature = self._store.labels.feature(candidate.event)
        if feature is None:
            return
        result = known.models
        # What the cloud has named surely meanwhile is not in doubt any more.
        doubt = min(candidate.doubt, 1 - result.probability) if result.tier is Tier.CLOUD else candidate.doubt
        new = novelty(
            np.frombuffer(feature.vector, np.uint8), self._store.asks.known_vectors(feature.space, KNOWN_MAX)
        )
        drifting = self._store.asks.is_raised(tuple(_name(result, tier) for tier in Tier), now_s, tx)
        at = self._moment(now_s)
        pace = self._store.asks.recall(PACE, Pace, tx) or Pace()
        pace, asks = decide(pace, score(doubt, new, drifting=drifting), at=at, budget=self._budget)
        self._store.asks.remember(PACE, pace, now_s, tx)
        if not asks:
            return
        why = "; its stream has drifted" if drifting else ""
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
            reason=f"the models doubt ({doubt:.2f}), and it is unlike what was labelled or asked ({new:.2f}){why}",
            budget_left=left(pace, at=at, budget=self._budget),
        )
        if self._store.asks.keep(ask, candidate.sighting, now_s, tx):
            self._store.send_ask(ask, tx)
            self._metrics.asked(ask.rule)

    # --- time --------------------------------------------------------------------------------------------------

    def _quarter(self, result: Result) -> int:
        """Of the site's own day, by when it was observed."""
        return drift.quarter_of(self._local(clock.seconds(result.time)).hour)

    def _moment(self, now_s: float) -> Moment:
        now = self._local(now_s)
        return Moment(now.toordinal(), (now.hour * 3600 + now.minute * 60 + now.second) / DAY_S)

    def _local(self, at_s: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(at_s, self._settings.zone)


def _observed(
    result: Result, quarter: int, vector: NDArray[np.uint8] | None = None, space: str = ""
) -> Observation:
    sighting = result.sighting or result.event
    return Observation(result.model, sighting, quarter, result.path, result.probability, vector, space)


def _name(result: Result, tier: Tier) -> str:
    return f"{result.source}/{tier}"


def _is_broken(result: Result) -> bool:
    return any(flag.startswith(CAMERA_FLAG) for flag in result.flags)
