"""Linear heads that are solved from additive sums, and their scores from features.

`solve` is ridge regression on one-hot labels from `pipeline.sums.sums.Sums`; `discriminants` also uses the classes'
means. Equal sums give equal heads on the same BLAS with the same number of threads.

Example::

    head = solve(sums)                # from Sums over 256-byte vectors
    head.scores(vector).best          # ("Felidae", 0.97)
    head = head.calibrated(vectors, truths)             # temperature from held-out events

Source: Hoerl & Kennard 1970 (ridge); Guo et al. 2017 (temperature scaling, arXiv:1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.labels.calibration import fit_temperature
from models.labels.scores import Scores, softmax
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

# Relative to the mean of the Gram matrix' diagonal; flat between 1e-4 and 1e-2 on held-out photos.
RIDGE = 1e-3
# How far `discriminants` trusts the spread and the frequencies of the events; both chosen on held-out photos.
SHRINK, PRIOR = 1.0, 0.5
# Ridge outputs lie between 0 and 1, so that they must be stretched to serve as logits. Held-out photos give 0.1; a head
# may then be calibrated on its own events.
START_TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A linear head: softmax((x @ weights + bias) / temperature), with weights float32 (d, k) and bias (k,)."""

    space: str
    rank: str
    labels: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float = START_TEMPERATURE

    def logits(self, features: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits (k,) or (n, k) of real features (d,) or (n, d). Raises `Rejected` for another d."""
        if features.shape[-1] != len(self.weights):
            raise Rejected(
                "space-mismatch", f"{self.space} has {len(self.weights)} components, not {features.shape[-1]}"
            )
        logits: NDArray[np.float32] = features.astype(np.float32) @ self.weights + self.bias
        return logits

    def scores(self, feature: NDArray[np.generic]) -> Scores:
        """Return calibrated scores over `labels` of one feature (d,)."""
        return Scores(self.rank, self.labels, softmax(self.logits(feature) / self.temperature))

    def calibrated(self, features: NDArray[np.generic], truths: NDArray[np.intp]) -> LinearHead:
        """Return this head with the temperature that fits held-out events best: features (n, d), truths (n,)."""
        return replace(self, temperature=fit_temperature(self.logits(features), truths))


def solve(sums: Sums, rank: str = "family", ridge: float = RIDGE) -> LinearHead:
    """Solve the least-squares head of some sums.

    It minimises sum |y - f(x)|^2 + lambda |W|^2 over the events, lambda = ridge * mean of the centred Gram matrix'
    diagonal. The intercept is not penalised. Raises `Rejected` (reason `too-few-events`) without events.
    """
    _check_events(sums)
    gram, cross = sums.gram.astype(np.float64), sums.cross.astype(np.float64)
    return ridge_head(sums.space, rank, sums.labels, gram, cross, ridge)


def discriminants(sums: Sums, rank: str = "species", shrink: float = SHRINK, prior: float = PRIOR) -> LinearHead:
    """Solve linear discriminants from the same sums.

    One-hot least squares gives a class with n of N events outputs of about n/N, so that ten events of a new species
    among 100,000 others never win. Taking the class whose mean is nearest to the fit corrects this. It is the same as
    w = S^-1 m, b = -m'S^-1 m / 2 + prior * log(n/N), with the classes' means m and their pooled covariance S, to whose
    diagonal `shrink` times its mean is added. A class without events is never answered. Raises `Rejected` (reason
    `too-few-events`).

    Source: Hastie, Tibshirani & Buja 1994 (flexible discriminant analysis by optimal scoring, on why both are the
    same); Friedman 1989 (shrunk covariances).
    """
    _check_events(sums)
    events = sums.events
    seen = np.flatnonzero(sums.counts)
    counts = sums.counts[seen].astype(np.float64)
    means = sums.cross[:-1, seen] / counts
    within = (sums.gram[:-1, :-1] - (means * counts) @ means.T) / events
    size = len(within)
    # As in `ridge_head`: equal events have no spread, and then any positive one will do.
    within += shrink * max(float(np.trace(within)) / size, 1.0) * np.eye(size)
    # Centre on the mean of all events: otherwise the intercepts are small differences of large numbers.
    centre = sums.gram[-1, :-1] / events
    seen_weights = np.linalg.solve(within, means - centre[:, None])
    weights = np.zeros((size, len(sums.labels)))
    bias = np.full(len(sums.labels), -np.inf)
    weights[:, seen] = seen_weights
    bias[seen] = prior * np.log(counts / events) - ((means + centre[:, None]) / 2 * seen_weights).sum(0)
    return LinearHead(sums.space, rank, sums.labels, weights.astype(np.float32), bias.astype(np.float32), 1.0)


def _check_events(sums: Sums) -> None:
    if sums.events == 0:
        raise Rejected("too-few-events", f"no events of {sums.space} to solve a head from; label some first")


def ridge_head(
    space: str,
    rank: str,
    labels: tuple[str, ...],
    gram: NDArray[np.float64],
    cross: NDArray[np.float64],
    ridge: float,
) -> LinearHead:
    """Solve the ridge head of at least one weighted event: gram (d+1, d+1) and cross (d+1, k) as in `Sums`, floats."""
    events = gram[-1, -1]
    # Features are centred first: uint8 vectors are far from zero, and an uncentred system is badly conditioned.
    mean_x, mean_y = gram[-1, :-1] / events, cross[-1] / events
    covariance = gram[:-1, :-1] - events * np.outer(mean_x, mean_x)
    correlation = cross[:-1] - events * np.outer(mean_x, mean_y)
    size = len(covariance)
    # One event, or equal ones, have no spread: then any positive penalty gives the constant head.
    covariance.flat[:: size + 1] += ridge * max(float(np.trace(covariance)) / size, 1.0)
    weights = np.linalg.solve(covariance, correlation)
    bias = mean_y - mean_x @ weights
    return LinearHead(space, rank, labels, weights.astype(np.float32), bias.astype(np.float32))
