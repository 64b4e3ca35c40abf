"""Linear classifiers whose classes may share a label: softmax regression, and their form over projected bytes.

The regression for `models.train.lite0.heads`; it needs numpy only and has a fixed seed.

Example::

    head = tune(flat(1280, 4), feature, kingdoms, weight, hold=1e-4, rate=3e-3, epochs=6)
    projection = make_projection(feature, weight, [head])
    projection.seen_through(head).logits(projection.components(feature))   # nearly head.logits(feature)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import LEVELS_PER_SIGMA, ZERO_LEVEL
from models.labels.scores import softmax

Floats = NDArray[np.float32]

VECTOR_BYTES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """logits = x @ weights + bias over classes; `to` maps each class to its label (several may share one)."""

    weights: Floats
    bias: Floats
    to: NDArray[np.intp]

    def logits(self, x: Floats) -> Floats:
        """Return logits (n, classes) of inputs (n, d)."""
        return x @ self.weights + self.bias

    def label_logits(self, x: Floats) -> Floats:
        """Return the log of the summed probabilities of each label's classes, (n, labels); every label has a class."""
        return np.log(np.maximum(self.sums(softmax(self.logits(x))), 1e-30)).astype(np.float32)

    def sums(self, classes: Floats) -> Floats:
        """Sum over the classes of each label: (n, classes) -> (n, labels)."""
        order = np.argsort(self.to, kind="stable")
        starts = np.searchsorted(self.to[order], np.arange(self.to.max() + 1))
        return np.asarray(np.add.reduceat(classes[:, order], starts, axis=1), np.float32)


def tune(
    start: Linear,
    x: Floats,
    labels: NDArray[np.intp],
    weight: Floats,
    *,
    hold: float,
    rate: float,
    epochs: int,
    batch: int = 512,
) -> Linear:
    """Tune a softmax regression, from `start`, by Adam with a cosine schedule; a label may own several classes.

    `hold` is the strength of the pull towards `start`. Rows are drawn with probability proportional to `weight`.
    """
    rng = np.random.default_rng(0)
    theta = [start.weights.copy(), start.bias.copy()]
    first = [np.zeros_like(part) for part in theta]
    second = [np.zeros_like(part) for part in theta]
    steps, drawn = epochs * (len(x) // batch), (weight / weight.sum()).astype(np.float64)
    drawn /= drawn.sum()
    for step in range(1, steps + 1):
        rows = rng.choice(len(x), size=batch, p=drawn)
        p = x[rows] @ theta[0] + theta[1]
        p = np.exp(p - p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        own = p * (start.to[None, :] == labels[rows][:, None])
        error = (p - own / (own.sum(1, keepdims=True) + 1e-12)) / batch
        gradients = (x[rows].T @ error + hold * (theta[0] - start.weights), error.sum(0))
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for part, gradient, m, v in zip(theta, gradients, first, second, strict=True):
            m[:] += 0.1 * (gradient - m)
            v[:] += 0.001 * (gradient * gradient - v)
            part[:] -= now * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return Linear(theta[0], theta[1], start.to)


def flat(inputs: int, classes: int) -> Linear:
    """Return a head of zeros."""
    return Linear(np.zeros((inputs, classes), np.float32), np.zeros(classes, np.float32), np.arange(classes))


@dataclass(frozen=True, slots=True, eq=False)
class FittedProjection:
    """The map from features (n, 1280) to bytes: round((x - mean) @ matrix * 32 + 128), clipped."""

    mean: Floats
    matrix: Floats
    back: Floats

    def bytes(self, x: Floats) -> NDArray[np.uint8]:
        """Return the vectors uint8 (n, k) of features (n, 1280)."""
        levels = np.rint((x - self.mean) @ self.matrix * LEVELS_PER_SIGMA + ZERO_LEVEL)
        return np.clip(levels, 0, 255).astype(np.uint8)

    def components(self, x: Floats) -> Floats:
        """Return the bytes as a head's input: components in standard deviations."""
        return (self.bytes(x).astype(np.float32) - ZERO_LEVEL) / LEVELS_PER_SIGMA

    def seen_through(self, head: Linear) -> Linear:
        """Rewrite a head on the feature for the components."""
        return Linear(self.back @ head.weights, (self.mean @ head.weights + head.bias).astype(np.float32), head.to)


def make_projection(
    feature: Floats, weight: Floats, heads: list[Linear], count: int = VECTOR_BYTES
) -> FittedProjection:
    """Fit a reduced-rank regression of all heads' logits on features (n, 1280) of weights (n,), to `count` bytes."""
    mean = np.average(feature, axis=0, weights=weight).astype(np.float64)
    centred = feature - mean
    covariance = (centred * (weight / weight.sum())[:, None]).T @ centred
    # The packs show only a part of the world, so that a share of every direction is kept.
    covariance += np.eye(len(mean)) * (0.05 * np.trace(covariance) / len(mean))
    root = np.linalg.cholesky(covariance)
    logits = np.hstack([head.weights - head.weights.mean(1, keepdims=True) for head in heads])
    left, _, _ = np.linalg.svd(root.T @ logits, full_matrices=False)
    left = left[:, :count]
    return FittedProjection(
        mean.astype(np.float32),
        np.linalg.solve(root.T, left).astype(np.float32),
        (left.T @ root.T).astype(np.float32),
    )
