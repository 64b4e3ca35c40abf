"""Labels at the edge: each is resolved, kept, published in place of the models' answer, and sent up where it may go.

::

    MQTT label ──> inbox ──> event known? ──no──> wait for it a while, then `unknown-event`
                                  │
                                  ├──> result: rule `labelled`, revision + 1     (taken back: the models' answer again)
                                  ├──> Ack to the publisher
                                  ├──> listeners (learning, drift)               after the commit
                                  └──> uplink: Vote and the event's feature      if result and feature are public

What a label changes is decided first (`LabelChange`), then written in one transaction. A label is as private as its
event's result, and useful only with its feature: unless both are public, it stays here. A label of a person raises the
event's levels as if a model had seen one, and the edge drops what it may no longer hold.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from agents.edge.label_rules import (
    AHEAD_S,
    OnLabel,
    PersonVote,
    decide_vote,
    given_at,
    label_level,
    labelled,
    names_family,
    person_name,
    resolve,
    unlabelled,
)
from agents.edge.label_store import labelled_event
from agents.edge.label_uplink import label_envelopes
from agents.edge.resources import EdgeResources
from agents.edge.sightings import Sightings
from agents.edge.store import SITE, UPLINK, Context, Known
from agents.role.dead_letters import answer_or_refuse
from models.answering.kept_feature import KeptFeature
from models.labels.taxonomy import Taxonomy
from pipeline import clock, ids, messages, topics
from pipeline.errors import Rejected
from pipeline.messages import Ack, Label, Levels, Privacy, Result, Task, Tier
from pipeline.privacy.gate import may_see
from pipeline.privacy.policy import PERSON
from pipeline.spool import Item, Transaction

log = structlog.get_logger("edge")

PERSONS_MAX = 64
"""Persons whose votes about one event are kept. Anyone at the site may invent names."""

EARLY_S = 30.0
"""A label may arrive before its event, if the event was made so lately. After that, the event is unknown."""

EARLY_MAX = 256
"""Labels that wait for their events at the same time. Anyone at the site may invent events."""


class LabelChange(NamedTuple):
    """The changes that follow from a label."""

    vote: PersonVote
    votes: tuple[PersonVote, ...]
    """All votes about the event, with this one."""
    levels: Levels
    """The event's levels, which a label may raise."""
    result: Result | None
    """The next answer to publish; None if the published one stays."""


