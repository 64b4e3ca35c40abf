"""Outcomes of photos as an evaluation counts them, for the tests of its figures and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.answering.cascade import Situation
from models.evaluation.evaluate import TIERS, Evaluation, PhotoOutcome, TierOutcome
from models.evaluation.metrics import EvaluationReport, measure
from models.labels.taxonomy import RANKS, load_taxonomy
from pipeline.messages import Rank, Tier

TREE = load_taxonomy()
TIGER, JAGUAR, WOLF = (TREE.path(TREE.find(name)) for name in ("tiger", "jaguar", "wolf"))


def outcome(
    truth: tuple[str, ...],
    best: tuple[str, ...] | None = None,
    probability: float = 0.9,
    answered: Mapping[str, tuple[str, ...]] | None = None,
    device: Mapping[str, Any] | None = None,
    edge: Mapping[str, Any] | None = None,
) -> PhotoOutcome:
    """The tiers find `best`, and answer it as deep as each may, or as `answered` says; `device` and `edge` change the
    situations that the cascade decides by.
    """
    best = truth if best is None else best
    paths = {"device": best[:1], "edge": best[:2], "cloud": best} | dict(answered or {})

    def situation(tier: Tier, more: Mapping[str, Any] | None) -> Situation:
        return replace(Situation(tier, Rank.SPECIES, paths[tier], probability, probability), **(more or {}))

    return PhotoOutcome(
        name="photo",
        truth=truth,
        tiers={
            tier: TierOutcome(paths[tier], _likeliest(best, probability, depth))
            for depth, tier in enumerate(TIERS, start=1)
        },
        device=situation(Tier.DEVICE, device),
        edge=situation(Tier.EDGE, edge),
        ms={"device": 1.0, "edge": 2.0, "cloud": 3.0},
        sent={"device to edge": 100, "edge to cloud": 256},
    )


def _likeliest(best: tuple[str, ...], probability: float, ranks: int) -> Mapping[str, tuple[str, float]]:
    return {rank: (best[min(depth, len(best) - 1)], probability) for depth, rank in enumerate(RANKS[:ranks])}


def report(*outcomes: PhotoOutcome, **more: Any) -> EvaluationReport:
    return measure(Evaluation(outcomes, {"device": "lite0@1"}), **more)
