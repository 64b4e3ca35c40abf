"""What the edge says of an event: its own answer, the cloud's, or that none came; each supersedes the one before.

The edge owns the revisions of an event from its own answer on::

    device 1 ──> edge 2 ──> cloud 3
                    └─────> 3 (deadline: cloud out of reach) ──> cloud 4, whenever it comes
    device 1 ──> device 2 (deadline: edge out of reach) ──> edge 3 ──> ...

Each answer, what goes on, and the end of the inbox's row are one transaction. An answer is never less private than the one
before it, and policy is asked again with what each tier found.
"""

from __future__ import annotations

import msgspec
import structlog

from agents.edge.drift_monitor import SiteWatch
from agents.edge.label_rules import LABELLED
from agents.edge.labels import Labels
from agents.edge.rooms import Rooms
from agents.edge.sightings import Sightings
from agents.edge.store import DAY_S, SITE, UPLINK, Context, EdgeStore, Known
from agents.edge.time_series import SiteSeries
from agents.role.dead_letters import refusal
from agents.role.telemetry import Metrics
from models.answering.cascade import contradicts, deeper, rank_of
from models.answering.edge import Families
from pipeline import clock, messages, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import UNKNOWN, Envelope, Event, Levels, Privacy, Rank, Report, Result, Task, Tier
from pipeline.privacy.policy import Policy, within
from pipeline.settings.settings import Settings
from pipeline.spool import Item, Spool, Transaction

log = structlog.get_logger("edge")