class EdgeLabels:
    """Labels of one site."""

    def __init__(self, resources: EdgeResources, sightings: Sightings, tree: Callable[[], Taxonomy]) -> None:
        """`tree` is called at each label, since a release may bring a larger one."""
        self._settings = resources.settings
        self._policy = resources.policy
        self._store = resources.store
        self._series = resources.series
        self._keyring = resources.keyring
        self._metrics = resources.metrics
        self._clock = resources.clock
        self._sightings = sightings
        self._tree = tree
        self._listeners: list[OnLabel] = []
        self._changed: dict[str, KeptFeature] = {}
        """Events of which the listeners are to be notified, with their features; filled within transactions."""
        self._notifying = threading.Lock()

    # --- listeners ---------------------------------------------------------------------------------------------

    def subscribe(self, listener: OnLabel) -> None:
        """Call `listener` with each event with a feature whose label changes: after the commit, one at a time.

        After a crash, `LabelStore.all_labelled` holds the events of which no listener was notified.
        """
        self._listeners.append(listener)

    def notify_listeners(self) -> None:
        """Call the listeners with the changes that were committed since the last call."""
        if not self._changed:
            return
        with self._notifying:
            # No other transaction runs at the same time, so all that is in the dict is committed or rolled back.
            with self._store.transaction():
                changed, self._changed = self._changed, {}
            if any(not may_see(Tier.EDGE, feature.levels.feature) for feature in changed.values()):
                self._store.scrub()
            for event, feature in changed.items():
                found = self._store.labels.labelled(event)
                if found is None:
                    dropped = replace(feature.levels, feature=Privacy.USER_PRIVATE)
                    found = labelled_event((), feature._replace(levels=dropped))
                for listener in self._listeners:
                    try:
                        listener(found)
                    except Exception:  # the label is committed and acknowledged: no listener undoes it
                        log.exception("a listener failed on a label", label_of=event)

    # --- in ----------------------------------------------------------------------------------------------------

    def take(self, item: Item) -> None:
        """Take in one label from the inbox.

        Raises
        ------
        Rejected
            Its event is unknown here, or the label tree lacks the label.
        """
        with self._store.transaction() as tx:
            results = self._take(item.topic, item.payload, item.received_at, tx)
            if results is None:
                if self._store.labels.early_count(tx) >= EARLY_MAX:
                    raise Rejected(
                        "too-many-early",
                        f"{EARLY_MAX} labels wait for events that this edge does not know: label an event after its "
                        "answer",
                    )
                event = messages.decode(Label, item.payload).event
                self._store.labels.hold_early(item.id, event, item.topic, item.payload, item.received_at, tx)
            tx.finish(item)
        self._committed(results or ())

    def retry_early(self, stop: threading.Event) -> None:
        """Try again the labels that arrived before their events."""
        for name, event, topic, payload, received_s in self._store.labels.early():
            waits = abs(self._clock.now() - received_s) < EARLY_S  # the clock may have been set back
            if not waits or self._store.answer(event) is not None:
                retry = partial(self._retry, name, topic, payload, received_s)
                answer_or_refuse(retry, partial(self._refuse_early, name, topic, payload), stop)

    def _retry(self, name: str, topic: str, payload: bytes, received_s: float) -> None:
        with self._store.transaction() as tx:
            results = self._take(topic, payload, received_s, tx)
            self._store.labels.drop_early(name, tx)
        self._committed(results or ())

    def _refuse_early(self, name: str, topic: str, payload: bytes, error: Rejected) -> None:
        with self._store.transaction() as tx:
            self._store.send_refusal(error, topic, payload, tx)
            self._store.labels.drop_early(name, tx)
        self._metrics.refused(error.reason)

    def _committed(self, results: Sequence[Result]) -> None:
        self._series.results(*results)
        self.notify_listeners()

    def _take(self, topic: str, payload: bytes, received_s: float, tx: Transaction) -> tuple[Result, ...] | None:
        """Take in a label, and return the answers that it changed; None if its event may still arrive."""
        label = messages.decode(Label, payload)
        known = self._store.answer_in(label.event, tx)
        if known is None:
            if self._may_arrive(label.event, received_s):
                return None
            raise Rejected(
                "unknown-event",
                f"this edge has no event {label.event}: it never received it, the event is older than edge.keep_days "
                f"({self._settings.edge.keep_days}), or it is of a sensor (labels are for frames)",
            )
        self._check(label, topic, known.result)
        votes = self._store.labels.votes(label.event, tx)
        vote = self._vote(label, received_s, votes, tx)
        result = None
        if vote is not None:
            self._store.labels.put(vote, tx)
            if vote.revision > max((before.revision for before in votes), default=0):
                change = self._decide(vote, votes, known)
                self._write(change, known, tx)
                result = change.result
        self._metrics.received(known.result.source, "label")
        ack = Ack(ids=(label.event,), topic=topic, sha256=hashlib.sha256(payload).hexdigest())
        self._store.acknowledge_label(ack, known.result.device, tx)
        return () if result is None else (result,)

    def _may_arrive(self, event: str, received_s: float) -> bool:
        """Return whether an unknown event may still be on its way from its device."""
        made_s = ids.time_s(event) if ids.is_event_id(event) else None
        now_s = self._clock.now()
        return made_s is not None and received_s - made_s < EARLY_S and abs(now_s - received_s) < EARLY_S

    def _check(self, label: Label, topic: str, result: Result) -> None:
        parsed = topics.parse(topic)
        if parsed is None or (parsed.site, parsed.device) != (result.site, result.device):
            raise Rejected(
                "other-source",
                f"event {label.event} is not of this device: label it under {topics.label(result.site, result.device)}",
            )
        if result.task is not Task.WILDLIFE:
            raise Rejected("not-a-frame", f"event {label.event} is of a {result.task} stream: labels are for frames")

    # --- decide --------------------------------------------------------------------------------------------------

    def _vote(self, label: Label, received_s: float, votes: Sequence[PersonVote], tx: Transaction) -> PersonVote | None:
        """Return the vote that a label is; None if the same person gave a later one."""
        by, at_s = person_name(label.by), given_at(label.time, received_s)
        before = next((vote for vote in votes if vote.by == by), None)
        if before is None and len(votes) >= PERSONS_MAX:
            raise Rejected("too-many-persons", f"{len(votes)} persons labelled event {label.event} already")
        corrected = before if names_family(label) else None
        new_labels = self._store.labels.new_label_votes_in(tx, without=corrected)
        resolved = resolve(label, self._tree(), new_labels)
        return decide_vote(label.event, by, at_s, resolved, votes, latest_s=received_s + AHEAD_S)

    def _decide(self, vote: PersonVote, before: Sequence[PersonVote], known: Known) -> LabelChange:
        others = (other for other in before if other.by != vote.by)
        votes = tuple(sorted((*others, vote), key=lambda each: (each.at_s, each.by)))
        levels, revision = self._levels(vote, known), known.result.revision + 1
        result = labelled(known.models, votes, revision=revision) or unlabelled(
            known.result, known.models, revision=revision
        )
        if result is not None:
            result = replace(result, privacy=known.result.privacy.join(levels.result))
        return LabelChange(vote, votes, levels, result)

    def _levels(self, vote: PersonVote, known: Known) -> Levels:
        """Return the event's levels by policy after this vote. Levels are only ever raised."""
        seen, levels = PERSON in vote.path, known.context.levels
        source = known.result.source
        if not seen and not self._policy.knows(source):
            return levels
        time_s = clock.seconds(known.result.time)
        return levels.join(self._policy.levels(source, time_s, path=vote.path, person=seen).levels)

    # --- write ---------------------------------------------------------------------------------------------------

    def _write(self, change: LabelChange, known: Known, tx: Transaction) -> None:
        event, levels = change.vote.event, change.levels
        raised = levels != known.context.levels
        self._write_uplink(event, levels, change.votes, (change.vote,), tx, raised=raised)
        context = replace(known.context, levels=levels, models=known.models)
        if change.result is None:
            self._store.keep(known.result, context, tx)
            return
        self._store.stop_waiting(event, tx)
        self._store.send_result(change.result, tx)
        self._store.keep(change.result, context, tx)
        self._sightings.count(change.result, tx)

    def _write_uplink(
        self,
        event: str,
        levels: Levels,
        votes: Sequence[PersonVote],
        new: Sequence[PersonVote],
        tx: Transaction,
        *,
        raised: bool,
    ) -> None:
        """Send up, or withdraw, what the cloud is to have of an event's votes, and keep its feature by its levels."""
        feature = self._store.labels.feature_in(event, tx)
        unsent = self._store.unsent_ids(event, tx)
        if raised:
            self._store.pictures.levels_raised(event, levels, SITE, tx)
        if raised and label_level(levels) is not Privacy.PUBLIC:
            tx.cancel(event, hop=UPLINK)
        if feature is None:
            return
        assert self._keyring.site is not None, "an edge makes its keys before it takes labels"
        for envelope in label_envelopes(feature, levels, votes, new, unsent, self._keyring.site):
            self._store.send_up(envelope, tx)
        kept = feature._replace(levels=levels)
        if raised:
            self._store.labels.keep_feature(kept, tx)
        if new or not may_see(Tier.EDGE, label_level(levels)):
            self._changed[event] = kept

    # --- for the answers of models -------------------------------------------------------------------------------

    def levels_raised(self, event: str, levels: Levels, tx: Transaction) -> None:
        """Apply an event's raised levels: cancel what waits, withdraw what left, drop what may not be kept here."""
        self._write_uplink(event, levels, self._store.labels.votes(event, tx), (), tx, raised=True)

    def feature_arrived(self, feature: KeptFeature, tx: Transaction) -> None:
        """Keep a feature, and use it with the labels of its event that arrived before it."""
        self._store.labels.keep_feature(feature, tx)
        if votes := self._store.labels.votes(feature.event, tx):
            self._write_uplink(feature.event, feature.levels, votes, votes, tx, raised=False)

    def overlay(self, models: Result, context: Context, tx: Transaction) -> tuple[Result, Context]:
        """Overlay people's labels on a model's result."""
        votes = self._store.labels.votes(models.event, tx)
        if not votes:
            return models, context
        result = labelled(models, votes, revision=models.revision)
        return result or models, replace(context, models=models)
