"""Sightings: the frames of one stream that show the same animal, and the answer that they agree on.

The device gives the frames of one visit the same sighting id, that of its first event. The edge publishes the
consensus over them. A visit of more than `LONGEST_S` becomes several sightings. Both functions are pure::

    >>> first = join(None, event="a", time_s=0.0, label="animal", gap_s=30.0)
    >>> second = join(first, event="b", time_s=4.0, label="animal", gap_s=30.0)
    >>> second.id
    'a'
    >>> join(second, event="c", time_s=60.0, label="animal", gap_s=30.0).id
    'c'
    >>> felidae = AnswerTally(("animal", "Felidae"), frames=2, weight=18_000)
    >>> consensus([felidae, AnswerTally(("animal",), frames=1, weight=6_000)])
    Consensus(path=('animal', 'Felidae'), probability=0.8, frames=3, agree=3)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.messages import UNKNOWN

LONGEST_S: Final = 600.0
"""Cows on their pasture never leave, and a sighting that never ends would never be counted. Ten minutes also bound the
memory of a sighting."""

WEIGHT_ONE: Final = 10_000
"""Weight of a frame that is certain. Probabilities have four decimal places, and whole numbers add up exactly, in any
order."""

LABEL_WEIGHT: Final = 100_000 * WEIGHT_ONE
"""Weight of a frame that a person labelled: more than all other frames of a sighting together, since the longest
sighting at a hundred frames a second has fewer."""


class Visit(msgspec.Struct, frozen=True):
    """The device's memory of a stream's running sighting."""

    id: str
    label: str
    """Kingdom of its frames."""
    last_s: float
    first_s: float = math.inf
    """Time of its first frame; infinite before there is one."""


def join(visit: Visit | None, *, event: str, time_s: float, label: str, gap_s: float) -> Visit:
    """Return the sighting that this frame belongs to: the running one, or a new one.

    A new sighting begins after a pause of `gap_s` seconds, after `LONGEST_S`, or with another kingdom. A frame whose
    kingdom is unknown joins the running one.
    """
    if visit is None or not _goes_on(visit, time_s, gap_s) or not _alike(visit.label, label):
        return Visit(id=event, label=label, last_s=time_s, first_s=time_s)
    known = label if visit.label == UNKNOWN else visit.label
    return Visit(visit.id, known, max(visit.last_s, time_s), min(visit.first_s, time_s))


def _goes_on(visit: Visit, time_s: float, gap_s: float) -> bool:
    return abs(time_s - visit.last_s) <= gap_s and time_s - visit.first_s <= LONGEST_S


def _alike(label: str, other: str) -> bool:
    return label == other or UNKNOWN in (label, other)


@dataclass(frozen=True, slots=True)
class AnswerTally:
    """The number of frames that have this as their deepest answer so far."""

    path: tuple[str, ...]
    """Empty where they are not answered."""
    frames: int
    weight: int
    """Sum of their probabilities, in parts of `WEIGHT_ONE`."""


def weight(probability: float) -> int:
    """Return the weight of one frame's answer.

    >>> weight(0.9349)
    9349
    """
    return round(probability * WEIGHT_ONE)


@dataclass(frozen=True, slots=True)
class Consensus:
    """The answer that a sighting's frames agree on."""

    path: tuple[str, ...]
    probability: float
    """Mean over the frames that agree; 1 where a person labelled one of them."""
    frames: int
    agree: int


def consensus(tallies: Sequence[AnswerTally]) -> Consensus:
    """Walk down the label tree, at each rank to the child with the greatest weight.

    A child is taken while it holds more than half of the weight of the frames that answered at that rank, so that
    two species that tie are answered as their family. Frames that answered less deeply neither support nor oppose.
    The order of the tallies does not matter. An empty path means that no frame was answered.
    """
    path: tuple[str, ...] = ()
    while True:
        shares: dict[str, int] = defaultdict(int)
        for tally in tallies:
            if len(tally.path) > len(path) and tally.path[: len(path)] == path:
                shares[tally.path[len(path)]] += tally.weight
        if not shares:
            break
        best = min(shares, key=lambda label: (-shares[label], label))
        if shares[best] * 2 <= sum(shares.values()):
            break
        path = (*path, best)
    agreeing = [tally for tally in tallies if path and _on_path(tally.path, path)]
    agree = sum(tally.frames for tally in agreeing)
    probability = sum(tally.weight for tally in agreeing) / (WEIGHT_ONE * agree) if agree else 0.0
    probability = min(probability, 1.0)
    return Consensus(path, probability, sum(tally.frames for tally in tallies), agree)


def _on_path(answer: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Return whether an answer is a start of the path or continues it."""
    shorter = min(len(answer), len(path))
    return shorter > 0 and answer[:shorter] == path[:shorter]
