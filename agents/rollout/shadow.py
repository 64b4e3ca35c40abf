"""Compare two models on the same events. `rules.RULES` decide by the figures.

::

    event --serving model--> AnswerSummary --+
          --candidate------> AnswerSummary --+--> TrialTally.add --> TrialFigures

Example::

    tally = TrialTally(gained={"Lynx lynx"})
    tally.add(AnswerSummary(("animal",), 0.9, 5.1), AnswerSummary(("animal", "Felidae", "Lynx lynx"), 0.8, 5.0))
    tally.figures().gained      # 1: the release learned this label, so the difference is no disagreement
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from agents.rollout.rules import TrialFigures
from models.labels.taxonomy import RANKS
from models.vision.tier_models import CloudPrediction, EdgePrediction, deepest

TIMES_KEPT: Final = 1000
"""The median covers this number of the newest events."""


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """The compared parts of a prediction. `probability` is that of the most likely label at the tier's own rank."""

    path: tuple[str, ...]
    probability: float
    ms: float
    person: bool = False


def edge_summary(prediction: EdgePrediction) -> AnswerSummary:
    """Summarise an edge model's prediction of a crop or a vector."""
    return AnswerSummary(deepest(prediction).path, prediction.family.best[1], prediction.ms, prediction.person_raised)


def cloud_summary(prediction: CloudPrediction) -> AnswerSummary:
    """Summarise a cloud model's prediction of a vector."""
    return AnswerSummary(deepest(prediction).path, prediction.species.best[1], prediction.ms)


class TrialTally:
    """Counts over the events of one trial. Any thread may call the methods."""

    def __init__(self, gained: AbstractSet[str] = frozenset()) -> None:
        """`gained` holds the labels that only the candidate can answer with."""
        self._gained = gained
        self._lock = threading.Lock()
        self._events = self._errors = self._with_gained = self._dropped = 0
        self._unknown_old = self._unknown_new = self._persons = self._persons_missed = 0
        self._probability_old = self._probability_new = 0.0
        self._both: Counter[str] = Counter()
        self._alike: Counter[str] = Counter()
        self._ms_old: deque[float] = deque(maxlen=TIMES_KEPT)
        self._ms_new: deque[float] = deque(maxlen=TIMES_KEPT)

    def add(self, old: AnswerSummary, new: AnswerSummary) -> None:
        """Count an event that both models answered."""
        with self._lock:
            self._events += 1
            self._probability_old += old.probability
            self._probability_new += new.probability
            self._unknown_old += not old.path
            self._unknown_new += not new.path
            self._persons += old.person
            self._persons_missed += old.person and not new.person
            self._ms_old.append(old.ms)
            self._ms_new.append(new.ms)
            if not self._gained.isdisjoint(new.path):
                self._with_gained += 1
                return
            for rank, old_label, new_label in zip(RANKS, old.path, new.path, strict=False):
                self._both[rank] += 1
                self._alike[rank] += old_label == new_label

    def fail(self) -> None:
        """Count an event on which only the candidate failed."""
        with self._lock:
            self._errors += 1

    def drop(self) -> None:
        """Count an event that was not compared because the shadow was busy."""
        with self._lock:
            self._dropped += 1

    def figures(self) -> TrialFigures:
        """Return the figures so far."""
        with self._lock:
            events = max(self._events, 1)
            return TrialFigures(
                events=self._events,
                errors=self._errors,
                both=dict(self._both),
                alike=dict(self._alike),
                gained=self._with_gained,
                unknown_old=self._unknown_old,
                unknown_new=self._unknown_new,
                probability_old=self._probability_old / events,
                probability_new=self._probability_new / events,
                ms_old=statistics.median(self._ms_old) if self._ms_old else 0.0,
                ms_new=statistics.median(self._ms_new) if self._ms_new else 0.0,
                persons=self._persons,
                persons_missed=self._persons_missed,
                dropped=self._dropped,
            )
