"""The rules by which a release takes effect, goes back, or is refused: one table, printed in docs/learning.md.

The first rule of the candidate's stage that applies decides; its name and reason go to the status topic, the log and
`tierwise models status`. Rules that roll back stand before those that go on, so that nothing is promoted by its time alone
while its figures speak against it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

SHADOW_EVENTS: Final = 50
"""Events that both answered after which the shadow has seen enough."""
SHADOW_S: Final = 120.0
SHADOW_SHARE: Final = 0.5
"""The shadow takes at most this share of the canary's time: what is to be quick is quick in both."""

JUDGED_FROM: Final = 20
"""Events from which on rates are judged."""
JUDGED_AT_END_FROM: Final = 5
"""When the time is over, fewer have to do; still fewer say nothing, and a quiet site goes on with what it has."""

LEAST_AGREEMENT: Final[Mapping[str, float]] = MappingProxyType(
    {"kingdom": 0.9, "family": 0.8, "species": 0.7}
)
"""Share of the events that both name at a rank and name alike; those that now bear a label just learned are not counted."""
MOST_SURENESS_LOST: Final = 0.15
MOST_UNKNOWN_GAINED: Final = 0.1
LATENCY_FACTOR: Final = 2.0
LATENCY_SLACK_MS: Final = 10.0
LEAST_PERSONS: Final = 0.95
"""Of the persons that the old eye raises a level for, the new one must see so many."""
MOST_ERRORS: Final = 2
"""Events on which only the new eye fails."""
MOST_TRIES: Final = 5
"""A candidate that ended the process so often while it was tried is not begun with again."""


class Stage(enum.StrEnum):
    """Where a candidate stands."""

    IDLE = "idle"
    VERIFYING = "verifying"
    SMOKE = "smoke"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"


WORKING: Final = (Stage.VERIFYING, Stage.SMOKE, Stage.SHADOW, Stage.CANARY)
TRIALS: Final = (Stage.SHADOW, Stage.CANARY)
"""Stages in which the candidate sees live events."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of the candidate beside what serves, over the events of a trial so far."""

    events: int = 0
    """That both answered."""
    errors: int = 0
    """On which the new eye failed and the old one did not."""
    both: Mapping[str, int] = field(default_factory=dict)
    """By rank: events that both named there, and without a label that only the new one knows."""
    alike: Mapping[str, int] = field(default_factory=dict)
    """Of those, how many they named alike."""
    gained: int = 0
    """Events that the new eye answers with a label just learned."""
    unknown_old: int = 0
    unknown_new: int = 0
    sure_old: float = 0.0
    """Mean probability of the likeliest label at the tier's own rank."""
    sure_new: float = 0.0
    ms_old: float = 0.0
    """Median."""
    ms_new: float = 0.0
    persons: int = 0
    persons_missed: int = 0
    dropped: int = 0
    """Events that only one of them saw, since the other was busy: no event waits to be compared."""

    def agreement(self, rank: str) -> float:
        both = self.both.get(rank, 0)
        return self.alike.get(rank, 0) / both if both else 1.0

    def __str__(self) -> str:
        if not self.events:
            return "no events were compared"
        ranks = ", ".join(f"{rank} {self.agreement(rank):.0%} of {n}" for rank, n in self.both.items() if n)
        return f"{self.events} events compared" + (f"; alike: {ranks}" if ranks else "")


