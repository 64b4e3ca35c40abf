"""One training: a snapshot of the fold in, a signed release or a refusal with its report out.

::

    fold.snapshot() ──> models.training.retrain ──> release? ──> Repository.release (signed, on disk) ──> report
                                    └────> refusal ──────────────────────────────────────────────┘

The report comes last: a trainer that is killed anywhere before it trains again, and what serves goes on serving.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from agents.role.dead_letters import INTERNAL_ERROR
from agents.role.telemetry import version
from agents.trainer.reports import Kept, Reports
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
class Workshop:
    """What a training works with."""

    base: HeadBase
    golden: GoldenSet
    repository: Repository
    reports: Reports
    settings: TrainerSettings
    clock: Clock

    def train(self, snapshot: Snapshot, trigger: Trigger, wish: str = "") -> Kept:
        """Train, release or refuse, and keep the report."""
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
        except (
            Exception
        ) as error:  # else the role would end, start again, and meet the same events first thing
            log.exception("a training met a bug of ours")
            why = (f"{INTERNAL_ERROR}: {type(error).__name__}, see the log",)
        kept = Kept(
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
            wish=wish,
            training=outcome.report if outcome else None,
        )
        self.reports.keep(kept)
        return kept

    def serving(self) -> HeadRelease | None:
        """What is to serve now; None: the shipped model, also where a release is of another one."""
        current = self.repository.current
        if current is None or current.version == SHIPPED:
            return None
        try:
            release = HeadRelease.of(self.repository.files(current.version))
            release.check_base(self.base.manifest)
        except Rejected as error:
            log.warning(
                "what serves is compared as the shipped model", release=current.title, reason=str(error)
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
            current = before or Current(version=SHIPPED, why="releases wait for a person", by=BY)
        self.repository.release(release.version, release.files(), current)


def held_of(snapshot: Snapshot) -> Held:
    """The judges, as the training asks for them."""
    events = (HeldEvent(one.event, one.source.partition("/")[0], one.label) for one in snapshot.judges)
    return Held(tuple(events), snapshot.vectors)


def about_of(snapshot: Snapshot, trigger: Trigger, now_s: float) -> About:
    """What the lineage says."""
    return About(
        trigger=f"{trigger.rule}: {trigger.reason}",
        made=clocks.rfc3339(now_s),
        code=version(),
        offsets={f"{its.source}/{its.partition}": f"{its.first}-{its.next - 1}" for its in snapshot.ranges},
        first_last={share.site: (share.first_event, share.last_event) for share in snapshot.shares},
    )


def limits_of(settings: TrainerSettings) -> Limits:
    return Limits(
        rank=settings.rank_margin,
        large_class=settings.class_margin,
        person=settings.person_margin,
        held_out=settings.held_out_margin,
    )
