"""When an answer may stand: temperatures, thresholds with a stated risk, and doubt that rolls up the label tree.

A head's probabilities are made honest by one temperature a rank, fitted on held-out events. A threshold a rank then
says which answers stand: the deepest rank whose best label reaches its own. So a doubt between jaguar and leopard is
spent at the family, not guessed away, and where not even a kingdom holds the answer is `unknown`.

Example::

    answer(tree, (species, family, kingdom))  # Answer(rank="family", label="Felidae", probability=0.98, ...)

Sources: temperature scaling, Guo et al. 2017 (arXiv:1706.04599); thresholds with a bound on the risk among answered
events, Geifman & El-Yaniv 2017 (selective classification, arXiv:1705.08500) with the binomial tail of Clopper &
Pearson 1934.
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

# What a family's and a species' answers may risk: with 90% certainty at most so many of them are wrong. The thresholds
# that keep it belong to a model: its manifest states them (`models.train.lite0.heads` measures them on held-out photos).
RISKS: Mapping[str, float] = MappingProxyType({"family": 0.05, "species": 0.08})
# For answers of which nothing was measured. A kingdom only has to be likelier than not: below it there is nothing to
# fall back on but `unknown`.
DEFAULT_THRESHOLDS: Mapping[str, float] = MappingProxyType({"kingdom": 0.5, "family": 0.59, "species": 0.52})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tier says about an event. `path` is empty where the label is `unknown`."""

    rank: str
    label: str
    path: tuple[str, ...]
    probability: float
    margin: float


def answer(
    tree: Taxonomy, scores: Sequence[Scores], thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS
) -> Answer:
    """The deepest rank whose best label reaches its threshold; `scores` of one or several ranks, in any order."""
    deep_first = sorted(scores, key=lambda its: -RANKS.index(its.rank))
    for its in deep_first:
        label, probability = its.best
        if probability >= thresholds[its.rank]:
            path = tree.path(label)
            # A leaf (`person`, `other`) is a kingdom at whatever rank it was answered.
            return Answer(RANKS[len(path) - 1], label, path, probability, its.margin)
    shallow = deep_first[-1]
    return Answer("kingdom", UNKNOWN, (), shallow.best[1], shallow.margin)


def fit_temperature(logits: NDArray[np.float32], truths: NDArray[np.intp]) -> float:
    """The temperature that minimises the negative log-likelihood of held-out events: logits (n, k), truths (n,).

    The likelihood has one minimum in log(temperature), so golden-section search finds it.
    """

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / math.exp(log_temperature))[np.arange(len(truths)), truths]
        return -float(np.log(np.maximum(probabilities, 1e-12)).mean())

    return math.exp(_minimise(loss, math.log(0.01), math.log(20.0)))


def _minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search (Kiefer 1953); 40 steps shrink the interval by 2e8."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by events (0 is honest)."""
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(correct[at == b].mean()) - float(confidence[at == b].mean())) * (at == b).mean()
        for b in set(at)
    ]
    return float(sum(gaps))


def threshold_for_risk(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], risk: float, certainty: float = 0.9
) -> float:
    """The lowest threshold whose answered events err at most `risk` of the time, with `certainty`; 1.0 if none does.

    The bound is Clopper and Pearson's on the error among answered held-out events (n,). It holds for each threshold
    by itself; over a scan it is a guide, not a proof.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~correct[order])
    best = 1.0
    for answered in range(1, len(order) + 1):
        last_of_equals = (
            answered == len(order) or confidence[order[answered]] < confidence[order[answered - 1]]
        )
        errors = int(wrong[answered - 1])
        # The upper limit lies below the risk exactly if so few errors would be that unlikely at the risk itself.
        if (
            last_of_equals
            and errors < risk * answered
            and _binomial_tail(errors, answered, risk) <= 1 - certainty
        ):
            best = float(confidence[order[answered - 1]])
    return best


def error_bound(wrong: int, answered: int, certainty: float = 0.9) -> float:
    """Upper Clopper-Pearson limit of an error rate after `wrong` of `answered` events."""
    if wrong >= answered:
        return 1.0
    low, high = wrong / answered, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        if _binomial_tail(wrong, answered, rate) > 1 - certainty:
            low = rate
        else:
            high = rate
    return high


def _binomial_tail(wrong: int, answered: int, rate: float) -> float:
    """P(at most `wrong` errors in `answered` events at an error rate)."""
    logs = [
        math.lgamma(answered + 1) - math.lgamma(k + 1) - math.lgamma(answered - k + 1)
        + k * math.log(rate) + (answered - k) * math.log1p(-rate)
        for k in range(wrong + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(value) for value in logs)
