"""Decide when to train, from the fold's content and the last training. These functions are pure.

::

    >>> fold = FoldState(changes=31, events={"Felis catus": 25}, now_s=90_000.0)
    >>> last = LastTraining(changes=0, events={}, time_s=80_000.0)
    >>> due(fold, last, TriggerSettings(labels=30, every_h=0), known={"Felis catus"})
    Trigger(rule='new-labels', reason='31 labels since the last training; the settings train from 30 on')

The first rule of `RULES` that holds is the trigger. Labels arrive in bursts, so a training waits until no label arrived
for `QUIET_S`, but for `HOLD_BACK_S` at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

QUIET_S: Final = 2.0
HOLD_BACK_S: Final = 20.0
CLASS_EVENTS: Final = 20
"""With this number of events, a new class triggers a training of its own."""
DRIFT_EVENTS: Final = 10
DRIFT_SHARE: Final = 0.5
"""Wrong answers trigger a training if there are this many, and if they are this share of the newly labelled events."""
HOUR_S: Final = 3600.0


class Trigger(NamedTuple):
    """The rule that starts a training, and its reason."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoldState:
    """The state of the fold now."""

    changes: int
    events: Mapping[str, int]
    """Events by label."""
    now_s: float
    requested: str = ""
    """The reason of a person's request for a training; empty without a request."""
    labelled: int = 0
    """Events labelled since the last training."""
    wrong: int = 0
    """The labelled events whose answer had contradicted the label."""


@dataclass(frozen=True, slots=True)
class LastTraining:
    """The state of the fold at the last training; empty before the first."""

    changes: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    time_s: float = 0.0


class TriggerSettings(NamedTuple):
    """The trainer's settings `labels` and `every_h`."""

    labels: int
    every_h: float


class _Inputs(NamedTuple):
    fold: FoldState
    last: LastTraining
    settings: TriggerSettings
    known: Collection[str]

    @property
    def new_labels(self) -> int:
        return self.fold.changes - self.last.changes


def _by_hand(inputs: _Inputs) -> str:
    return inputs.fold.requested


def _new_class(inputs: _Inputs) -> str:
    grown = sorted(
        label
        for label, count in inputs.fold.events.items()
        if label not in inputs.known and count >= CLASS_EVENTS > inputs.last.events.get(label, 0)
    )
    return f"new class with at least {CLASS_EVENTS} events: {', '.join(grown)}" if grown else ""


def _drift(inputs: _Inputs) -> str:
    wrong, labelled = inputs.fold.wrong, inputs.fold.labelled
    if wrong < max(DRIFT_EVENTS, DRIFT_SHARE * labelled):
        return ""
    return f"{wrong} of {labelled} events labelled since the last training had a wrong answer"


def _new_labels(inputs: _Inputs) -> str:
    count, limit = inputs.new_labels, inputs.settings.labels
    return f"{count} labels since the last training; the settings train from {limit} on" if count >= limit else ""


def _schedule(inputs: _Inputs) -> str:
    fold, every_h = inputs.fold, inputs.settings.every_h
    if (
        not every_h
        or not inputs.new_labels
        or sum(fold.events.values()) < CLASS_EVENTS  # sums of fewer events would reveal single vectors
        or 0 <= fold.now_s - inputs.last.time_s < every_h * HOUR_S  # negative if the clock was set back
    ):
        return ""
    return f"{inputs.new_labels} labels, and {every_h:g} hours since the last training"


RULES: Final[tuple[tuple[str, Callable[[_Inputs], str]], ...]] = (
    ("by-hand", _by_hand),
    ("new-class", _new_class),
    ("drift", _drift),
    ("new-labels", _new_labels),
    ("schedule", _schedule),
)


def due(fold: FoldState, last: LastTraining, settings: TriggerSettings, known: Collection[str]) -> Trigger | None:
    """Return the trigger of a training, or None. `known` holds the labels of the shipped model."""
    for rule, reason_of in RULES:
        if reason := reason_of(_Inputs(fold, last, settings, known)):
            return Trigger(rule, reason)
    return None


def is_ripe(trigger: Trigger, triggered_s: float, changed_s: float, now_s: float) -> bool:
    """Return whether to begin: at once for a request, otherwise after a quiet moment. All times are monotonic."""
    return trigger.rule == "by-hand" or now_s - changed_s >= QUIET_S or now_s - triggered_s >= HOLD_BACK_S