class Answers:
    """Answers of one site's edge."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        spool: Spool,
        store: EdgeStore,
        families: Families,
        rooms: Rooms,
        sightings: Sightings,
        labels: Labels,
        watch: SiteWatch,
        series: SiteSeries,
        metrics: Metrics,
        time: Clock,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._spool = spool
        self._store = store
        self._families = families
        self._rooms = rooms
        self._sightings = sightings
        self._labels = labels
        self._watch = watch
        self._series = series
        self._metrics = metrics
        self._clock = time
        self._keep_s = settings.edge.keep_days * DAY_S

    def answer(self, item: Item) -> None:
        """Deal with one event of a device, or a label of one."""
        if is_label(item):
            self._labels.take(item)
            return
        event = messages.decode(Event, item.payload)
        if isinstance(event.body, Report):
            self._answer_report(item, event, event.body)
            return
        known = self._store.answer(event.result.event)
        if event.body is not None and (known is None or known.models.tier is Tier.DEVICE):
            self._answer_frame(item, event, known)
        elif known is None:
            self._take_over(item, event)
        else:
            self._outrank(item, event)

    def _answer_report(self, item: Item, event: Event, report: Report) -> None:
        """A sensor's report: into its hour and its room; the device's answer about it stands."""
        with self._spool.transaction() as tx:
            self._rooms.take(event, report, tx)
            tx.finish(item)
        self._series.report(event, report)

    def _answer_frame(self, item: Item, event: Event, known: Known | None) -> None:
        """A crop or a vector: feature and family, and perhaps a question to the cloud."""
        before = event.result
        if known is not None:
            event = msgspec.structs.replace(event, levels=event.levels.join(known.context.levels))
        asked = self._store.sightings.asked(before.sighting) if before.sighting else None
        revision = max(before.revision, known.result.revision if known else 0) + 1
        answer = self._families.answer(event, revision=revision, asked=asked, now=self._clock.now)
        context = Context(event.received_s, answer.levels, event.wants, known_here=answer.known_here)
        with self._spool.transaction() as tx:
            result, context = self._labels.over(answer.result, context, tx)
            self._store.send_result(result, tx)
            self._store.keep(result, context, tx, order=(event.boot, event.sequence))
            for envelope in (*event.sealed, answer.feature):
                if envelope is not None and self._may_leave(envelope):
                    self._store.send_up(envelope, result.site, tx)
            if answer.kept is not None:
                self._labels.came(answer.kept, tx)
            self._watch.answered(event, answer, tx)
            if answer.withdrawn:
                tx.cancel(result.event, hop=UPLINK)
            if result.pending is not None:
                deadline_s = self._clock.now() + self._settings.edge.cloud_deadline_s
                self._store.await_answer(result.event, deadline_s, tx)
            asked_now = answer.result.event if answer.result.pending is not None else None
            self._sightings.count(result, tx, asked=asked_now)
            tx.finish(item)
        if answer.withdrawn:
            self._scrub()
        self.told(before, result)

    def _scrub(self) -> None:
        """What was withdrawn is deleted; overwrite it as well."""
        try:
            self._spool.scrub()
        except Retry as error:
            log.warning("what was withdrawn is deleted, but not overwritten yet", error=str(error))

    def _take_over(self, item: Item, event: Event) -> None:
        """An event that needs no answer of the edge: remember the device's, count it into its sighting."""
        result = event.result
        with self._spool.transaction() as tx:
            self._store.keep(
                result,
                Context(event.received_s, event.levels, event.wants),
                tx,
                order=(event.boot, event.sequence),
            )
            for envelope in event.sealed:
                if self._may_leave(envelope):
                    self._store.send_up(envelope, result.site, tx)
            self._sightings.count(result, tx)
            self._watch.told(result, tx)
            tx.finish(item)
        self._series.results(result)

    def _outrank(self, item: Item, event: Event) -> None:
        """A repeat, or the device's notice that it gave up waiting: the edge's answer must have the highest revision."""
        with self._spool.transaction() as tx:
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

    def refuse(self, item: Item, error: Rejected) -> None:
        """Tell why an event of a device cannot be dealt with; its answer by the device stands."""
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(error, item.topic, item.payload, site=self._settings.site, hop=SITE, now_s=now_s))
            tx.finish(item)
        self._metrics.refused(error.reason)

    # --- the cloud's answers -------------------------------------------------------------------------------------

    def supersede(self, answer: Result, tx: Transaction) -> None:
        """Refine an event in place with what the cloud said; what it said before changes nothing, nor does what it says
        of an event that is forgotten here.
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
        # The value that an hour is told with is its mean: as private as a summary.
        value_level = levels.summary if result.rank is Rank.PATTERN else levels.reading
        result = within(result, msgspec.structs.replace(levels, reading=value_level))
        self._store.stop_waiting(result.event, tx)
        if levels != levels_before:
            self._labels.raised(result.event, levels, tx)
        if known is not None:
            self._watch.told(result, tx)
        context = with_cloud(answer, msgspec.structs.replace(context, levels=levels))
        result, context = self._labels.over(result, context, tx)
        if known is not None and result.rule == LABELLED and says_the_same(result, known.result):
            self._store.keep(known.result, context, tx)
            return
        self._store.send_result(result, tx)
        self._store.keep(result, context, tx)
        if known is not None:
            self._sightings.count(result, tx, asked=result.event)
        self.told(result)

    def _refined(self, known: Known, answer: Result) -> Result:
        """The cloud's answer as the next one about an event that is known here."""
        before, known_here = known.models, known.context.known_here
        if contradicts(known_here, answer.path):
            return msgspec.structs.replace(
                before,
                revision=max(known.result.revision + 1, answer.revision),
                pending=None,
                rule="site-knows",
                reason=f"the cloud says {answer.label} ({answer.probability:.2f}); labels of this site name {known_here[-1]}",
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
        """The levels that an event, or the hour that it is, was given here; None if neither is known."""
        levels = known.context.levels if known else None
        if answer.rank is Rank.PATTERN:
            hour = self._store.rooms.hour(answer.source, clock.seconds(answer.time), tx)
            if hour is not None:
                levels = levels.join(hour.levels) if levels else hour.levels
        return levels

    def _raised(self, result: Result, levels: Levels | None) -> Levels:
        """Policy's word about what the cloud found. A stream that only its devices know keeps the levels that they gave
        it; one that nobody knows has an unnamed stream's.
        """
        if levels is not None and not self._policy.knows(result.source):
            return levels
        asked = self._policy.levels(result.source, clock.seconds(result.time), path=result.path).levels
        return levels.join(asked) if levels is not None else asked

    # --- deadlines -------------------------------------------------------------------------------------------

    def expire(self, event: str) -> None:
        """The cloud did not answer in time: say so. Its answer supersedes whenever it comes. Where the question was sent
        and may be lost, the sighting's next frame asks again; one that waits for its link will be answered.
        """
        with self._spool.transaction() as tx:
            known = self._store.answer_in(event, tx)
            if not self._store.stop_waiting(event, tx) or known is None:
                return
            if not self._store.unsent(event, tx):
                self._store.sightings.ask_again(event, tx)
            result = msgspec.structs.replace(
                known.result,
                revision=known.result.revision + 1,
                pending=None,
                rule="deadline",
                reason=f"cloud out of reach for {self._settings.edge.cloud_deadline_s:g} s; a later answer supersedes",
            )
            self._store.send_result(result, tx)
            self._store.keep(result, known.context, tx)
        self.told(result)

    def told(self, *results: Result) -> None:
        """Count answers and keep them as time series."""
        for result in results:
            if result.tier is not Tier.DEVICE:
                self._metrics.answered(result)
        self._series.results(*results)


def is_label(item: Item) -> bool:
    """Whether this came on a label's topic."""
    parsed = topics.parse(item.topic)
    return parsed is not None and parsed.channel == "label"


def says_the_same(one: Result, other: Result) -> bool:
    """Whether two labelled answers about an event differ in nothing that a person would see."""
    return (one.path, one.reason, one.privacy) == (other.path, other.reason, other.privacy)


def is_news(answer: Result, context: Context) -> bool:
    """Whether the cloud has not said this before, or something newer: its answers come again, and in any order. Of one
    revision each model is heard once.
    """
    if answer.revision != context.cloud_revision:
        return answer.revision > context.cloud_revision
    return answer.model not in context.cloud_models


def with_cloud(answer: Result, context: Context) -> Context:
    """The context of an event once this answer of the cloud, which is news, was taken."""
    again = answer.revision == context.cloud_revision
    return msgspec.structs.replace(
        context,
        cloud_revision=answer.revision,
        cloud_models=(*(context.cloud_models if again else ()), answer.model),
    )