@dataclass(frozen=True, slots=True)
class Found:
    """What the work of a stage found."""

    done: bool = False
    """Of verifying and of the smoke test: passed."""
    trouble: str = ""
    """Why it did not, by name; `reason` says more."""
    reason: str = ""
    figures: Figures = Figures()


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a rule looks at."""

    stage: Stage
    found: Found
    stage_s: float
    """How long this stage has lasted."""
    canary_s: float
    older: bool
    """The candidate is an older version than the one that serves."""
    tries: int = 0

    @property
    def figures(self) -> Figures:
        return self.found.figures

    @property
    def limit_s(self) -> float:
        """How long this stage lasts at most."""
        return self.canary_s if self.stage is Stage.CANARY else min(SHADOW_S, SHADOW_SHARE * self.canary_s)

    @property
    def over(self) -> bool:
        return self.stage_s >= self.limit_s

    @property
    def enough(self) -> int:
        """From how many events on rates are judged now."""
        return JUDGED_AT_END_FROM if self.over else JUDGED_FROM

    @property
    def judged(self) -> bool:
        return self.figures.events >= self.enough

    def disagrees(self, rank: str) -> bool:
        return (
            self.figures.both.get(rank, 0) >= self.enough
            and self.figures.agreement(rank) < LEAST_AGREEMENT[rank]
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    name: str
    stages: tuple[Stage, ...]
    then: Stage
    when: str
    applies: Callable[[Situation], bool]
    reason: Callable[[Situation], str]


def _disagree(rank: str, name: str) -> Rule:
    return Rule(
        name,
        TRIALS,
        Stage.ROLLED_BACK,
        f"both name the {rank} and name it alike in less than {LEAST_AGREEMENT[rank]:.0%} of the events "
        "(those with a label just learned not counted)",
        lambda s: s.disagrees(rank),
        lambda s: (
            f"{rank} named alike in {s.figures.agreement(rank):.0%} of {s.figures.both[rank]} events; "
            f"at least {LEAST_AGREEMENT[rank]:.0%} are asked for"
        ),
    )


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "ended-too-often",
        (Stage.VERIFYING,),
        Stage.REFUSED,
        f"the process ended {MOST_TRIES} times while this release was tried",
        lambda s: s.tries > MOST_TRIES,
        lambda s: (
            f"the process ended {s.tries - 1} times while it was tried; release it anew to have it tried again"
        ),
    ),
    Rule(
        "not-verified",
        (Stage.VERIFYING,),
        Stage.REFUSED,
        "signature, size, digest or version are not what was signed, or it was made for another base model, space or tree",
        lambda s: bool(s.found.trouble),
        lambda s: f"{s.found.trouble}: {s.found.reason}",
    ),
    Rule(
        "verified",
        (Stage.VERIFYING,),
        Stage.SMOKE,
        "all of it is here, as signed, and fits what is installed",
        lambda s: s.found.done,
        lambda _: "signed, whole, and of this base model",
    ),
    Rule(
        "smoke-failed",
        (Stage.SMOKE,),
        Stage.REFUSED,
        "one of its golden inputs is answered otherwise than where it was made",
        lambda s: bool(s.found.trouble),
        lambda s: f"{s.found.trouble}: {s.found.reason}",
    ),
    Rule(
        "older-is-named",
        (Stage.SMOKE,),
        Stage.PROMOTED,
        "the signed word names an older version than the one that serves: it takes effect at once",
        lambda s: s.found.done and s.older,
        lambda _: "an older version is named: back at once",
    ),
    Rule(
        "at-once",
        (Stage.SMOKE,),
        Stage.PROMOTED,
        "the signed word asks for no canary (`canary_s` 0)",
        lambda s: s.found.done and s.canary_s == 0,
        lambda _: "no canary is asked for",
    ),
    Rule(
        "smoke-passed",
        (Stage.SMOKE,),
        Stage.SHADOW,
        "all golden inputs are answered as expected: it answers beside what serves, and is not heard",
        lambda s: s.found.done,
        lambda _: "golden inputs are answered as expected",
    ),
    Rule(
        "fails",
        TRIALS,
        Stage.ROLLED_BACK,
        f"it fails on {MOST_ERRORS} events on which the old one does not (which answered them)",
        lambda s: s.figures.errors >= MOST_ERRORS,
        lambda s: (
            f"it failed on {s.figures.errors} events that the old one answers {s.found.reason}".rstrip()
        ),
    ),
    Rule(
        "misses-persons",
        TRIALS,
        Stage.ROLLED_BACK,
        f"it overlooks more than {1 - LEAST_PERSONS:.0%} of the persons that the old one raises a level for, and at least two",
        lambda s: s.figures.persons_missed > max(1, (1 - LEAST_PERSONS) * s.figures.persons),
        lambda s: f"it overlooked {s.figures.persons_missed} of {s.figures.persons} persons",
    ),
    _disagree("kingdom", "kingdoms-disagree"),
    _disagree("family", "families-disagree"),
    _disagree("species", "species-disagree"),
    Rule(
        "less-sure",
        TRIALS,
        Stage.ROLLED_BACK,
        f"the mean probability of its likeliest label is lower by more than {MOST_SURENESS_LOST:g}",
        lambda s: s.judged and s.figures.sure_old - s.figures.sure_new > MOST_SURENESS_LOST,
        lambda s: f"mean probability {s.figures.sure_new:.2f}, before {s.figures.sure_old:.2f}",
    ),
    Rule(
        "more-unknown",
        TRIALS,
        Stage.ROLLED_BACK,
        f"the share of `unknown` is higher by more than {MOST_UNKNOWN_GAINED:.0%} of the events",
        lambda s: (
            s.judged
            and s.figures.unknown_new - s.figures.unknown_old > MOST_UNKNOWN_GAINED * s.figures.events
        ),
        lambda s: (
            f"{s.figures.unknown_new} of {s.figures.events} events unknown, before {s.figures.unknown_old}"
        ),
    ),
    Rule(
        "slower",
        TRIALS,
        Stage.ROLLED_BACK,
        f"its median time is above {LATENCY_FACTOR:g} times the old one's and {LATENCY_SLACK_MS:g} ms",
        lambda s: s.judged and s.figures.ms_new > LATENCY_FACTOR * s.figures.ms_old + LATENCY_SLACK_MS,
        lambda s: f"median {s.figures.ms_new:.1f} ms, before {s.figures.ms_old:.1f} ms",
    ),
    Rule(
        "seen-enough",
        (Stage.SHADOW,),
        Stage.CANARY,
        f"{SHADOW_EVENTS} events were answered by both, and no rule above speaks against it",
        lambda s: s.figures.events >= SHADOW_EVENTS,
        lambda s: str(s.figures),
    ),
    Rule(
        "shadow-over",
        (Stage.SHADOW,),
        Stage.CANARY,
        f"the shadow's time is over: {SHADOW_S:g} s, or {SHADOW_SHARE:g} of `canary_s` if that is less",
        lambda s: s.over,
        lambda s: str(s.figures),
    ),
    Rule(
        "did-well",
        (Stage.CANARY,),
        Stage.PROMOTED,
        f"`canary_s` is over with {JUDGED_AT_END_FROM} events or more, and no rule above speaks against it",
        lambda s: s.over and s.judged,
        lambda s: str(s.figures),
    ),
    Rule(
        "quiet",
        (Stage.CANARY,),
        Stage.PROMOTED,
        f"`canary_s` is over with fewer than {JUDGED_AT_END_FROM} events: a quiet site goes on with what it has",
        lambda s: s.over,
        lambda s: f"a quiet time: {s.figures}",
    ),
)


def table() -> str:
    """The rules as a Markdown table, in the order in which they are tried."""
    rows = ["| rule | stage | then | when |", "| --- | --- | --- | --- |"]
    rows += [f"| `{its.name}` | {', '.join(its.stages)} | {its.then} | {its.when} |" for its in RULES]
    return "\n".join(rows)
