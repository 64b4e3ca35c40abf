"""Sightings: the frames of one stream that show the same thing, and what they agree on.

The device gives frames of one visit the same sighting id (that of its first event); the edge publishes the
consensus over them. Both are pure::

    >>> one = join(None, event="a", time_s=0.0, label="animal", gap_s=30.0)
    >>> two = join(one, event="b", time_s=4.0, label="animal", gap_s=30.0)
    >>> two.id
    'a'
    >>> join(two, event="c", time_s=60.0, label="animal", gap_s=30.0).id
    'c'
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pipeline.messages import UNKNOWN


class Visit(msgspec.Struct, frozen=True):
    """What the device remembers of a stream's running sighting."""

    id: str
    label: str
    """Kingdom of its frames."""
    last_s: float


def join(visit: Visit | None, *, event: str, time_s: float, label: str, gap_s: float) -> Visit:
    """The sighting that this frame belongs to: the running one, unless it paused for longer than `gap_s` seconds or
    shows another kingdom. A frame whose kingdom is unknown joins whatever is running."""
    if visit is None or abs(time_s - visit.last_s) > gap_s or not _alike(visit.label, label):
        return Visit(id=event, label=label, last_s=time_s)
    known = label if visit.label == UNKNOWN else visit.label
    return Visit(id=visit.id, label=known, last_s=max(visit.last_s, time_s))


def _alike(one: str, other: str) -> bool:
    return one == other or UNKNOWN in (one, other)


@dataclass(frozen=True, slots=True)
class Vote:
    """The deepest answer about one frame so far."""

    path: tuple[str, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Consensus:
    """What a sighting's frames agree on."""

    path: tuple[str, ...]
    probability: float
    """Mean over the frames that agree."""
    frames: int
    agree: int


def consensus(votes: Mapping[str, Vote] | Sequence[Vote]) -> Consensus:
    """Walk down the label tree, at each rank to the child with the greatest summed probability.

    A child is taken while it holds more than half of the weight of the frames that answered at that rank, so that
    two species that tie are told as their family. Frames that answered less deeply neither support nor oppose.
    The order of the votes does not matter. An empty path means that no frame was answered.
    """
    ballots = list(votes.values()) if isinstance(votes, Mapping) else list(votes)
    path: tuple[str, ...] = ()
    while True:
        shares: dict[str, list[float]] = defaultdict(list)
        for vote in ballots:
            if len(vote.path) > len(path) and vote.path[: len(path)] == path:
                shares[vote.path[len(path)]].append(vote.probability)
        if not shares:
            break
        # Exact sums, so that the order of the votes does not matter.
        weights = {label: math.fsum(held) for label, held in shares.items()}
        best = min(weights, key=lambda label: (-weights[label], label))
        if weights[best] * 2 <= math.fsum(weights.values()):
            break
        path = (*path, best)
    agreeing = [vote for vote in ballots if path and _on_path(vote.path, path)]
    probability = math.fsum(vote.probability for vote in agreeing) / len(agreeing) if agreeing else 0.0
    return Consensus(path, probability, len(ballots), len(agreeing))


def _on_path(answer: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether an answer says no other than the path: it is a start of it, or goes on from it."""
    shorter = min(len(answer), len(path))
    return shorter > 0 and answer[:shorter] == path[:shorter]
