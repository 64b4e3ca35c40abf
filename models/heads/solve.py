"""Linear heads: solved from additive sums, or read from the zoo; scores from features.

`solve` is ridge regression on one-hot labels from `pipeline.sums.sums.Sums`: the one way in which a site, or the cloud,
learns from labelled features. With `towards`, the ridge pulls to a head that is known to be good instead of to zero:
few events then change it little and many decide. Equal sums give equal heads on the same BLAS with the same number of
threads.

Example::

    head = solve(sums)                # from Sums over 256-byte vectors
    head.scores(vector).best          # ("Felidae", 0.97)
    head = head.calibrated(vectors, truths)             # temperature from held-out events
    mine = solve(site_sums, towards=head, strength=200) # the site's events against 200 events' worth of `head`

Source: Hoerl & Kennard 1970 (ridge); Guo et al. 2017 (temperature scaling, arXiv:1706.04599); ridge towards known
weights as in Evgeniou & Pontil 2004 (regularised multi-task learning) and Li et al. 2018 (L2-SP, arXiv:1802.01483).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import LEVELS_PER_SIGMA, ZERO_LEVEL
from models.labels.calibration import fit_temperature
from models.labels.scores import Scores, softmax
from pipeline.errors import Rejected
from pipeline.sums.sums import LabelsMismatch, SpaceMismatch, Sums

# Relative to the mean of the Gram matrix' diagonal; flat between 1e-4 and 1e-2 on held-out photos.
RIDGE = 1e-3
# How far `discriminants` trusts the spread and the frequencies that it saw; both chosen on held-out photos.
SHRINK, PRIOR = 1.0, 0.5
# Keeps a system with fewer events than components solvable.
LEAST_STRENGTH = 1e-3
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


def solve(
    sums: Sums,
    rank: str = "family",
    ridge: float = RIDGE,
    *,
    towards: LinearHead | None = None,
    strength: float = 0.0,
) -> LinearHead:
    """The least-squares head of some sums.

    Alone, it minimises sum |y - f(x)|^2 + lambda |W|^2 over the events, lambda = ridge * mean of the centred Gram matrix'
    diagonal, the intercept unpenalised.

    With `towards` it minimises sum |y - f(x)|^2 + strength * E |f(x) - towards(x)|^2, where E is over the space's own
    distribution (its vectors are whitened: 32 levels a standard deviation around 128). So `strength` counts in events:
    at 200, a known head weighs as much as 200 events that it labelled. A label that `towards` lacks starts at zero.

    Raises `Rejected`: reason `too-few-events` where there is nothing to solve from, `space-mismatch` for a `towards` of
    another space, `labels-mismatch` for one with labels that the sums lack.
    """
    if towards is None:
        return _alone(sums, rank, ridge)
    return _towards(sums, rank, towards, strength)


def discriminants(
    sums: Sums, rank: str = "species", shrink: float = SHRINK, prior: float = PRIOR
) -> LinearHead:
    """The least-squares fit with the nearest class mean in it: linear discriminants, from the same sums.

    One-hot least squares gives a class with n of N events answers of about n/N: ten events of a new species among
    100,000 others are never heard. Taking the class whose mean the fit comes nearest to mends that, and is the same
    as w = S^-1 m, b = -m'S^-1 m / 2 + prior * log(n/N) with the classes' means m and their pooled covariance S, to whose
    diagonal `shrink` times its mean is added. A class without events is never answered. Raises `Rejected` (reason
    `too-few-events`).

    Source: Hastie, Tibshirani & Buja 1994 (flexible discriminant analysis by optimal scoring: why the two are one);
    Friedman 1989 (shrunk covariances).
    """
    events = sums.events
    if events == 0:
        raise Rejected("too-few-events", f"no events of {sums.space} to solve a head from; label some first")
    seen = np.flatnonzero(sums.counts)
    counts = sums.counts[seen].astype(np.float64)
    means = sums.cross[:-1, seen] / counts
    within = (sums.gram[:-1, :-1] - (means * counts) @ means.T) / events
    size = len(within)
    # As in `solve`: equal events have no spread, and any positive one does.
    within += shrink * max(float(np.trace(within)) / size, 1.0) * np.eye(size)
    # Around the mean of all events, or the intercepts are small differences of large numbers.
    centre = sums.gram[-1, :-1] / events
    seen_weights = np.linalg.solve(within, means - centre[:, None])
    weights = np.zeros((size, len(sums.labels)))
    bias = np.full(len(sums.labels), -np.inf)
    weights[:, seen] = seen_weights
    bias[seen] = prior * np.log(counts / events) - ((means + centre[:, None]) / 2 * seen_weights).sum(0)
    return LinearHead(sums.space, rank, sums.labels, weights.astype(np.float32), bias.astype(np.float32), 1.0)


def _alone(sums: Sums, rank: str, ridge: float) -> LinearHead:
    if sums.events == 0:
        raise Rejected("too-few-events", f"no events of {sums.space} to solve a head from; label some first")
    gram, cross = sums.gram.astype(np.float64), sums.cross.astype(np.float64)
    return ridge_head(sums.space, rank, sums.labels, gram, cross, ridge)


def ridge_head(
    space: str,
    rank: str,
    labels: tuple[str, ...],
    gram: NDArray[np.float64],
    cross: NDArray[np.float64],
    ridge: float,
) -> LinearHead:
    """The ridge head of weighed events: gram (d+1, d+1), cross (d+1, k) as in `Sums`, in floats; of more than none."""
    events = gram[-1, -1]
    # Features are centred first: uint8 vectors lie far from zero, and an uncentred system is badly conditioned.
    mean_x, mean_y = gram[-1, :-1] / events, cross[-1] / events
    covariance = gram[:-1, :-1] - events * np.outer(mean_x, mean_x)
    correlation = cross[:-1] - events * np.outer(mean_x, mean_y)
    size = len(covariance)
    # One event, or equal ones, have no spread at all: then any positive penalty gives the constant head.
    covariance.flat[:: size + 1] += ridge * max(float(np.trace(covariance)) / size, 1.0)
    weights = np.linalg.solve(covariance, correlation)
    bias = mean_y - mean_x @ weights
    return LinearHead(space, rank, labels, weights.astype(np.float32), bias.astype(np.float32))


def _towards(sums: Sums, rank: str, head: LinearHead, strength: float) -> LinearHead:
    if head.space != sums.space or len(head.weights) != sums.dimension:
        raise SpaceMismatch(
            f"sums of {sums.space} ({sums.dimension}) are not solved towards a head of {head.space} ({len(head.weights)})"
        )
    if lost := [label for label in head.labels if label not in sums.labels]:
        raise LabelsMismatch(f"the sums have no column for {lost}; bring them there with with_labels()")
    if sums.events == 0 and strength <= 0:
        raise Rejected(
            "too-few-events", f"no events of {sums.space}, and no strength in what is known before"
        )
    # In components (x - 128) / 32 and a 1, the space's own second moments are the identity.
    to_components = np.eye(sums.dimension + 1) / LEVELS_PER_SIGMA
    to_components[-1] = [*np.full(sums.dimension, -ZERO_LEVEL / LEVELS_PER_SIGMA), 1.0]
    gram = to_components.T @ sums.gram.astype(np.float64) @ to_components
    cross = to_components.T @ sums.cross.astype(np.float64)
    known = np.zeros_like(cross)
    at = [sums.labels.index(label) for label in head.labels]
    known[:-1, at] = LEVELS_PER_SIGMA * head.weights.astype(np.float64)
    known[-1, at] = head.bias + ZERO_LEVEL * head.weights.astype(np.float64).sum(0)
    pull = max(strength, LEAST_STRENGTH) * np.eye(len(gram))
    solved = to_components @ (known + np.linalg.solve(gram + pull, cross - gram @ known))
    return LinearHead(
        sums.space,
        rank,
        sums.labels,
        solved[:-1].astype(np.float32),
        solved[-1].astype(np.float32),
        head.temperature,
    )
