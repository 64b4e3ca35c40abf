"""The rules that promote a release, roll it back, or refuse it. docs/explanation/taking-effect.md prints their table.

The first rule that applies to the candidate's stage decides. Its name and reason go to the status topic, the log and
`tierwise releases status`. Rules that roll back stand before rules that promote, so that elapsed time alone never
promotes a candidate whose figures are bad.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

SHADOW_EVENTS: Final = 50
"""The shadow stage ends after this number of events that both models answered."""
SHADOW_S: Final = 120.0
SHADOW_SHARE: Final = 0.5
"""The shadow stage lasts at most this share of the canary's time, so that a short canary has a short shadow stage."""

JUDGED_FROM: Final = 20
"""Rates are judged from this number of events on."""
JUDGED_AT_END_FROM: Final = 5
"""Least number of events to judge at the end of a stage. A quieter site promotes without judging."""

LEAST_AGREEMENT: Final[Mapping[str, float]] = MappingProxyType({"kingdom": 0.9, "family": 0.8, "species": 0.7})
"""Least share of events on which both models agree at a rank. Events with a newly learned label are not counted."""
MOST_PROBABILITY_LOST: Final = 0.15
MOST_UNKNOWN_GAINED: Final = 0.1
LATENCY_FACTOR: Final = 2.0
LATENCY_SLACK_MS: Final = 10.0
LEAST_PERSONS: Final = 0.95
"""The candidate must report at least this share of the persons that the serving model reports."""
MOST_ERRORS: Final = 2
"""Events on which the candidate alone fails."""
MOST_TRIES: Final = 5
"""A candidate during whose trial the process ended this often is not tried again."""


class RolloutStage(enum.StrEnum):
    """The stage that a candidate has reached."""

    IDLE = "idle"
    VERIFYING = "verifying"
    SMOKE = "smoke"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"


WORKING: Final = (RolloutStage.VERIFYING, RolloutStage.SMOKE, RolloutStage.SHADOW, RolloutStage.CANARY)
TRIALS: Final = (RolloutStage.SHADOW, RolloutStage.CANARY)
"""Stages in which the candidate predicts live events."""


@dataclass(frozen=True, slots=True)
class TrialFigures:
    """Counts over the events of a trial so far: `old` is the serving model, `new` the candidate."""

    events: int = 0
    """Events that both models answered."""
    errors: int = 0
    """Events on which the candidate failed and the serving model did not."""
    both: Mapping[str, int] = field(default_factory=dict)
    """Events that both models name, by rank, without those of a newly learned label."""
    alike: Mapping[str, int] = field(default_factory=dict)
    """Events among `both` on which the models agree, by rank."""
    gained: int = 0
    """Events that the candidate answers with a newly learned label."""
    unknown_old: int = 0
    unknown_new: int = 0
    probability_old: float = 0.0
    """Mean probability of the most likely label at the tier's own rank."""
    probability_new: float = 0.0
    ms_old: float = 0.0
    """Median time of a prediction."""
    ms_new: float = 0.0
    persons: int = 0
    persons_missed: int = 0
    dropped: int = 0
    """Events that only one model answered, since the other was busy: no event waits for a comparison."""

    def agreement(self, rank: str) -> float:
        """Return the share of events on which the models agree at a rank; 1 without any event."""
        both = self.both.get(rank, 0)
        return self.alike.get(rank, 0) / both if both else 1.0

    def __str__(self) -> str:
        if not self.events:
            return "no events were compared"
        ranks = ", ".join(f"{rank} {self.agreement(rank):.0%} of {n}" for rank, n in self.both.items() if n)
        return f"{self.events} events compared" + (f"; alike: {ranks}" if ranks else "")


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of a stage's work."""

    passed: bool = False
    """The verification or the smoke test passed."""
    problem: str = ""
    """The name of the reason why it did not pass; `reason` explains it."""
    reason: str = ""
    figures: TrialFigures = TrialFigures()


