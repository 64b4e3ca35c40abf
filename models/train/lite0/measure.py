"""What the training scripts measure: accuracy by rank, a temperature a rank, and thresholds with a bound on their risk.

Everything takes probabilities over the tree's species (n, s) and true species (n,) of held-out photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats
from models.heads.pooled import Temperatures, sums_over
from models.labels.calibration import binomial_tail, error_bound, fit_temperature
from models.labels.taxonomy import KINGDOMS, Taxonomy
from models.manifest import Threshold

LIVING = (KINGDOMS.index("animal"), KINGDOMS.index("plant"))
# A kingdom only has to be likelier than not: below it there is nothing to fall back on but `unknown`.
KINGDOM_THRESHOLD = 0.5
RISKS: Mapping[str, float] = MappingProxyType({"family": 0.05, "species": 0.08})
"""The largest share of wrong answers that a rank's threshold may allow, with 90% certainty."""
# Log odds of what a rank's parent rules out.
RULED_OUT = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class RankAccuracy:
    """Share of photos whose likeliest label is right, by rank; `loss` is the mean log-loss of the species, in nats."""

    kingdom: float
    family_of_animals: float
    species_of_animals: float
    species_of_plants: float
    loss: float

    def __str__(self) -> str:
        return (
            f"kingdom {self.kingdom:.3f}  animals: family {self.family_of_animals:.3f} species "
            f"{self.species_of_animals:.3f}  plants: species {self.species_of_plants:.3f}  loss {self.loss:.3f}"
        )


def families(tree: Taxonomy, species: Floats) -> Floats:
    """(n, species) -> (n, families)."""
    return sums_over(species.astype(np.float64), tree.family_of, len(tree.families)).astype(np.float32)


def kingdoms(tree: Taxonomy, species: Floats) -> Floats:
    """(n, species) -> (n, 4)."""
    of_species = tree.kingdom_of[tree.family_of]
    return sums_over(species.astype(np.float64), of_species, len(KINGDOMS)).astype(np.float32)


def right(tree: Taxonomy, species: Floats, truths: NDArray[np.intp]) -> RankAccuracy:
    """Measure the accuracy of the likeliest label."""
    true_kingdom = tree.kingdom_of[tree.family_of[truths]]
    animal, plant = (true_kingdom == KINGDOMS.index(kingdom) for kingdom in ("animal", "plant"))
    is_species = species.argmax(1) == truths
    is_family = families(tree, species).argmax(1) == tree.family_of[truths]
    return RankAccuracy(
        float((kingdoms(tree, species).argmax(1) == true_kingdom).mean()),
        float(is_family[animal].mean()),
        float(is_species[animal].mean()),
        float(is_species[plant].mean()),
        float(-np.log(species[np.arange(len(truths)), truths] + 1e-9).mean()),
    )


def fit_temperatures(tree: Taxonomy, species: Floats, truths: NDArray[np.intp]) -> Temperatures:
    """Fit the temperature of each rank's choice among siblings: kingdoms on all photos, the others on living things."""
    true_family = tree.family_of[truths]
    true_kingdom = tree.kingdom_of[true_family]
    alive = np.isin(true_kingdom, LIVING)

    def among(shares: Floats, parent: NDArray[np.intp], true_parent: NDArray[np.intp]) -> Floats:
        logs = np.log(shares + np.float32(1e-12))
        return np.where(parent[None, :] == true_parent[:, None], logs, RULED_OUT)[alive]

    return Temperatures(
        fit_temperature(np.log(kingdoms(tree, species) + np.float32(1e-12)), true_kingdom),
        fit_temperature(among(families(tree, species), tree.kingdom_of, true_kingdom), true_family[alive]),
        fit_temperature(among(species, tree.family_of, true_family), truths[alive]),
    )


def threshold(rank: str, scores: Floats, truths: NDArray[np.intp], leaves: NDArray[np.intp]) -> Threshold:
    """Return the threshold that keeps a rank's stated risk.

    `scores` is (n, k), `truths` (n,); `leaves` are labels of no such rank.
    Photos that show nothing living and are answered so count only for the kingdom: they are easy, and would hide what
    the answers about animals and plants risk.
    """
    best, sure = scores.argmax(1), scores.max(1)
    counts = np.ones(len(best), bool) if rank == "kingdom" else ~(np.isin(best, leaves) & np.isin(truths, leaves))
    sure, is_right = sure[counts], (best == truths)[counts]
    at = KINGDOM_THRESHOLD if rank == "kingdom" else threshold_for_risk(sure, is_right, RISKS[rank])
    # Written with three digits: rounded up, so that it answers no more than was measured.
    at = float(np.ceil(at * 1000) / 1000)
    answered = sure >= at
    wrong = int((answered & ~is_right).sum())
    return Threshold(
        at=at,
        held=len(sure),
        answered=int(answered.sum()),
        wrong=wrong,
        risk=round(error_bound(wrong, int(answered.sum())), 4),
    )


def threshold_for_risk(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], risk: float, certainty: float = 0.9
) -> float:
    """Return the lowest threshold whose answered events err at most `risk` of the time, with `certainty`; else 1.0.

    The bound is Clopper and Pearson's (1934) on the error among the answered held-out events (n,). It holds for each
    threshold by itself; over a scan it is a guide, not a proof. See Geifman & El-Yaniv 2017, selective classification
    (arXiv:1705.08500).
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~correct[order])
    best = 1.0
    for answered in range(1, len(order) + 1):
        last_of_equals = answered == len(order) or confidence[order[answered]] < confidence[order[answered - 1]]
        errors = int(wrong[answered - 1])
        # The upper limit lies below the risk exactly if so few errors would be that unlikely at the risk itself.
        if last_of_equals and errors < risk * answered and binomial_tail(errors, answered, risk) <= 1 - certainty:
            best = float(confidence[order[answered - 1]])
    return best
