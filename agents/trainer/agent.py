"""The trainer: it reads labelled features and the sums of sites, trains better heads, and signs them as releases.

::

    labelled ──> Fold (sums and offsets together) ──> trigger? ──> TrainingPipeline.train ──> Repository (signed)
    sums ──────┘                                                        └─> records               └──> models

One thread reads; another trains, signs and sends. No serving role depends on the trainer. After a kill, it continues
from its fold and repeats a training without a record. A deployment has one trainer: two would sign conflicting ones.

    $ tierwise trainer
    $ tierwise training now --reason "before the weekend"
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Final

import prometheus_client
import structlog

from agents.releases.publisher import ReleasePublisher
from agents.role.kafka_wait import await_topics
from agents.role.lifecycle import Health
from agents.role.telemetry import Metrics
from agents.trainer.reports import FOLDER, Reports
from agents.trainer.training_run import TrainingPipeline
from agents.trainer.triggers import FoldState, Trigger, TriggerSettings, due, is_ripe
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
from pipeline.sums.fold_records import FoldRecord
from pipeline.sums.sums import SpaceMismatch

log = structlog.get_logger("trainer")

READ: Final = (topics.LABELLED, topics.SUMS)
BATCH: Final = 500
LOOK_EVERY_S: Final = 0.5
RETRY_S: Final = 1.0
NAMED_MAX: Final = 10
"""After each training, the log names at most this many events whose labels teach nothing."""

RENEW_EVERY_S: Final = 3600.0
"""Time between checks of the signatures for renewal. They are valid for days."""


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
            "Trainings by outcome.",
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
            raise Stop(f"{error}; then the trainer folds the records again that Kafka still holds") from None
        self._training = TrainingPipeline(
            base,
            zoo.golden(),
            Repository.open(settings.releases_dir, folder / "keys" / "releases", self._clock),
            Reports(folder),
            settings.trainer,
            self._clock,
        )
        self._producer = Producer(settings.kafka, "tierwise-trainer")
        self._publisher = ReleasePublisher(self._training.repository, settings.kafka, self._producer)
        self._threads = [
            threading.Thread(target=self._read, name="fold", daemon=True),
            threading.Thread(target=self._work, name="training", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._ready = True

    def health(self) -> Health:
        """See `agents.role.lifecycle.Role`."""
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
        """See `agents.role.lifecycle.Role`."""
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
        if not await_topics(self._settings.kafka, [*READ, topics.MODELS], self._stop, self._set_kafka_state):
            return
        seeker = Seeker(self._settings.kafka, READ, topics.Group.TRAINER, "trainer", self._fold.next, self._fold.rewind)
        with contextlib.closing(seeker):
            while not self._stop.is_set():
                try:
                    fetched = seeker.poll(BATCH)
                    self._set_kafka_state("connected")
                    if fetched:
                        self._fold_records(fetched)
                        seeker.commit()
                    elif seeker.caught_up:
                        self._caught_up.set()
                except Retry as error:
                    self._set_kafka_state(str(error))
                    seeker.close()  # the next poll continues at the fold's offsets
                    self._stop.wait(RETRY_S)

    def _fold_records(self, fetched: Sequence[Fetched]) -> None:
        before = self._fold.changes()
        for refused in self._fold.take([self._entry(record) for record in fetched]):
            self._refuse(refused.record, refused.reason, refused.message)
        if self._fold.changes() != before:
            self._changed_s = self._clock.monotonic()

    def _entry(self, record: Fetched) -> FoldRecord:
        place = FoldRecord(record.topic, record.partition, record.offset, None)
        if record.value is None:
            return place
        try:
            if record.topic == topics.LABELLED:
                labelled = messages.decode(Labelled, record.value)
                self.metrics.received(labelled.source, "label")
                return place._replace(message=labelled)
            envelope = records.from_record(record.headers, record.key, record.value)
            if (envelope.kind, envelope.privacy) != (Kind.SUM, Privacy.PUBLIC):
                raise Rejected("kind-not-taken", f"{topics.SUMS} takes no {envelope.kind} that is {envelope.privacy}")
            self.metrics.received(envelope.source, "sum")
            site = envelope.source.partition("/")[0]
            return place._replace(message=messages.decode(SumIncrement, envelope.payload), site=site)
        except (Rejected, Malformed) as error:
            self._refuse(place, error.reason, str(error))
            return place

    def _refuse(self, entry: FoldRecord, reason: str, message: str) -> None:
        self.metrics.refused(reason)
        where = {"topic": entry.source, "partition": entry.partition, "offset": entry.offset}
        log.warning("refused", **where, reason=reason, error=message)

    def _set_kafka_state(self, state: str) -> None:
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
        for request, path in self._training.reports.forget_requests():
            try:
                events = self._fold.forget(**{request.kind: request.name})
                log.info("forgotten", kind=request.kind, name=request.name, events=events)
                self._training.reports.request_training(f"to forget {request.kind} {request.name}")
            except Rejected as error:
                log.error("cannot be forgotten", kind=request.kind, name=request.name, reason=str(error))
            path.unlink()

    def _trigger(self) -> Trigger | None:
        reports, settings, paths = (
            self._training.reports,
            self._training.settings,
            self._training.base.tree.paths,
        )
        last, request = reports.last_training, reports.open_request()
        changes = self._fold.changes()
        if changes == last.changes and not request:
            self._doing = self._waiting()
            return None
        labelled = self._fold.since(last.changes)
        fold = FoldState(
            changes,
            self._fold.events(),
            self._clock.now(),
            requested=request.reason if request else "",
            labelled=len(labelled),
            wrong=sum(is_wrong(paths.get(label, (label,)), path) for label, path in labelled),
        )
        trigger = due(fold, last, TriggerSettings(settings.labels, settings.every_h), paths)
        self._doing = f"about to begin: {trigger.reason}" if trigger else self._waiting()
        return trigger

    def _waiting(self) -> str:
        last = self._training.reports.last
        return f"last: {last.title} {last.outcome}" if last else "none yet"

    def _trained(self, trigger: Trigger) -> bool:
        """Train. Return False if the disk failed: the training is repeated."""
        try:
            self._train(trigger)
        except Retry as error:
            self._doing = f"waits: {error}"
            log.error("a training waits for the disk", error=str(error))
            self._stop.wait(RETRY_S)
            return False
        return True

    def _train(self, trigger: Trigger) -> None:
        self._doing = f"training: {trigger.reason}"
        log.info("training", rule=trigger.rule, reason=trigger.reason)
        request = self._training.reports.open_request()
        record = self._training.train(self._fold.snapshot(), trigger, request.id if request else "")
        self._trainings.labels(record.outcome).inc()
        for state, rows in self._fold.undecided().items():
            if rows:
                first = [f"{row.event}: {row.label}" for row in rows[:NAMED_MAX]]
                log.info("labels that teach nothing", state=state, events=len(rows), first=first)
        write = log.info if record.outcome == "released" else log.warning
        write(
            record.outcome,
            title=record.title,
            report=record.number,
            seconds=record.seconds,
            why="; ".join(record.why),
        )

    def _send(self, sent: str) -> str:
        """Send the repository to Kafka if any process changed it since `sent`. Return the mark of the sent state."""
        mark = self._training.repository.mark
        if mark != sent:
            try:
                self._publisher.keep_up()
            except Retry as error:
                log.warning("releases wait to be sent", reason=str(error))
                return sent
            except Rejected as error:
                log.error("a release cannot be sent", reason=error.reason, error=str(error))
        return mark


def is_wrong(path: Sequence[str], answer: Sequence[str]) -> bool:
    """Return whether an answer contradicts a label: the paths differ at a rank that both have."""
    depth = min(len(path), len(answer))
    return tuple(path[:depth]) != tuple(answer[:depth])


def build(settings: Settings, clock: Clock | None = None) -> Trainer:
    """Return the trainer role. It opens nothing yet."""
    return Trainer(settings, clock or SystemClock())