@dataclass(frozen=True, slots=True)
class StageContext:
    """The input of every rule."""

    stage: RolloutStage
    result: StageResult
    stage_s: float
    """Time since this stage began."""
    canary_s: float
    older: bool
    """The candidate is an older version than the serving one."""
    tries: int = 0

    @property
    def figures(self) -> TrialFigures:
        """Return the trial's figures."""
        return self.result.figures

    @property
    def limit_s(self) -> float:
        """Return how long this stage lasts at most."""
        if self.stage is RolloutStage.CANARY:
            return self.canary_s
        return min(SHADOW_S, SHADOW_SHARE * self.canary_s)

    @property
    def expired(self) -> bool:
        """Return whether this stage has lasted as long as it may."""
        return self.stage_s >= self.limit_s

    @property
    def enough(self) -> int:
        """Return the number of events from which rates are judged now."""
        return JUDGED_AT_END_FROM if self.expired else JUDGED_FROM

    @property
    def judged(self) -> bool:
        """Return whether there are enough events to judge rates."""
        return self.figures.events >= self.enough

    def disagrees(self, rank: str) -> bool:
        """Return whether the models agree on too few events at a rank."""
        return self.figures.both.get(rank, 0) >= self.enough and self.figures.agreement(rank) < LEAST_AGREEMENT[rank]


@dataclass(frozen=True, slots=True)
class RolloutRule:
    """One row of the table."""

    name: str
    stages: tuple[RolloutStage, ...]
    then: RolloutStage
    when: str
    applies: Callable[[StageContext], bool]
    reason: Callable[[StageContext], str]


def _disagree(rank: str, name: str) -> RolloutRule:
    return RolloutRule(
        name,
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"both models name the {rank}, and agree on it in less than {LEAST_AGREEMENT[rank]:.0%} of these events "
        "(events with a newly learned label are not counted)",
        lambda c: c.disagrees(rank),
        lambda c: (
            f"both models agree on the {rank} in {c.figures.agreement(rank):.0%} of {c.figures.both[rank]} events; "
            f"at least {LEAST_AGREEMENT[rank]:.0%} are required"
        ),
    )


