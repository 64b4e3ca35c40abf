"""What two eyes make of the same events, side by side: the figures that `update_rules.RULES` decide by.

::

    event --old eye--> Glance --+
          --new eye--> Glance --+--> Tally.add --> Figures

Example::

    tally = Tally(gained={"Lynx lynx"})
    tally.add(Glance(("animal",), 0.9, 5.1), Glance(("animal", "Felidae", "Lynx lynx"), 0.8, 5.0))
    tally.figures().gained      # 1: this is what the release is for, and no disagreement
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from agents.rollout.rules import Figures
from models.labels.taxonomy import RANKS
from models.vision.tier_models import CloudPrediction, EdgePrediction, deepest

TIMES_KEPT: Final = 1000
"""The median is over the newest so many events."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One eye's answer about one event. `sure` is the probability of its likeliest label at the tier's own rank."""

    path: tuple[str, ...]
    sure: float
    ms: float
    person: bool = False


def edge_glance(sight: EdgePrediction) -> Glance:
    """What an edge's eye answers of a crop or a vector."""
    return Glance(deepest(sight).path, sight.family.best[1], sight.ms, sight.person_raised)


def cloud_glance(sight: CloudPrediction) -> Glance:
    """What a cloud's eye answers of a vector."""
    return Glance(deepest(sight).path, sight.species.best[1], sight.ms)


class Tally:
    """Counts over the events of one trial; its methods may be called from any thread."""

    def __init__(self, gained: AbstractSet[str] = frozenset()) -> None:
        """`gained`: labels that only the new eye can answer with."""
        self._gained = gained
        self._lock = threading.Lock()
        self._events = self._errors = self._with_gained = self._dropped = 0
        self._unknown_old = self._unknown_new = self._persons = self._persons_missed = 0
        self._sure_old = self._sure_new = 0.0
        self._both: Counter[str] = Counter()
        self._alike: Counter[str] = Counter()
        self._ms_old: deque[float] = deque(maxlen=TIMES_KEPT)
        self._ms_new: deque[float] = deque(maxlen=TIMES_KEPT)

    def add(self, old: Glance, new: Glance) -> None:
        """Count an event that both answered."""
        with self._lock:
            self._events += 1
            self._sure_old += old.sure
            self._sure_new += new.sure
            self._unknown_old += not old.path
            self._unknown_new += not new.path
            self._persons += old.person
            self._persons_missed += old.person and not new.person
            self._ms_old.append(old.ms)
            self._ms_new.append(new.ms)
            if not self._gained.isdisjoint(new.path):
                self._with_gained += 1
                return
            for rank, was, now in zip(RANKS, old.path, new.path, strict=False):
                self._both[rank] += 1
                self._alike[rank] += was == now

    def fail(self) -> None:
        """Count an event on which only the new eye failed."""
        with self._lock:
            self._errors += 1

    def drop(self) -> None:
        """Count an event that was not compared, since the shadow was busy."""
        with self._lock:
            self._dropped += 1

    def figures(self) -> Figures:
        """What was counted so far."""
        with self._lock:
            events = max(self._events, 1)
            return Figures(
                events=self._events,
                errors=self._errors,
                both=dict(self._both),
                alike=dict(self._alike),
                gained=self._with_gained,
                unknown_old=self._unknown_old,
                unknown_new=self._unknown_new,
                sure_old=self._sure_old / events,
                sure_new=self._sure_new / events,
                ms_old=statistics.median(self._ms_old) if self._ms_old else 0.0,
                ms_new=statistics.median(self._ms_new) if self._ms_new else 0.0,
                persons=self._persons,
                persons_missed=self._persons_missed,
                dropped=self._dropped,
            )
