"""Which release of the heads serves at a tier, and how another one takes its place: decided here, done by `updater.py`.

::

    idle --named--> verifying --> smoke --> shadow --> canary --> promoted
                        |           |          |          |
                        +--refused--+          +----------+--> rolled-back        what served goes on serving

    >>> state = State(serving=0)
    >>> word = Current(version=3, canary_s=20, why="9 new species", by="trainer")
    >>> state = named(state, word, now_s=0)
    >>> state = advance(state, Found(done=True), now_s=1)          # signed, whole, and of this base
    >>> state = advance(state, Found(done=True), now_s=1)          # answers its golden inputs as expected
    >>> state.stage, state.rule, state.serving
    (<Stage.SHADOW: 'shadow'>, 'smoke-passed', 0)
    >>> state = advance(state, Found(figures=Figures(events=3, errors=3)), now_s=5)
    >>> state.stage, state.rule, state.serving
    (<Stage.ROLLED_BACK: 'rolled-back'>, 'fails', 0)
    >>> named(state, word, now_s=6) is state                        # not tried again by the same word
    True

Pure: no clock, no file, no eye. What decides is one table, `update_rules.RULES`, which docs/learning.md prints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from agents.rollout.rules import MOST_TRIES, RULES, WORKING, Figures, Found, Situation, Stage
from models.releases.targets import Current

__all__ = ["MOST_TRIES", "Figures", "Found", "Refused", "Stage", "State", "advance", "named", "takes"]

REFUSED_KEPT = 20
"""Of refused releases the newest are remembered; nobody names an older one again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A release that did not pass, and the signed word that had named it: only a newer word has it tried again."""

    version: int
    word: str
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """What serves, what is being tried, and why. Version 0 is the shipped model, which needs no release."""

    serving: int
    previous: int | None = None
    """What served before, kept to be gone back to."""
    refused: tuple[Refused, ...] = ()
    stage: Stage = Stage.IDLE
    candidate: Current | None = None
    since_s: float = 0.0
    """When this stage began, by a clock that is never set."""
    rule: str = ""
    reason: str = ""
    tries: int = 0
    """How often the candidate was begun with and the process ended before it was decided."""

    @property
    def trying(self) -> int | None:
        """The version that is being tried."""
        return self.candidate.version if self.candidate is not None else None

    def refusal(self, word: Current) -> Refused | None:
        """The refusal of what this word names, if it was tried by it before."""
        key = word_key(word)
        return next((its for its in self.refused if (its.version, its.word) == (word.version, key)), None)


def word_key(word: Current) -> str:
    """Names a signed word."""
    return hashlib.sha256(word.encoded()).hexdigest()[:16]


def named(state: State, word: Current | None, now_s: float, tries: int = 0) -> State:
    """The signed word says what is to serve. `tries`: how often this was begun before the process ended."""
    if word is None or word == state.candidate:
        return state
    if word.version == state.serving or state.refusal(word) is not None:
        if state.candidate is None:
            return state
        return replace(
            state,
            stage=Stage.IDLE,
            candidate=None,
            since_s=now_s,
            rule="withdrawn",
            reason=f"version {state.candidate.version} is no longer named: {word.why}",
        )
    if word.version == state.trying:
        return replace(state, candidate=word)  # the same release on other terms
    return replace(
        state,
        stage=Stage.VERIFYING,
        candidate=word,
        since_s=now_s,
        rule="named",
        reason=f"by {word.by}: {word.why}",
        tries=tries + 1,
    )


def advance(state: State, found: Found, now_s: float) -> State:
    """What was found at this stage leads to the next, by the first rule that applies; the same state where none does."""
    if state.candidate is None or state.stage not in WORKING:
        return state
    situation = Situation(
        stage=state.stage,
        found=found,
        stage_s=now_s - state.since_s,
        canary_s=state.candidate.canary_s,
        older=state.candidate.version < state.serving,
        tries=state.tries,
    )
    rule = next((rule for rule in RULES if state.stage in rule.stages and rule.applies(situation)), None)
    if rule is None:
        return state
    after = replace(state, stage=rule.then, since_s=now_s, rule=rule.name, reason=rule.reason(situation))
    if rule.then is Stage.PROMOTED:
        return replace(
            after, serving=state.candidate.version, previous=state.serving, candidate=None, tries=0
        )
    if rule.then in (Stage.REFUSED, Stage.ROLLED_BACK):
        refused = Refused(state.candidate.version, word_key(state.candidate), rule.name, after.reason)
        return replace(after, refused=(*state.refused, refused)[-REFUSED_KEPT:], candidate=None, tries=0)
    return after


def takes(state: State, source: str) -> bool:
    """Whether the candidate answers this stream (``site/device/stream``): in the canary, for its share of all streams.

    The streams of all sites are dealt by a hash, the same at each tier, so that a share of the streams is a share of the
    sites, too: one without a chosen stream answers all with what it has until the canary's time is over.

    >>> word = Current(version=3, canary_share=0.3, why="", by="")
    >>> state = State(serving=0, stage=Stage.CANARY, candidate=word)
    >>> [takes(state, f"home/cam{number}/garden") for number in range(6)]
    [False, False, False, True, False, False]
    """
    if state.stage is not Stage.CANARY or state.candidate is None:
        return False
    return place(state.candidate.version, source) < state.candidate.canary_share


def place(version: int, source: str) -> float:
    """Where a stream stands in the row from 0 to 1, for this version: each release takes other streams first."""
    dealt = hashlib.sha256(f"{version}:{source}".encode()).digest()
    return int.from_bytes(dealt[:8], "big") / 2**64
