"""Run one training: read a snapshot of the fold, sign a release or refuse it, and write the training record.

::

    fold.snapshot() ──> models.training.retrain ──> release? ──> Repository.release (signed, on disk) ──> record
                                    └────> refusal ──────────────────────────────────────────────┘

The record is written last: a trainer that is killed earlier trains again, and the serving release stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from agents.role.dead_letters import INTERNAL_ERROR
from agents.role.telemetry import version
from agents.trainer.reports import Reports, TrainingRecord
from agents.trainer.triggers import Trigger
from models.heads.base import HeadBase
from models.heads.golden_set import GoldenSet
from models.heads.release import HeadRelease
from models.labels.rank_under import species_of
from models.releases.repository import Repository
from models.releases.targets import Current
from models.training.candidate import About, Held, HeldEvent
from models.training.report import Limits
from models.training.retrain import retrain
from pipeline import clock as clocks
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.settings.settings import TrainerSettings
from pipeline.sums.fold_records import Snapshot

log = structlog.get_logger("trainer")

BY = "trainer"
SHIPPED = 0
"""`Current.version` of the shipped model."""


@dataclass(frozen=True, slots=True)
class TrainingPipeline:
    """The inputs of every training, and the training itself."""

    base: HeadBase
    golden: GoldenSet
    repository: Repository
    reports: Reports
    settings: TrainerSettings
    clock: Clock

    def train(self, snapshot: Snapshot, trigger: Trigger, request_id: str = "") -> TrainingRecord:
        """Train, sign a release or refuse it, and write the record, which answers the request of this id."""
        started_s = self.clock.monotonic()
        number = max([self.base.manifest.version, *self.repository.versions]) + 1
        title = f"{self.base.manifest.name}@{number}"
        outcome = None
        why: tuple[str, ...] = ()
        try:
            outcome = retrain(
                self.base,
                self.golden,
                snapshot.sites,
                held_of(snapshot),
                self.serving(),
                rows=species_of(snapshot.new_labels),
                version=number,
                about=about_of(snapshot, trigger, self.clock.now()),
                limits=limits_of(self.settings),
            )
            why = outcome.report.refused
            if outcome.release is not None:
                self._release(outcome.release, trigger)
        except Rejected as error:
            why = (f"{error.reason}: {error}",)
        except (Retry, Stop, MemoryError):
            raise
        except Exception as error:  # otherwise the role would end, start again, and fail on the same events
            log.exception("a training failed by an internal error")
            why = (f"{INTERNAL_ERROR}: {type(error).__name__}, see the log",)
        record = TrainingRecord(
            number=self.reports.next_number,
            time=clocks.rfc3339(self.clock.now()),
            rule=trigger.rule,
            reason=trigger.reason,
            outcome="failed" if outcome is None else "refused" if why else "released",
            title=title,
            why=why,
            seconds=round(self.clock.monotonic() - started_s, 2),
            changes=snapshot.changes,
            events=dict(snapshot.events),
            digest=snapshot.digest,
            wish=request_id,
            training=outcome.report if outcome else None,
        )
        self.reports.add(record)
        return record

    def serving(self) -> HeadRelease | None:
        """Return the release that serves now; None for the shipped model, or if it is of another base model."""
        current = self.repository.current
        if current is None or current.version == SHIPPED:
            return None
        try:
            release = HeadRelease.of(self.repository.files(current.version))
            release.check_base(self.base.manifest)
        except Rejected as error:
            log.warning(
                "the serving release cannot be read; the new one is compared with the shipped model",
                release=current.title,
                reason=str(error),
            )
            return None
        return release

    def _release(self, release: HeadRelease, trigger: Trigger) -> None:
        before = self.repository.current
        current = Current(
            version=release.version,
            canary_share=self.settings.canary_share,
            canary_s=self.settings.canary_s,
            why=f"{trigger.rule}: {trigger.reason}",
            by=BY,
        )
        if self.settings.hold:
            current = before or Current(version=SHIPPED, why="releases wait for approval by a person", by=BY)
        self.repository.release(release.version, release.files(), current)


def held_of(snapshot: Snapshot) -> Held:
    """Return the held-out events in the form that the training takes."""
    events = (HeldEvent(judge.event, judge.source.partition("/")[0], judge.label) for judge in snapshot.judges)
    return Held(tuple(events), snapshot.vectors)


def about_of(snapshot: Snapshot, trigger: Trigger, now_s: float) -> About:
    """Return the origin of a release: its trigger, time, code, offsets in Kafka, and first and last events."""
    return About(
        trigger=f"{trigger.rule}: {trigger.reason}",
        made=clocks.rfc3339(now_s),
        code=version(),
        offsets={f"{span.source}/{span.partition}": f"{span.first}-{span.next - 1}" for span in snapshot.ranges},
        first_last={share.site: (share.first_event, share.last_event) for share in snapshot.shares},
    )


def limits_of(settings: TrainerSettings) -> Limits:
    """Return the limits of the settings, which a release must keep."""
    return Limits(
        rank=settings.rank_margin,
        large_class=settings.class_margin,
        person=settings.person_margin,
        held_out=settings.held_out_margin,
    )
