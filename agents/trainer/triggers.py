"""When the trainer trains: pure decisions from what the fold holds and what the last training saw.

::

    >>> seen = Seen(changes=31, events={"Felis catus": 25}, now_s=90_000.0)
    >>> due(seen, Last(changes=0, events={}, time_s=80_000.0), Wishes(labels=30, every_h=0), known={"Felis catus"})
    Trigger(rule='new-labels', reason='31 labels since the last training; 30 are asked for')

The first rule that holds is told, in the order of `RULES`. Labels come in bursts, so what was triggered waits until they have
been quiet for `QUIET_S`, or for `HOLD_BACK_S` at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

QUIET_S: Final = 2.0
HOLD_BACK_S: Final = 20.0
CLASS_EVENTS: Final = 20
"""From so many on a new class is worth a release of its own, at once."""
DRIFT_EVENTS: Final = 10
DRIFT_SHARE: Final = 0.5
"""Of the events labelled since the last training, so many, and such a share of them, were answered wrong."""
HOUR_S: Final = 3600.0


class Trigger(NamedTuple):
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now. `changes` and `events` are the fold's; `wrong` of `judged` events since the last training were
    labelled otherwise than they had been answered.
    """

    changes: int
    events: Mapping[str, int]
    now_s: float
    asked: str = ""
    """Why somebody asks for a training; empty: nobody does."""
    judged: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Last:
    """What the last training saw; before the first, nothing."""

    changes: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    time_s: float = 0.0


class Wishes(NamedTuple):
    """Of the settings."""

    labels: int
    every_h: float


def _by_hand(seen: Seen, _last: Last, _wishes: Wishes, _known: Collection[str]) -> str:
    return seen.asked


def _new_class(seen: Seen, last: Last, _wishes: Wishes, known: Collection[str]) -> str:
    grown = sorted(
        label
        for label, count in seen.events.items()
        if label not in known and count >= CLASS_EVENTS > last.events.get(label, 0)
    )
    return f"{', '.join(grown)}: new, and {CLASS_EVENTS} events show it" if grown else ""


def _drift(seen: Seen, _last: Last, _wishes: Wishes, _known: Collection[str]) -> str:
    if seen.wrong >= DRIFT_EVENTS and seen.wrong >= DRIFT_SHARE * seen.judged:
        return f"{seen.wrong} of {seen.judged} events labelled since the last training had been answered otherwise"
    return ""


def _new_labels(seen: Seen, last: Last, wishes: Wishes, _known: Collection[str]) -> str:
    count = seen.changes - last.changes
    return (
        f"{count} labels since the last training; {wishes.labels} are asked for"
        if count >= wishes.labels
        else ""
    )


def _schedule(seen: Seen, last: Last, wishes: Wishes, _known: Collection[str]) -> str:
    if (
        not wishes.every_h
        or seen.changes == last.changes
        or sum(seen.events.values()) < CLASS_EVENTS  # sums of fewer are hardly more than their vectors
        or seen.now_s - last.time_s < wishes.every_h * HOUR_S
    ):
        return ""
    return f"{seen.changes - last.changes} labels, and {wishes.every_h:g} hours since the last training"


RULES: Final[tuple[tuple[str, Callable[[Seen, Last, Wishes, Collection[str]], str]], ...]] = (
    ("by-hand", _by_hand),
    ("new-class", _new_class),
    ("drift", _drift),
    ("new-labels", _new_labels),
    ("schedule", _schedule),
)


def due(seen: Seen, last: Last, wishes: Wishes, known: Collection[str]) -> Trigger | None:
    """Why to train now, or None. `known` are the labels that the shipped model answers."""
    for rule, holds in RULES:
        if reason := holds(seen, last, wishes, known):
            return Trigger(rule, reason)
    return None


def is_ripe(trigger: Trigger, triggered_s: float, changed_s: float, now_s: float) -> bool:
    """Whether to begin: at once if somebody asked, else when no label came for a moment. Monotonic times."""
    return trigger.rule == "by-hand" or now_s - changed_s >= QUIET_S or now_s - triggered_s >= HOLD_BACK_S
