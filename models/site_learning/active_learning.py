"""Which labels to ask for: what the models doubt and what is like nothing that was labelled, within a daily budget. Pure.

::

    a sighting's most doubtful vector --+-- doubt: 1 - margin of the calibrated probabilities --+
                                        +-- novelty: distance to the nearest one known ---------+-- x --> score --decide--> ask?

    pace, asks = decide(pace, score(doubt, novelty(vector, known)), at=Moment(day, 0.4), budget=10)

A person answers few questions a day, and nobody knows at noon what the evening will bring. So a sighting is asked about when its score
is among the best of the last ones, as many of them as the rest of the day's budget has room for; and never ahead of the clock by more
than one question. What is not spent by noon lowers the bar in the afternoon.

Sources: uncertainty by margin, Scheffer et al. 2001; farthest-first traversal, Gonzalez 1985, for learning Sener & Savarese 2018
(arXiv:1708.00489); their product is BADGE's idea (Ash et al. 2020, arXiv:1906.03671) of long gradients that point in different
directions; as a stream with an adapting rate, Saran et al. 2023 (VeSSAL, arXiv:2303.02535).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.linear import ZERO_LEVEL

REMEMBERED: Final = 100
"""Scores that the bar is set by."""

FIRST_A_DAY: Final = 30.0
"""Sightings a day that are expected of a site of which nothing is known yet."""

A_DAY_WEIGHT: Final = 0.3
"""Of yesterday, in the sightings that are expected of a day."""

DRIFTING: Final = 2.0
"""How much more a sighting counts on a stream that drifts."""

LEAST_SCORE: Final = 0.02
"""Below it a label would teach nothing, whatever is left of the budget."""


class Moment(NamedTuple):
    """A day's number, and how much of it is over (0 to 1), by the site's own clock."""

    day: int
    share: float


class Pace(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered between sightings."""

    day: int = -1
    came: int = 0
    asked: int = 0
    a_day: float = FIRST_A_DAY
    scores: tuple[float, ...] = ()


def novelty(vector: NDArray[np.uint8], known: NDArray[np.uint8]) -> float:
    """Cosine distance of a vector (d,) to the nearest one that was labelled or asked about (n, d), 0 to 1; 1 where there is none."""
    if not len(known):
        return 1.0
    its = vector.astype(np.float32) - ZERO_LEVEL
    others = known.astype(np.float32) - ZERO_LEVEL
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(its)
    nearest = float((others @ its / np.maximum(norms, 1e-6)).max())
    return min(1.0, max(0.0, 1.0 - nearest))


def score(doubt: float, new: float, *, drifting: bool = False) -> float:
    """What a label would teach, 0 to 1 (to 2 on a stream that drifts)."""
    return doubt * new * (DRIFTING if drifting else 1.0)


def decide(pace: Pace, its: float, *, at: Moment, budget: int) -> tuple[Pace, bool]:
    """Whether to ask about a sighting of this score now; `budget` is a day's."""
    pace = _today(pace, at.day)
    came = pace.came + 1
    bar = _bar(pace, at, budget)
    asks = its >= bar and pace.asked < min(budget, 1 + budget * at.share)
    scores = (*pace.scores, its)[-REMEMBERED:]
    return msgspec.structs.replace(pace, came=came, asked=pace.asked + asks, scores=scores), asks


def left(pace: Pace, *, at: Moment, budget: int) -> int:
    """How many questions a day's budget still has."""
    return max(0, budget - _today(pace, at.day).asked)


def _today(pace: Pace, day: int) -> Pace:
    """On a new day the budget is whole again, and what came yesterday tells what to expect."""
    if day == pace.day:
        return pace
    known = pace.a_day
    if pace.day >= 0:
        known += A_DAY_WEIGHT * (pace.came - known)
    return msgspec.structs.replace(pace, day=day, came=0, asked=0, a_day=known)


def _bar(pace: Pace, at: Moment, budget: int) -> float:
    """The score from which on as many sightings as the budget has room for are expected in the rest of the day."""
    still_to_come = max(1.0, (1 - at.share) * max(pace.a_day, pace.came / max(at.share, 0.05)))
    share = min(1.0, (budget - pace.asked) / still_to_come)
    if not pace.scores or share >= 1:
        return LEAST_SCORE
    return max(LEAST_SCORE, float(np.quantile(pace.scores, 1 - share)))
