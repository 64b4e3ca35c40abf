"""Decide when to train, from the fold's content and the last training. These functions are pure.

::

    >>> fold = FoldState(changes=31, events={"Felis catus": 25}, now_s=90_000.0)
    >>> last = LastTraining(changes=0, events={}, time_s=80_000.0)
    >>> due(fold, last, TriggerSettings(labels=30, every_h=0), known={"Felis catus"})
    Trigger(rule='new-labels', reason='31 labels since the last training, which is at least the 30 of the settings')

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


def _by_hand(
    fold: FoldState, _last: LastTraining, _settings: TriggerSettings, _known: Collection[str]
) -> str:
    return fold.requested


def _new_class(
    fold: FoldState, last: LastTraining, _settings: TriggerSettings, known: Collection[str]
) -> str:
    grown = sorted(
        label
        for label, count in fold.events.items()
        if label not in known and count >= CLASS_EVENTS > last.events.get(label, 0)
    )
    return f"new class with at least {CLASS_EVENTS} events: {', '.join(grown)}" if grown else ""


def _drift(fold: FoldState, _last: LastTraining, _settings: TriggerSettings, _known: Collection[str]) -> str:
    if fold.wrong >= DRIFT_EVENTS and fold.wrong >= DRIFT_SHARE * fold.labelled:
        return f"{fold.wrong} of {fold.labelled} events labelled since the last training had a wrong answer"
    return ""


def _new_labels(
    fold: FoldState, last: LastTraining, settings: TriggerSettings, _known: Collection[str]
) -> str:
    count = fold.changes - last.changes
    if count < settings.labels:
        return ""
    return f"{count} labels since the last training, which is at least the {settings.labels} of the settings"


def _schedule(fold: FoldState, last: LastTraining, settings: TriggerSettings, _known: Collection[str]) -> str:
    if (
        not settings.every_h
        or fold.changes == last.changes
        or sum(fold.events.values()) < CLASS_EVENTS  # sums of fewer events would reveal single vectors
        or fold.now_s - last.time_s < settings.every_h * HOUR_S
    ):
        return ""
    return f"{fold.changes - last.changes} labels, and {settings.every_h:g} hours since the last training"


RULES: Final[
    tuple[tuple[str, Callable[[FoldState, LastTraining, TriggerSettings, Collection[str]], str]], ...]
] = (
    ("by-hand", _by_hand),
    ("new-class", _new_class),
    ("drift", _drift),
    ("new-labels", _new_labels),
    ("schedule", _schedule),
)


def due(
    fold: FoldState, last: LastTraining, settings: TriggerSettings, known: Collection[str]
) -> Trigger | None:
    """Return the trigger of a training, or None. `known` holds the labels of the shipped model."""
    for rule, reason_of in RULES:
        if reason := reason_of(fold, last, settings, known):
            return Trigger(rule, reason)
    return None


def is_ripe(trigger: Trigger, triggered_s: float, changed_s: float, now_s: float) -> bool:
    """Return whether to begin: at once for a request, otherwise after a quiet moment. All times are monotonic."""
    return trigger.rule == "by-hand" or now_s - changed_s >= QUIET_S or now_s - triggered_s >= HOLD_BACK_S
