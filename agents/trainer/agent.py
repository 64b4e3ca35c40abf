"""The trainer: labelled features and sites' sums become better heads, released with a signature. It reads nothing else.

::

    labelled ──> Fold (sums and offsets, one transaction) ──> trigger? ──> Workshop.train ──> Repository (signed)
    sums ──────┘                                                                └─> reports         └──> models

One thread reads, one trains, releases and sends. Nothing that serves depends on it: killed at any point, it goes on from
its fold, and trains again what has no report. One trainer a deployment: two would sign against each other.

    $ tierwise trainer
    $ tierwise models train --reason "before the weekend"
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Final

import prometheus_client
import structlog

from agents.releases.publisher import ReleaseFeed
from agents.role.kafka_wait import await_topics
from agents.role.lifecycle import Health
from agents.role.telemetry import Metrics
from agents.trainer.reports import FOLDER, Reports
from agents.trainer.training_run import Workshop
from agents.trainer.triggers import Seen, Trigger, Wishes, due, is_ripe
from models.labels.rank_under import Placing
from models.releases.repository import Repository
from models.shipped import load_zoo
from pipeline import messages, records, topics
from pipeline.clock import Clock, SystemClock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.kafka import Fetched, Producer, Seeker
from pipeline.messages import Kind, Labelled, Malformed, Privacy, SumIncrement
from pipeline.settings.settings import Settings
from pipeline.sums.fold import Fold
from pipeline.sums.fold_records import Entry
from pipeline.sums.sums import SpaceMismatch

log = structlog.get_logger("trainer")

READ: Final = (topics.LABELLED, topics.SUMS)
BATCH: Final = 500
LOOK_EVERY_S: Final = 0.5
RETRY_S: Final = 1.0
NAMED_MAX: Final = 10
"""Of events whose labels teach nothing, so many are named in the log after each training."""

RENEW_EVERY_S: Final = 3600.0
"""How often it is looked whether signatures grow old: they stand for days."""


class Trainer:
    """Driven by `agents.role.lifecycle`."""

    name = "trainer"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._kafka = "connecting"
        self._doing = "starting"
        self._ready = False
        self._caught_up = threading.Event()
        self._changed_s = clock.monotonic()
        self._trainings = prometheus_client.Counter(
            "tierwise_trainings_total",
            "Trainings, by what came of them.",
            ["outcome"],
            registry=self.metrics.registry,
        )

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the fold, the repository and the zoo's base; connect in the background."""
        settings, folder = self._settings, self._settings.data_dir
        zoo = load_zoo(settings.zoo_dir)
        base = zoo.base()
        path = folder / FOLDER / "fold.db"
        try:
            self._fold = Fold(path, base.sums.space, base.sums.dimension, Placing(base.tree))
        except SpaceMismatch as error:
            raise Stop(f"{error}; what Kafka still holds is folded anew") from None
        self._workshop = Workshop(
            base,
            zoo.golden(),
            Repository.open(settings.releases_dir, folder / "keys" / "releases", self._clock),
            Reports(folder),
            settings.trainer,
            self._clock,
        )
        self._producer = Producer(settings.kafka, "tierwise-trainer")
        self._feed = ReleaseFeed(self._workshop.repository, settings.kafka, self._producer)
        self._threads = [
            threading.Thread(target=self._read, name="fold", daemon=True),
            threading.Thread(target=self._work, name="training", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._ready = True

    def health(self) -> Health:
        if not self._ready:
            return Health(False, {"trainer": "starting"})
        events = self._fold.events()
        return Health(
            self._kafka == "connected",
            {
                "kafka": self._kafka,
                "fold": f"{sum(events.values())} events of {len(events)} labels",
                "training": self._doing,
            },
        )

    def stop(self, deadline_s: float) -> None:
        self._stop.set()
        if not self._ready:
            return
        for thread in self._threads:
            thread.join(deadline_s / 3)
        self._producer.close(deadline_s / 3)
        if not any(thread.is_alive() for thread in self._threads):
            self._fold.close()

    # --- reading -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if not await_topics(self._settings.kafka, [*READ, topics.MODELS], self._stop, self._found):
            return
        seeker = Seeker(
            self._settings.kafka, READ, topics.Group.TRAINER, "trainer", self._fold.next, self._fold.rewind
        )
        with contextlib.closing(seeker):
            while not self._stop.is_set():
                try:
                    fetched = seeker.poll(BATCH)
                    self._found("connected")
                    if fetched:
                        self._take(fetched)
                        seeker.tell()
                    elif seeker.caught_up:
                        self._caught_up.set()
                except Retry as error:
                    self._found(str(error))
                    seeker.close()  # goes on where the fold stands
                    self._stop.wait(RETRY_S)

    def _take(self, fetched: Sequence[Fetched]) -> None:
        before = self._fold.changes()
        for refused in self._fold.take([self._entry(one) for one in fetched]):
            self._refuse(refused.entry, refused.reason, refused.message)
        if self._fold.changes() != before:
            self._changed_s = self._clock.monotonic()

    def _entry(self, record: Fetched) -> Entry:
        place = Entry(record.topic, record.partition, record.offset, None)
        if record.value is None:
            return place
        try:
            if record.topic == topics.LABELLED:
                labelled = messages.decode(Labelled, record.value)
                self.metrics.received(labelled.source, "label")
                return place._replace(message=labelled)
            envelope = records.from_record(record.headers, record.key, record.value)
            if (envelope.kind, envelope.privacy) != (Kind.SUM, Privacy.PUBLIC):
                raise Rejected("kind-not-taken", f"a {envelope.privacy} {envelope.kind} on {topics.SUMS}")
            self.metrics.received(envelope.source, "sum")
            site = envelope.source.partition("/")[0]
            return place._replace(message=messages.decode(SumIncrement, envelope.payload), site=site)
        except (Rejected, Malformed) as error:
            self._refuse(place, error.reason, str(error))
            return place

    def _refuse(self, entry: Entry, reason: str, message: str) -> None:
        self.metrics.refused(reason)
        where = {"topic": entry.source, "partition": entry.partition, "offset": entry.offset}
        log.warning("refused", **where, reason=reason, error=message)

    def _found(self, state: str) -> None:
        self._kafka = state

    # --- training ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        sent, renewed_s = "", 0.0
        pending: tuple[Trigger, float] | None = None
        while not self._stop.wait(LOOK_EVERY_S):
            now_s = self._clock.monotonic()
            if not renewed_s or now_s - renewed_s > RENEW_EVERY_S:
                sent, renewed_s = "", now_s
            if self._kafka != "connected":
                continue
            sent = self._send(sent)
            if not self._caught_up.is_set():
                continue
            self._forget()
            trigger = self._trigger()
            pending = (trigger, pending[1] if pending else now_s) if trigger else None
            if pending and is_ripe(pending[0], pending[1], self._changed_s, now_s):
                pending = None if self._trained(pending[0]) else pending
        self._doing = "stopping"

    def _forget(self) -> None:
        for what, path in self._workshop.reports.to_forget():
            try:
                events = self._fold.forget(**{what.kind: what.name})
                log.info("forgotten", kind=what.kind, name=what.name, events=events)
                self._workshop.reports.ask(f"without {what.kind} {what.name}, which was to be forgotten")
            except Rejected as error:
                log.error("cannot be forgotten", kind=what.kind, name=what.name, reason=str(error))
            path.unlink()

    def _trigger(self) -> Trigger | None:
        workshop = self._workshop
        last, wish = workshop.reports.seen, workshop.reports.wish()
        changes = self._fold.changes()
        if changes == last.changes and not wish:
            self._doing = self._waiting()
            return None
        labelled = self._fold.since(last.changes)
        wrong = sum(is_wrong(workshop.base.tree.paths.get(label, (label,)), path) for label, path in labelled)
        seen = Seen(
            changes, self._fold.events(), self._clock.now(), wish.reason if wish else "", len(labelled), wrong
        )
        wishes = Wishes(workshop.settings.labels, workshop.settings.every_h)
        trigger = due(seen, last, wishes, workshop.base.tree.paths)
        self._doing = f"about to begin: {trigger.reason}" if trigger else self._waiting()
        return trigger

    def _waiting(self) -> str:
        last = self._workshop.reports.last
        return f"last: {last.title} {last.outcome}" if last else "none yet"

    def _trained(self, trigger: Trigger) -> bool:
        """False where the disk refused: it is tried again."""
        try:
            self._train(trigger)
        except Retry as error:
            self._doing = f"waits: {error}"
            log.error("a training waits", error=str(error))
            self._stop.wait(RETRY_S)
            return False
        return True

    def _train(self, trigger: Trigger) -> None:
        self._doing = f"training: {trigger.reason}"
        log.info("training", rule=trigger.rule, reason=trigger.reason)
        wish = self._workshop.reports.wish()
        kept = self._workshop.train(self._fold.snapshot(), trigger, wish.id if wish else "")
        self._trainings.labels(kept.outcome).inc()
        for state, rows in self._fold.undecided().items():
            if rows:
                named = [f"{row.event}: {row.label}" for row in rows[:NAMED_MAX]]
                log.info("labels that teach nothing", state=state, events=len(rows), first=named)
        tell = log.info if kept.outcome == "released" else log.warning
        tell(
            kept.outcome, title=kept.title, report=kept.number, seconds=kept.seconds, why="; ".join(kept.why)
        )

    def _send(self, sent: str) -> str:
        """Bring Kafka up to date where the repository changed, whoever changed it; what it says now."""
        says = self._workshop.repository.mark
        if says != sent:
            try:
                self._feed.keep_up()
            except Retry as error:
                log.warning("releases wait to be sent", reason=str(error))
                return sent
            except Rejected as error:
                log.error("a release cannot be sent", reason=error.reason, error=str(error))
        return says


def is_wrong(path: Sequence[str], answered: Sequence[str]) -> bool:
    """Whether an answer contradicts what people say: as far down as both go, they differ."""
    depth = min(len(path), len(answered))
    return tuple(path[:depth]) != tuple(answered[:depth])


def build(settings: Settings, clock: Clock | None = None) -> Trainer:
    """The trainer role; opens nothing yet."""
    return Trainer(settings, clock or SystemClock())
