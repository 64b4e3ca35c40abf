"""Accuracy against the share of events that are forwarded, by the rule that chooses them.

Two tiers answered the same held-out events, whose truth is known. A miner gives each of the nearer tier's answers a
confidence; forwarding the least confident ones first gives a curve from "the edge alone" to "the cloud alone". The
cascade's rule for a stream that wants a family forwards events with a margin below `cascade.RISK_MARGIN`: a point on
the margin's curve.

Example::

    line = curve(MINERS["margin"](edge), right(edge, truths), right(cloud, truths))
    line.accuracy[0], line.accuracy[-1]      # edge alone, cloud alone
    cheapest(line, within=0.005)             # the fewest events to forward for that accuracy

The other miners are those of KubeEdge Sedna's joint inference (`lib/sedna/algorithms/hard_example_mining`): a threshold
on the likeliest class, and cross entropy; chance chooses at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.evaluation.plots import INK, require_matplotlib

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve over n events: `accuracy[k]` with the `k` least confident forwarded."""

    accuracy: NDArray[np.float64]

    @property
    def share(self) -> NDArray[np.float64]:
        """The shares of events forwarded, (n + 1,), from 0 to 1."""
        return np.linspace(0.0, 1.0, len(self.accuracy))


def margin(probabilities: Floats) -> NDArray[np.float64]:
    """Return the lead of the best label over the second: (n, k) -> (n,). The cascade decides by it."""
    two = np.partition(np.asarray(probabilities, np.float64), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0], np.float64)


def likeliest(probabilities: Floats) -> NDArray[np.float64]:
    """Return the best label's probability: a fixed threshold on it is the simplest miner."""
    return np.asarray(probabilities.max(axis=1), np.float64)


def certainty(probabilities: Floats) -> NDArray[np.float64]:
    """Return the negative entropy in nats: 0 for a certain label."""
    exact = np.asarray(probabilities, np.float64)
    return np.asarray((exact * np.log(np.maximum(exact, 1e-12))).sum(1), np.float64)


def chance(probabilities: Floats) -> NDArray[np.float64]:
    """Return random confidences, in the same order every time."""
    return np.random.default_rng(0).permutation(len(probabilities)).astype(np.float64)


MINERS: Mapping[str, Callable[[Floats], NDArray[np.float64]]] = MappingProxyType(
    {"margin": margin, "threshold": likeliest, "entropy": certainty, "chance": chance}
)


def curve(confidence: NDArray[np.float64], near: NDArray[np.bool_], far: NDArray[np.bool_]) -> Curve:
    """Return a miner's curve from its confidence (n,) and whether the near and the far tier are right (n,)."""
    order = np.argsort(confidence, kind="stable")
    gains = far[order].astype(np.int64) - near[order].astype(np.int64)
    rights = int(near.sum()) + np.concatenate([[0], np.cumsum(gains)])
    return Curve(rights / len(order))


def cheapest(line: Curve, within: float) -> int:
    """Return the fewest events to forward for an accuracy `within` of the far tier alone."""
    return int(np.argmax(line.accuracy >= line.accuracy[-1] - within))


def right(probabilities: Floats, truths: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return whether the likeliest label is the true one: (n, k), (n,) -> (n,)."""
    return np.asarray(probabilities.argmax(1) == truths, np.bool_)


def draw(panels: Mapping[str, tuple[Mapping[str, Curve], tuple[float, float]]], file: Path) -> None:
    """Draw accuracy against the share of events forwarded, in a panel for each title.

    Each miner has a line, and the rule a point. Raises `Stop` if matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8.4, 3.1 * (len(panels) + 1) // 2), layout="constrained")
    grid = picture.subplots((len(panels) + 1) // 2, 2, squeeze=False)
    for axes, (title, (lines, (share, accuracy))) in zip(grid.flat, panels.items(), strict=False):
        for name, line in lines.items():
            axes.plot(100 * line.share, 100 * line.accuracy, label=name, linewidth=1.2)
        axes.plot([100 * share], [100 * accuracy], "o", color=INK, markersize=5, label="the cascade's rule")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=title, xlabel="events that reach the cloud, %", ylabel="families right, %")
    grid.flat[0].legend(frameon=False, loc="lower right")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(file, format="svg", metadata={"Date": None})
