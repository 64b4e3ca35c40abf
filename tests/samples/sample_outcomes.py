"""Outcomes of photos as an evaluation counts them, for the tests of its figures and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.evaluation.evaluate import Evaluation, Outcome, Told
from models.evaluation.metrics import Report, measure
from models.labels.taxonomy import load_taxonomy

TREE = load_taxonomy()
TIGER, JAGUAR, WOLF = (TREE.path(TREE.find(name)) for name in ("tiger", "jaguar", "wolf"))


def told(path: tuple[str, ...], best: tuple[str, ...], probability: float, ranks: int) -> Told:
    likeliest = {
        rank: (best[min(depth, len(best) - 1)], probability)
        for depth, rank in enumerate(("kingdom", "family", "species")[:ranks])
    }
    return Told(path, probability, probability, likeliest)


def outcome(
    truth: tuple[str, ...],
    best: tuple[str, ...] | None = None,
    probability: float = 0.9,
    answered: Mapping[str, tuple[str, ...]] | None = None,
    **more: Any,
) -> Outcome:
    """The tiers find `best`, and answer it as deep as each may, or what `answered` says."""
    best = truth if best is None else best
    answers = {"device": best[:1], "edge": best[:2], "cloud": best} | dict(answered or {})
    fields: dict[str, Any] = {
        "name": "photo",
        "truth": truth,
        "told": {
            tier: told(answers[tier], best, probability, ranks)
            for tier, ranks in (("device", 1), ("edge", 2), ("cloud", 3))
        },
        "person": 0.0,
        "person_raised": False,
        "edge_person_raised": False,
        "ms": {"device": 1.0, "edge": 2.0, "cloud": 3.0},
        "sent": {"device to edge": 100, "edge to cloud": 256},
    }
    return Outcome(**(fields | more))


def report(*outcomes: Outcome, **more: Any) -> Report:
    return measure(Evaluation(outcomes, {"device": "lite0@1"}), **more)
