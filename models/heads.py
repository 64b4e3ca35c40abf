"""Linear heads: solved from additive sums, or read from the zoo; scores from features.

`solve` is ridge regression on one-hot labels from `pipeline.sums.Sums`: the one way in which a site, or the cloud,
learns from labelled features. Equal sums give equal heads on the same BLAS with the same number of threads.

Example::

    head = solve(sums)                # from Sums over 256-byte vectors
    head.scores(vector).best          # ("Felidae", 0.97)
    head = head.calibrated(vectors, truths)   # temperature from held-out events

Source: Hoerl & Kennard 1970 (ridge); Guo et al. 2017 (temperature scaling, arXiv:1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.calibrate import fit_temperature
from models.scores import Scores, softmax
from pipeline.errors import Rejected
from pipeline.sums import Sums

# Relative to the mean of the Gram matrix' diagonal; flat between 1e-4 and 1e-2 on held-out photos.
RIDGE = 1e-3
# Ridge answers lie between 0 and 1; as logits they need stretching. 0.1 is where held-out photos put it, before a
# head is calibrated on events of its own.
START_TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """logits = x @ weights + bias; weights float32 (d, k), bias (k,); probabilities by softmax(logits / temperature)."""

    space: str
    rank: str
    labels: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float = START_TEMPERATURE

    def logits(self, features: NDArray[np.generic]) -> NDArray[np.float32]:
        """Features (d,) or (n, d), any real dtype -> logits (k,) or (n, k)."""
        if features.shape[-1] != len(self.weights):
            raise Rejected(
                "space-mismatch", f"{self.space} has {len(self.weights)} components, not {features.shape[-1]}"
            )
        logits: NDArray[np.float32] = features.astype(np.float32) @ self.weights + self.bias
        return logits

    def scores(self, feature: NDArray[np.generic]) -> Scores:
        """One feature (d,) -> calibrated scores over `labels`."""
        return Scores(self.rank, self.labels, softmax(self.logits(feature) / self.temperature))

    def calibrated(self, features: NDArray[np.generic], truths: NDArray[np.intp]) -> LinearHead:
        """The same head with the temperature that fits held-out events best: features (n, d), truths (n,)."""
        return replace(self, temperature=fit_temperature(self.logits(features), truths))


def solve(sums: Sums, rank: str = "family", ridge: float = RIDGE) -> LinearHead:
    """The least-squares head of some sums. Raises `Rejected` (reason `too-few-events`) when they are empty.

    Minimises sum |y - x W|^2 + lambda |W|^2 over the events, lambda = ridge * mean of the Gram matrix' diagonal, the
    intercept unpenalised. Features are centred first: uint8 vectors lie far from zero, and an uncentred system is
    badly conditioned.
    """
    events = sums.events
    if events == 0:
        raise Rejected("too-few-events", f"no events of {sums.space} to solve a head from; label some first")
    gram, cross = sums.gram.astype(np.float64), sums.cross.astype(np.float64)
    mean_x, mean_y = gram[-1, :-1] / events, cross[-1] / events
    covariance = gram[:-1, :-1] - events * np.outer(mean_x, mean_x)
    correlation = cross[:-1] - events * np.outer(mean_x, mean_y)
    size = len(covariance)
    # One event, or equal ones, have no spread at all: then any positive penalty gives the constant head.
    penalty = ridge * max(float(np.trace(covariance)) / size, 1.0)
    weights = np.linalg.solve(covariance + penalty * np.eye(size), correlation)
    bias = mean_y - mean_x @ weights
    return LinearHead(sums.space, rank, sums.labels, weights.astype(np.float32), bias.astype(np.float32))
