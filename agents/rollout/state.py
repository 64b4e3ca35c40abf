"""Decide which release of the heads serves at a tier, and when another takes its place. `driver.py` acts on it.

::

    idle --named--> verifying --> smoke --> shadow --> canary --> promoted
                        |           |          |          |
                        +--refused--+          +----------+--> rolled-back        the serving release stays

    >>> from agents.rollout.rules import TrialFigures
    >>> state = RolloutState(serving=0)
    >>> target = Current(version=3, canary_s=20, why="9 new species", by="trainer")
    >>> state = named(state, target, now_s=0)
    >>> state = advance(state, StageResult(passed=True), now_s=1)   # signed, complete, and for this base model
    >>> state = advance(state, StageResult(passed=True), now_s=1)   # its golden inputs get the expected answers
    >>> state.stage, state.rule, state.serving
    (<RolloutStage.SHADOW: 'shadow'>, 'smoke-passed', 0)
    >>> state = advance(state, StageResult(figures=TrialFigures(events=3, errors=3)), now_s=5)
    >>> state.stage, state.rule, state.serving
    (<RolloutStage.ROLLED_BACK: 'rolled-back'>, 'fails', 0)
    >>> named(state, target, now_s=6) is state                      # the same signed target is not tried again
    True

These functions are pure: they use no clock, no file and no model. The table `rules.RULES`, which
docs/explanation/taking-effect.md prints, decides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from agents.rollout.rules import RULES, WORKING, RolloutStage, StageContext, StageResult
from models.releases.targets import Current

REFUSED_KEPT = 20
"""The newest refused releases are remembered; no signed target names an older one again."""


@dataclass(frozen=True, slots=True)
class RefusedRelease:
    """A release that was refused or rolled back. It is tried again only if a newer signed target names it."""

    version: int
    word: str
    """The `target_key` of the signed target. ``serving.json`` holds this field name."""
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The serving version, the candidate, and the reason for the stage. Version 0 is the shipped model."""

    serving: int
    previous: int | None = None
    """The version that served before. A rollback goes there."""
    refused: tuple[RefusedRelease, ...] = ()
    stage: RolloutStage = RolloutStage.IDLE
    candidate: Current | None = None
    since_s: float = 0.0
    """Monotonic time at which this stage began."""
    rule: str = ""
    reason: str = ""
    tries: int = 0
    """Number of trials of this candidate, including those that ended with the process."""

    @property
    def trying(self) -> int | None:
        """Return the candidate's version."""
        return self.candidate.version if self.candidate is not None else None

    def refusal(self, target: Current) -> RefusedRelease | None:
        """Return the refusal of this signed target, if it was tried before."""
        key = (target.version, target_key(target))
        return next((refused for refused in self.refused if (refused.version, refused.word) == key), None)


def target_key(target: Current) -> str:
    """Return a short digest that identifies a signed target."""
    return hashlib.sha256(target.encoded()).hexdigest()[:16]


def named(state: RolloutState, target: Current | None, now_s: float, tries: int = 0) -> RolloutState:
    """Return the state after a signed target. `tries` counts earlier tries during which the process ended."""
    if target is None or target == state.candidate:
        return state
    if target.version == state.serving or state.refusal(target) is not None:
        if state.candidate is None:
            return state
        return replace(
            state,
            stage=RolloutStage.IDLE,
            candidate=None,
            since_s=now_s,
            rule="withdrawn",
            reason=f"version {state.candidate.version} is no longer the signed target: {target.why}",
        )
    if target.version == state.trying:
        return replace(state, candidate=target)  # the same release with another canary
    return replace(
        state,
        stage=RolloutStage.VERIFYING,
        candidate=target,
        since_s=now_s,
        rule="named",
        reason=f"by {target.by}: {target.why}",
        tries=tries + 1,
    )


def advance(state: RolloutState, result: StageResult, now_s: float) -> RolloutState:
    """Return the state after the first rule that applies to the stage's result, or the same state if none applies."""
    if state.candidate is None or state.stage not in WORKING:
        return state
    context = StageContext(
        stage=state.stage,
        result=result,
        stage_s=now_s - state.since_s,
        canary_s=state.candidate.canary_s,
        older=state.candidate.version < state.serving,
        tries=state.tries,
    )
    rule = next((rule for rule in RULES if state.stage in rule.stages and rule.applies(context)), None)
    if rule is None:
        return state
    after = replace(state, stage=rule.then, since_s=now_s, rule=rule.name, reason=rule.reason(context))
    if rule.then is RolloutStage.PROMOTED:
        return replace(after, serving=state.candidate.version, previous=state.serving, candidate=None, tries=0)
    if rule.then in (RolloutStage.REFUSED, RolloutStage.ROLLED_BACK):
        refused = RefusedRelease(state.candidate.version, target_key(state.candidate), rule.name, after.reason)
        return replace(after, refused=(*state.refused, refused)[-REFUSED_KEPT:], candidate=None, tries=0)
    return after


def takes(state: RolloutState, source: str) -> bool:
    """Return whether the candidate answers this stream (``site/device/stream``): only in the canary, for its share.

    A hash assigns the streams of all sites, the same at each tier. So a share of the streams is also a share of the
    sites: at a site without a chosen stream, the serving release answers everything until the canary ends.

    >>> target = Current(version=3, canary_share=0.3, why="", by="")
    >>> state = RolloutState(serving=0, stage=RolloutStage.CANARY, candidate=target)
    >>> [takes(state, f"home/cam{number}/garden") for number in range(6)]
    [False, False, False, True, False, False]
    """
    if state.stage is not RolloutStage.CANARY or state.candidate is None:
        return False
    return stream_position(state.candidate.version, source) < state.candidate.canary_share


def stream_position(version: int, source: str) -> float:
    """Return a stream's position in [0, 1) for a version: each release takes other streams first."""
    digest = hashlib.sha256(f"{version}:{source}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
