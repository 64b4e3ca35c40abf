"""Labels at the edge: a person's word is resolved, kept, told in place of the models' answer, and sent up where it may go.

::

    MQTT label ──> inbox ──> known event? ──no──> waits for it a while, then `unknown-event`
                                  │
                                  ├──> result: rule `labelled`, revision + 1     (taken back: the models' answer again)
                                  ├──> Ack to who gave it
                                  ├──> listeners (what the edge learns from)     after the commit
                                  └──> uplink: Vote and the event's feature      if result and feature are public

A label is as private as its event's result, and useful with its feature alone: unless both are public it stays here. A
person in the picture raises the event's levels as if a model had seen one: what the edge holds of it is dropped.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from functools import partial

import structlog
from msgspec.structs import replace

from agents.edge.label_rules import LABELLED, OnLabel, Word, labelled, person, resolve, said_at, says_where
from agents.edge.label_store import labelled_event
from agents.edge.sightings import Sightings
from agents.edge.store import SITE, UPLINK, Context, EdgeStore, Known
from agents.edge.time_series import SiteSeries
from agents.role.dead_letters import answer_or_refuse, refusal
from agents.role.telemetry import Metrics
from models.answering.kept_feature import KeptFeature
from models.labels.taxonomy import Taxonomy
from pipeline import clock, ids, messages, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import Ack, Envelope, Kind, Label, Levels, Privacy, Result, Task, Tier, Vote
from pipeline.privacy.gate import may_see
from pipeline.privacy.policy import PERSON, Policy
from pipeline.privacy.seal import Keyring, pseudonym
from pipeline.settings.settings import Settings
from pipeline.spool import Item, Spool, Transaction

log = structlog.get_logger("edge")

PERSONS_MAX = 64
"""Whose words about one event are kept: names cost nothing, and anyone at the site may give some."""

EARLY_S = 30.0
"""A label of an event that was made so lately may have overtaken it; after that it is about nothing."""


class Labels:
    """Labels of one site."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        spool: Spool,
        store: EdgeStore,
        sightings: Sightings,
        series: SiteSeries,
        keyring: Keyring,
        tree: Callable[[], Taxonomy],
        metrics: Metrics,
        time: Clock,
    ) -> None:
        """`tree`: asked at each label, since a release may bring a larger one."""
        self._settings = settings
        self._policy = policy
        self._spool = spool
        self._store = store
        self._sightings = sightings
        self._series = series
        self._keyring = keyring
        self._tree = tree
        self._metrics = metrics
        self._clock = time
        self._listeners: list[OnLabel] = []
        self._changed: dict[str, KeptFeature] = {}
        """Events that listeners are to hear of, with the feature that each had; added to within transactions."""
        self._telling = threading.Lock()

    # --- for who learns ----------------------------------------------------------------------------------------

    def listen(self, listener: OnLabel) -> None:
        """Be told of each event with a feature whose label changes, after the commit, one at a time. After a crash, what
        was not told is in `LabelStore.all_labelled`.
        """
        self._listeners.append(listener)

    def tell_changes(self) -> None:
        """Call the listeners about what was committed since."""
        if not self._changed:
            return
        with self._telling:
            with (
                self._spool.transaction()
            ):  # none other runs: what is in the list is committed, or rolled back
                changed, self._changed = self._changed, {}
            if any(not may_see(Tier.EDGE, feature.levels.feature) for feature in changed.values()):
                self._scrub()
            for event, feature in changed.items():
                found = self._store.labels.labelled(event)
                if found is None:
                    dropped = replace(feature.levels, feature=Privacy.USER_PRIVATE)
                    found = labelled_event((), feature._replace(levels=dropped))
                for listener in self._listeners:
                    try:
                        listener(found)
                    except Exception:  # the label is in, and acknowledged: no listener undoes it
                        log.exception("a listener failed on a label", label_of=event)

    # --- in ----------------------------------------------------------------------------------------------------

    def take(self, item: Item) -> None:
        """Deal with one label.

        Raises
        ------
        Rejected
            It is about nothing that is known here, or means nothing that the tree has.
        """
        with self._spool.transaction() as tx:
            told = self._take(item.topic, item.payload, item.received_at, tx)
            if told is None:
                event = messages.decode(Label, item.payload).event
                self._store.labels.hold(item.id, event, item.topic, item.payload, item.received_at, tx)
            tx.finish(item)
        self._after(told or [])

    def retry_early(self, stop: threading.Event) -> None:
        """Look again at labels that came before their events."""
        for name, event, topic, payload, received_s in self._store.labels.early():
            waits = self._clock.now() - received_s < EARLY_S
            if not waits or self._store.answer(event) is not None:
                retry = partial(self._retry, name, topic, payload, received_s)
                answer_or_refuse(retry, partial(self._refuse_early, name, topic, payload), stop)

    def _retry(self, name: str, topic: str, payload: bytes, received_s: float) -> None:
        with self._spool.transaction() as tx:
            told = self._take(topic, payload, received_s, tx)
            self._store.labels.let_go(name, tx)
        self._after(told or [])

    def _refuse_early(self, name: str, topic: str, payload: bytes, error: Rejected) -> None:
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(error, topic, payload, site=self._settings.site, hop=SITE, now_s=now_s))
            self._store.labels.let_go(name, tx)
        self._metrics.refused(error.reason)

    def _after(self, told: list[Result]) -> None:
        self._series.results(*told)
        self.tell_changes()

    def _scrub(self) -> None:
        try:
            self._spool.scrub()
        except Retry as error:
            log.warning("a feature is deleted, but not overwritten yet", error=str(error))

    def _take(self, topic: str, payload: bytes, received_s: float, tx: Transaction) -> list[Result] | None:
        """Take a label in, and return the answer that it changed, if any; None: its event may still come."""
        label = messages.decode(Label, payload)
        known = self._store.answer_in(label.event, tx)
        if known is None:
            if self._may_come(label.event, received_s):
                return None
            raise Rejected(
                "unknown-event",
                f"event {label.event} was never told at this edge, is older than edge.keep_days "
                f"({self._settings.edge.keep_days}), or is a sensor's: labels are for frames",
            )
        self._check(label, topic, known.result)
        by, at_s = person(label.by), said_at(label.time, received_s)
        words = self._store.labels.words(label.event, tx)
        before = next((word for word in words if word.by == by), None)
        if before is None and len(words) >= PERSONS_MAX:
            raise Rejected("too-many-persons", f"{len(words)} persons labelled event {label.event} already")
        corrected = before if says_where(label) else None
        meant = resolve(label, self._tree(), self._store.labels.brought(corrected, tx))
        told: list[Result] = []
        if before is None or at_s >= before.at_s:
            said = (before.label, before.path, before.under, before.english) if before else (None, (), "", "")
            newest = max((word.revision for word in words), default=0)
            changed = said != meant
            revision = newest + 1 if changed else before.revision if before else newest
            word = Word(label.event, by, *meant, at_s, revision)
            self._store.labels.put(word, tx)
            if changed:
                told = self._changed_by(word, known, tx)
        self._metrics.received(known.result.source, "label")
        self._acknowledge(label.event, known.result.device, topic, payload, tx)
        return told

    def _may_come(self, event: str, received_s: float) -> bool:
        """Whether an event that is not known may still be on its way from its device."""
        made_s = ids.time_s(event) if ids.is_event_id(event) else None
        now_s = self._clock.now()
        return made_s is not None and received_s - made_s < EARLY_S and now_s - received_s < EARLY_S

    def _check(self, label: Label, topic: str, told: Result) -> None:
        parsed = topics.parse(topic)
        if parsed is None or (parsed.site, parsed.device) != (told.site, told.device):
            raise Rejected(
                "other-source",
                f"event {label.event} is not of this device: label it under {topics.label(told.site, told.device)}",
            )
        if told.task is not Task.WILDLIFE:
            raise Rejected(
                "not-a-frame", f"event {label.event} is of a {told.task} stream: labels are for frames"
            )

    def _acknowledge(self, event: str, device: str, topic: str, payload: bytes, tx: Transaction) -> None:
        digest = hashlib.sha256(payload).hexdigest()
        self._store.acknowledge_label(
            Ack(ids=(event,), topic=topic, sha256=digest), self._settings.site, device, tx
        )

    # --- what a word changes -----------------------------------------------------------------------------------

    def _changed_by(self, word: Word, known: Known, tx: Transaction) -> list[Result]:
        levels = self._levels(word, known)
        feature = self._store.labels.feature_in(word.event, tx)
        if levels != known.context.levels:
            self.raised(word.event, levels, tx, word)
        if feature is not None:
            self._changed.setdefault(word.event, feature._replace(levels=levels))
        if feature is not None and may_see(Tier.CLOUD, levels.of(Kind.LABEL).join(levels.feature)):
            self._send_up(word, feature, tx)
        words = self._store.labels.words(word.event, tx)
        revision = known.result.revision + 1
        result = labelled(known.models, words, revision=revision) or self._unlabelled(known, revision)
        context = replace(known.context, levels=levels, models=known.models)
        if result is None:
            self._store.keep(known.result, context, tx)
            return []
        result = replace(result, privacy=known.result.privacy.join(levels.result))
        self._store.stop_waiting(word.event, tx)
        self._store.send_result(result, tx)
        self._store.keep(result, context, tx)
        self._sightings.count(result, tx)
        return [result]

    def _levels(self, word: Word, known: Known) -> Levels:
        """Policy's word about what a person says is there; levels are only ever raised."""
        seen, levels = PERSON in word.path, known.context.levels
        source = known.result.source
        if not seen and not self._policy.knows(source):
            return levels
        time_s = clock.seconds(known.result.time)
        return levels.join(self._policy.levels(source, time_s, path=word.path, person=seen).levels)

    @staticmethod
    def _unlabelled(known: Known, revision: int) -> Result | None:
        """The models' answer once more, where a label that was told no longer stands."""
        if known.result.rule != LABELLED:
            return None
        models = known.models
        return replace(
            models,
            tier=Tier.EDGE if models.tier is Tier.DEVICE else models.tier,
            revision=revision,
            pending=None,
            reason=f"{models.reason}; no label stands any more",
        )

    def _send_up(self, word: Word, feature: KeptFeature, tx: Transaction) -> None:
        """The word, and beside it the feature that it is about: the cloud may have none of it, or have it no longer."""
        for envelope in self._told(word, feature):
            self._store.send_up(envelope, feature.source.partition("/")[0], tx)

    def _told(self, word: Word, feature: KeptFeature) -> tuple[Envelope, Envelope]:
        """A feature and a word about it, as they go up."""
        key = self._keyring.site
        assert key is not None, "an edge makes its keys before it takes labels"
        site, device, _ = feature.source.split("/")
        vote = Vote(
            label=word.label,
            by=pseudonym(key, word.by),
            under=word.under,
            english=word.english,
            time=clock.rfc3339(word.at_s),
        )
        about = Envelope(
            event=word.event,
            kind=Kind.FEATURE,
            privacy=Privacy.PUBLIC,
            key=f"{site}/{device}",
            payload=feature.payload,
            source=feature.source,
            time=feature.time,
            space=feature.space,
        )
        said = replace(
            about, kind=Kind.LABEL, payload=messages.encode(vote), space="", revision=word.revision
        )
        return about, said

    # --- for the answers of models -------------------------------------------------------------------------------

    def raised(self, event: str, levels: Levels, tx: Transaction, new: Word | None = None) -> None:
        """An event's levels rose, by a new word or without one: what may no longer leave is taken out of the outbox, what left
        is withdrawn, what may not rest here is dropped.
        """
        feature = self._store.labels.feature_in(event, tx)
        if levels.of(Kind.LABEL).join(levels.feature) is not Privacy.PUBLIC:
            waiting = self._store.unsent_ids(event, tx)
            tx.cancel(event, hop=UPLINK)
            if feature is not None:
                self._take_back(feature, waiting, new, tx)
        if feature is None:
            return
        raised = feature._replace(levels=levels)
        self._store.labels.keep_feature(raised, tx)
        if not may_see(Tier.EDGE, levels.feature.join(levels.of(Kind.LABEL))):
            self._changed[event] = raised

    def _take_back(
        self, feature: KeptFeature, waiting: Collection[str], new: Word | None, tx: Transaction
    ) -> None:
        """What the cloud has of an event that is public no more is withdrawn there, so that it learns from none of it. `new` is
        the word by which this became known; it never left. Where nothing did, nothing does now.
        """
        was = feature.levels
        if not may_see(Tier.CLOUD, was.of(Kind.LABEL).join(was.feature)):
            return
        words = self._store.labels.words(feature.event, tx)
        revision = max((word.revision for word in words), default=0)
        last = revision - 1 if new else revision
        if all(f"{feature.event}/{Kind.LABEL}/{number}" in waiting for number in range(1, last + 1)):
            return
        for word in words:
            revision += 1
            nothing = word._replace(label=None, path=(), under="", english="", revision=revision)
            _, withdrawn = self._told(nothing, feature)
            self._store.send_up(withdrawn, feature.source.partition("/")[0], tx)

    def came(self, feature: KeptFeature, tx: Transaction) -> None:
        """A feature of an event whose labels were here before it: now they are of use."""
        self._store.labels.keep_feature(feature, tx)
        words = self._store.labels.words(feature.event, tx)
        if not words:
            return
        self._changed[feature.event] = feature
        levels = feature.levels
        if may_see(Tier.CLOUD, levels.of(Kind.LABEL).join(levels.feature)):
            for word in words:
                self._send_up(word, feature, tx)

    def over(self, models: Result, context: Context, tx: Transaction) -> tuple[Result, Context]:
        """What is told where the models say this: what people said of the event stands above it."""
        words = self._store.labels.words(models.event, tx)
        if not words:
            return models, context
        told = labelled(models, words, revision=models.revision)
        return told or models, replace(context, models=models)
