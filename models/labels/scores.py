"""The scores that every head returns: labels of one rank with calibrated probabilities.

Example::

    scores = Scores("kingdom", ("animal", "plant"), np.array([0.9, 0.1], np.float32))
    scores.best      # ("animal", 0.9)
    scores["plant"]  # 0.1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Probabilities over the labels of one rank: float32 (len(labels),), summing to 1."""

    rank: str
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]

    @property
    def best(self) -> tuple[str, float]:
        """The likeliest label and its probability."""
        at = int(self.probabilities.argmax())
        return self.labels[at], float(self.probabilities[at])

    @property
    def margin(self) -> float:
        """The lead of the best label over the second; 1.0 if there is only one label."""
        if len(self.labels) < 2:
            return 1.0
        second, first = np.partition(self.probabilities, -2)[-2:]
        return float(first - second)

    def top(self, count: int = 3) -> tuple[tuple[str, float], ...]:
        """Return the `count` likeliest labels with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return tuple((self.labels[at], float(self.probabilities[at])) for at in order.tolist())

    def __getitem__(self, label: str) -> float:
        """Return the probability of a label; 0.0 if this head does not know it."""
        return float(self.probabilities[self.labels.index(label)]) if label in self.labels else 0.0


def softmax(logits: ArrayLike) -> NDArray[np.float32]:
    """Compute the softmax over the last axis in float64, shifted so that nothing overflows."""
    exact = np.asarray(logits, np.float64)
    shifted: NDArray[np.float64] = np.exp(exact - exact.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), np.float32)
