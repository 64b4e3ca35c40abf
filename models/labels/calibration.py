"""Choose the answer to publish: temperatures, thresholds, and doubt that rolls up the label tree.

One temperature for each rank, fitted on held-out events, makes a head's probabilities honest. The answer is the best
label of the deepest rank where it reaches that rank's threshold. So doubt between jaguar and leopard gives the family;
where even the kingdom is in doubt, the answer is `unknown`.

Example::

    answer(tree, (species, family, kingdom))  # Answer(rank="family", label="Felidae", probability=0.98, ...)

Sources: temperature scaling, Guo et al. 2017 (arXiv:1706.04599); the error bound, Clopper & Pearson 1934.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.labels.scores import Scores, softmax
from models.labels.taxonomy import RANKS, Taxonomy

UNKNOWN = "unknown"

# For models without measured thresholds. A kingdom only has to be likelier than not: the next coarser answer
# is `unknown`.
DEFAULT_THRESHOLDS: Mapping[str, float] = MappingProxyType({"kingdom": 0.5, "family": 0.59, "species": 0.52})


@dataclass(frozen=True, slots=True)
class Answer:
    """A tier's answer about an event. `path` is empty if the label is `unknown`."""

    rank: str
    label: str
    path: tuple[str, ...]
    probability: float
    margin: float


def answer(tree: Taxonomy, scores: Sequence[Scores], thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS) -> Answer:
    """Answer with the deepest rank whose best label reaches its threshold. `scores` may be in any order."""
    deep_first = sorted(scores, key=lambda ranked: -RANKS.index(ranked.rank))
    for ranked in deep_first:
        label, probability = ranked.best
        if probability >= thresholds[ranked.rank]:
            path = tree.path(label)
            # A leaf (`person`, `other`) is a kingdom, whichever rank has it.
            return Answer(RANKS[len(path) - 1], label, path, probability, ranked.margin)
    shallow = deep_first[-1]
    return Answer("kingdom", UNKNOWN, (), shallow.best[1], shallow.margin)


def fit_temperature(logits: NDArray[np.float32], truths: NDArray[np.intp]) -> float:
    """Return the temperature that minimises the negative log-likelihood of held-out events: logits (n, k), truths (n,).

    The likelihood has one minimum in log(temperature), so golden-section search finds it.
    """

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / math.exp(log_temperature))[np.arange(len(truths)), truths]
        return -float(np.log(np.maximum(probabilities, 1e-12)).mean())

    return math.exp(_minimise(loss, math.log(0.01), math.log(20.0)))


def _minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """Search by golden sections (Kiefer 1953); 40 steps shrink the interval by a factor of 2e8."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def expected_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, weighted by events (0 is honest)."""
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(float(correct[at == b].mean()) - float(confidence[at == b].mean())) * (at == b).mean() for b in set(at)]
    return float(sum(gaps))


def error_bound(wrong: int, answered: int, certainty: float = 0.9) -> float:
    """Return the upper Clopper-Pearson limit of an error rate after `wrong` of `answered` events."""
    if wrong >= answered:
        return 1.0
    low, high = wrong / answered, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        if binomial_tail(wrong, answered, rate) > 1 - certainty:
            low = rate
        else:
            high = rate
    return high


def binomial_tail(wrong: int, answered: int, rate: float) -> float:
    """Return P(at most `wrong` errors in `answered` events at an error rate)."""
    logs = [
        math.lgamma(answered + 1) - math.lgamma(k + 1) - math.lgamma(answered - k + 1)
        + k * math.log(rate) + (answered - k) * math.log1p(-rate)
        for k in range(wrong + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(value) for value in logs)
