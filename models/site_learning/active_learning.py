"""Decides which labels to ask for: doubtful and novel sightings first, within a daily budget. Pure.

::

    a sighting's most doubtful vector --+-- doubt: 1 - margin of calibrated probabilities --+
                                        +-- novelty: distance to the nearest known vector --+-- x --> score --> decide

    pace, asks = decide(pace, score(doubt, novelty(vector, known)), at=Moment(day, 0.4), budget=10)

A person answers few questions a day, and at noon the sightings of the evening are unknown. So a label is requested
where the score is among the best of the last scores, as many as the rest of the day's budget has room for, and never
ahead of the clock by more than one request. A budget that is not spent by noon lowers the bar in the afternoon.

Sources: uncertainty by margin, Scheffer et al. 2001; farthest-first traversal, Gonzalez 1985, for learning Sener &
Savarese 2018 (arXiv:1708.00489); their product is BADGE's idea (Ash et al. 2020, arXiv:1906.03671) of long gradients
that point in different directions; as a stream with an adapting rate, Saran et al. 2023 (VeSSAL, arXiv:2303.02535).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.linear import ZERO_LEVEL

REMEMBERED: Final = 100
"""The number of last scores that set the bar."""

FIRST_A_DAY: Final = 30.0
"""Sightings a day that a new site is expected to have."""

A_DAY_WEIGHT: Final = 0.3
"""Weight of yesterday in the expected number of sightings a day."""

DRIFTING: Final = 2.0
"""Factor of the score on a stream that drifts."""

LEAST_SCORE: Final = 0.02
"""Below this score no label is requested, whatever is left of the budget."""


class Moment(NamedTuple):
    """A day's number and the share of it that has passed (0 to 1), by the site's own clock."""

    day: int
    share: float


class Pace(msgspec.Struct, frozen=True, array_like=True):
    """The memory between two sightings."""

    day: int = -1
    sightings: int = 0
    asked: int = 0
    a_day: float = FIRST_A_DAY
    scores: tuple[float, ...] = ()


def novelty(vector: NDArray[np.uint8], known: NDArray[np.uint8]) -> float:
    """Return the cosine distance, 0 to 1, of a vector (d,) to the nearest known vector (n, d); 1 if there is none."""
    if not len(known):
        return 1.0
    new = vector.astype(np.float32) - ZERO_LEVEL
    others = known.astype(np.float32) - ZERO_LEVEL
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(new)
    nearest = float((others @ new / np.maximum(norms, 1e-6)).max())
    return min(1.0, max(0.0, 1.0 - nearest))


def score(doubt: float, new: float, *, drifting: bool = False) -> float:
    """Return how much a label would teach, 0 to 1 (to 2 on a stream that drifts)."""
    return doubt * new * (DRIFTING if drifting else 1.0)


def decide(pace: Pace, score: float, *, at: Moment, budget: int) -> tuple[Pace, bool]:
    """Decide whether to ask about a sighting of this score now; `budget` is the number of requests a day."""
    pace = _today(pace, at.day)
    bar = _bar(pace, at, budget)
    asks = score >= bar and pace.asked < min(budget, 1 + budget * at.share)
    scores = (*pace.scores, score)[-REMEMBERED:]
    return msgspec.structs.replace(pace, sightings=pace.sightings + 1, asked=pace.asked + asks, scores=scores), asks


def left(pace: Pace, *, at: Moment, budget: int) -> int:
    """Return how many requests are left of the day's budget."""
    return max(0, budget - _today(pace, at.day).asked)


def _today(pace: Pace, day: int) -> Pace:
    """Renew the budget on a new day, and expect about as many sightings as yesterday."""
    if day == pace.day:
        return pace
    known = pace.a_day
    if pace.day >= 0:
        known += A_DAY_WEIGHT * (pace.sightings - known)
    return msgspec.structs.replace(pace, day=day, sightings=0, asked=0, a_day=known)


def _bar(pace: Pace, at: Moment, budget: int) -> float:
    """Return the score that as many sightings of the rest of the day will reach as the budget has room for."""
    still_to_come = max(1.0, (1 - at.share) * max(pace.a_day, pace.sightings / max(at.share, 0.05)))
    share = min(1.0, (budget - pace.asked) / still_to_come)
    if not pace.scores or share >= 1:
        return LEAST_SCORE
    return max(LEAST_SCORE, float(np.quantile(pace.scores, 1 - share)))