RULES: Final[tuple[RolloutRule, ...]] = (
    RolloutRule(
        "ended-too-often",
        (RolloutStage.VERIFYING,),
        RolloutStage.REFUSED,
        f"the process ended {MOST_TRIES} times while it tried this release",
        lambda c: c.tries > MOST_TRIES,
        lambda c: (
            f"the process ended {c.tries - 1} times while it tried this release; release it again for another try"
        ),
    ),
    RolloutRule(
        "not-verified",
        (RolloutStage.VERIFYING,),
        RolloutStage.REFUSED,
        "a signature, size, digest or version differs from the signed metadata, "
        "or the release was made for another base model, space or taxonomy",
        lambda c: bool(c.result.problem),
        lambda c: f"{c.result.problem}: {c.result.reason}",
    ),
    RolloutRule(
        "verified",
        (RolloutStage.VERIFYING,),
        RolloutStage.SMOKE,
        "all files are here, match the signed metadata and fit the installed base model",
        lambda c: c.result.passed,
        lambda _: "the release is complete, signed and made for this base model",
    ),
    RolloutRule(
        "smoke-failed",
        (RolloutStage.SMOKE,),
        RolloutStage.REFUSED,
        "at least one golden input gets another answer here than where the release was made",
        lambda c: bool(c.result.problem),
        lambda c: f"{c.result.problem}: {c.result.reason}",
    ),
    RolloutRule(
        "older-is-named",
        (RolloutStage.SMOKE,),
        RolloutStage.PROMOTED,
        "the signed target is an older version than the serving one: a rollback takes effect at once",
        lambda c: c.result.passed and c.older,
        lambda _: "the signed target is an older version, which takes effect at once",
    ),
    RolloutRule(
        "at-once",
        (RolloutStage.SMOKE,),
        RolloutStage.PROMOTED,
        "the signed target requires no canary (`canary_s` 0)",
        lambda c: c.result.passed and c.canary_s == 0,
        lambda _: "no canary is required",
    ),
    RolloutRule(
        "smoke-passed",
        (RolloutStage.SMOKE,),
        RolloutStage.SHADOW,
        "all golden inputs get the expected answers: "
        "the candidate now predicts live events beside the serving model, and its predictions are only compared",
        lambda c: c.result.passed,
        lambda _: "all golden inputs get the expected answers",
    ),
    RolloutRule(
        "fails",
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"the candidate fails on {MOST_ERRORS} events that the serving model answers",
        lambda c: c.figures.errors >= MOST_ERRORS,
        lambda c: f"the candidate failed on {c.figures.errors} events that the serving model answers",
    ),
    RolloutRule(
        "misses-persons",
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"the candidate misses more than {1 - LEAST_PERSONS:.0%} of the persons that the serving model reports, "
        "and at least two",
        lambda c: c.figures.persons_missed > max(1, (1 - LEAST_PERSONS) * c.figures.persons),
        lambda c: f"the candidate missed {c.figures.persons_missed} of {c.figures.persons} persons",
    ),
    _disagree("kingdom", "kingdoms-disagree"),
    _disagree("family", "families-disagree"),
    _disagree("species", "species-disagree"),
    RolloutRule(
        "less-sure",
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"the mean probability of the candidate's most likely label is lower by more than {MOST_PROBABILITY_LOST:g}",
        lambda c: c.judged and c.figures.probability_old - c.figures.probability_new > MOST_PROBABILITY_LOST,
        lambda c: f"mean probability {c.figures.probability_new:.2f}, before {c.figures.probability_old:.2f}",
    ),
    RolloutRule(
        "more-unknown",
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"the candidate answers `unknown` more often, by more than {MOST_UNKNOWN_GAINED:.0%} of the events",
        lambda c: c.judged and c.figures.unknown_new - c.figures.unknown_old > MOST_UNKNOWN_GAINED * c.figures.events,
        lambda c: f"{c.figures.unknown_new} of {c.figures.events} events unknown, before {c.figures.unknown_old}",
    ),
    RolloutRule(
        "slower",
        TRIALS,
        RolloutStage.ROLLED_BACK,
        f"the candidate's median time is above {LATENCY_FACTOR:g} times the serving model's, "
        f"plus {LATENCY_SLACK_MS:g} ms",
        lambda c: c.judged and c.figures.ms_new > LATENCY_FACTOR * c.figures.ms_old + LATENCY_SLACK_MS,
        lambda c: f"median {c.figures.ms_new:.1f} ms, before {c.figures.ms_old:.1f} ms",
    ),
    RolloutRule(
        "seen-enough",
        (RolloutStage.SHADOW,),
        RolloutStage.CANARY,
        f"both models answered {SHADOW_EVENTS} events, and no rule above applies",
        lambda c: c.figures.events >= SHADOW_EVENTS,
        lambda c: str(c.figures),
    ),
    RolloutRule(
        "shadow-over",
        (RolloutStage.SHADOW,),
        RolloutStage.CANARY,
        f"the shadow stage lasted {SHADOW_S:g} s, or {SHADOW_SHARE:g} of `canary_s` if that is shorter",
        lambda c: c.expired,
        lambda c: str(c.figures),
    ),
    RolloutRule(
        "did-well",
        (RolloutStage.CANARY,),
        RolloutStage.PROMOTED,
        f"the canary lasted `canary_s`, both models answered {JUDGED_AT_END_FROM} events or more, "
        "and no rule above applies",
        lambda c: c.expired and c.judged,
        lambda c: str(c.figures),
    ),
    RolloutRule(
        "quiet",
        (RolloutStage.CANARY,),
        RolloutStage.PROMOTED,
        f"the canary lasted `canary_s` with fewer than {JUDGED_AT_END_FROM} events: too few to judge, "
        "and a quiet site does not wait longer",
        lambda c: c.expired,
        lambda c: f"too few events to judge: {c.figures}",
    ),
)


def table() -> str:
    """Return the rules as a Markdown table, in the order in which they are tried."""
    rows = ["| rule | stage | then | when |", "| --- | --- | --- | --- |"]
    rows += [f"| `{rule.name}` | {', '.join(rule.stages)} | {rule.then} | {rule.when} |" for rule in RULES]
    return "\n".join(rows)
