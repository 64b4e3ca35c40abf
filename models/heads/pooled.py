r"""Two heads read one vector, and their answers are pooled: calibrated species over the tree.

::

    feature or vector --TreeHead (tuned before release)--------> species \
                                                                          pooled, tempered rank by rank --> species
    vector --LinearHead (solved from sums, which go on growing)-> species /

The tuned head knows ImageNet's photos and the packs as well as a linear head can. The solved head (`discriminants`)
knows the sums: it learns an event, a site or a release by adding integers, and forgets as exactly. Their errors
differ, so that the pool is better than either (figures in the model's card). The tuned head alone decides the kingdom:
on pictures unlike those in the sums (enlarged from 64 pixels), the solved head takes too many animals for things.

Example::

    head = PooledHeads(tuned, discriminants(sums), tree, Temperatures(kingdom=0.9, family=0.8, species=0.8))
    head.species(components(vector, 256), vector)    # float32 (species,)

Sources: logarithmic opinion pools, Genest & Zidek 1986 (Statistical Science 1:114); temperature scaling, Guo et al.
2017 (arXiv:1706.04599), here of each rank's choice among its siblings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Arrays, Floats, TreeHead
from models.heads.solve import LinearHead
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, Taxonomy

# The weight of the solved head beside the tuned head; 0.1 to 0.3 do equally well on held-out photos.
SOLVED_SHARE = 0.2
# The least probability that a head gives: neither can veto what the other is sure of.
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, slots=True)
class Temperatures:
    """A temperature for each rank: above 1 softens the choice among siblings, below 1 sharpens it."""

    kingdom: float = 1.0
    family: float = 1.0
    species: float = 1.0

    @classmethod
    def of(cls, arrays: Arrays) -> Temperatures:
        """Read the zoo's ``tree.npz`` or ``vector.npz``."""
        return cls(*(float(value) for value in arrays["rank_temperatures"]))


@dataclass(frozen=True, slots=True)
class Novelty:
    """Estimates how likely a picture shows a species that only the solved head knows.

    sigmoid(slope * log-odds + doubt * log(1 - p) + offset). The log-odds are the solved head's, of all such species
    against all others; p is the pooled probability of the likeliest of those others.
    """

    slope: float = 1.0
    offset: float = 0.0
    doubt: float = 0.0


NO_NOVELTY = Novelty()


@dataclass(frozen=True, slots=True, eq=False)
class PooledHeads:
    """The tuned head, the solved head, their weights and their temperatures.

    The tree may have grown: only the solved head knows the species that the tuned head lacks.
    """

    tuned: TreeHead
    solved: LinearHead
    tree: Taxonomy
    temperatures: Temperatures
    share: float = SOLVED_SHARE
    novelty: Novelty = NO_NOVELTY

    @property
    def dimension(self) -> int:
        """The length d of the vector."""
        return len(self.solved.weights)

    def species(self, x: Floats, vector: NDArray[np.uint8]) -> Floats:
        """Return species (s,) from the tuned head's input and the vector (d,) of the same picture."""
        logits = self.solved.logits(vector)
        return pooled_species(self.tree, self.tuned.species(x), logits, self.temperatures, self.share, self.novelty)


def pooled_species(
    tree: Taxonomy,
    tuned: Floats,
    solved_logits: Floats,
    temperatures: Temperatures,
    share: float = SOLVED_SHARE,
    novelty: Novelty = NO_NOVELTY,
) -> Floats:
    """Pool tuned probabilities (..., t) and solved logits (..., s) over a tree of s >= t species.

    The species that both heads know are pooled and tempered. All further species together get the share that `novelty`
    gives them; the solved head divides it among them. So kingdoms and families follow what was learned.
    """
    known = tuned.shape[-1]
    both = tempered(tree, pooled(tree, tuned, softmax(solved_logits[..., :known]), share), temperatures)
    if known == solved_logits.shape[-1]:
        return both
    new = new_share(solved_logits, both, novelty)[..., None]
    among = np.asarray(softmax(solved_logits[..., known:]), np.float64)
    return np.concatenate([(1 - new) * both, new * among], axis=-1).astype(np.float32)


def new_share(solved_logits: Floats, both: NDArray[np.floating], novelty: Novelty) -> NDArray[np.float64]:
    """Return the probability (...,) of a species that the tuned head lacks, for logits (..., s) and `both` (..., t)."""
    return new_probability(*signs_of_new(solved_logits, both), novelty)


def signs_of_new(solved_logits: Floats, both: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the solved head's log-odds of all new species, and log(1 - p) of the likeliest known one, each (...,)."""
    halves = np.split(solved_logits.astype(np.float64), [both.shape[-1]], -1)
    tops = [half.max(-1, keepdims=True) for half in halves]
    old, new = (np.log(np.exp(half - top).sum(-1)) + top[..., 0] for half, top in zip(halves, tops, strict=True))
    return new - old, np.log(np.maximum(1 - both.max(-1), LEAST_PROBABILITY))


def new_probability(odds: NDArray[np.float64], unsure: NDArray[np.float64], novelty: Novelty) -> NDArray[np.float64]:
    """Apply `Novelty`'s formula."""
    at = np.clip(novelty.slope * odds + novelty.doubt * unsure + novelty.offset, -50, 50)
    return np.asarray(1 / (1 + np.exp(-at)), np.float64)


def pooled(tree: Taxonomy, tuned: Floats, solved: Floats, share: float = SOLVED_SHARE) -> Floats:
    """Pool the probabilities (..., s) of both heads, keeping the tuned head's sums over kingdoms.

    `s` may be smaller than the number of the tree's species.
    """
    kingdom_of = tree.kingdom_of[tree.family_of][: tuned.shape[-1]]
    tuned_log, solved_log = (np.log(np.asarray(each, np.float64) + LEAST_PROBABILITY) for each in (tuned, solved))
    both = np.asarray(softmax(tuned_log + share * solved_log), np.float64)
    wanted, found = (sums_over(np.asarray(each, np.float64), kingdom_of, len(KINGDOMS)) for each in (tuned, both))
    return np.asarray(both * (wanted / (found + 1e-12))[..., kingdom_of], np.float32)


def tempered(tree: Taxonomy, species: Floats, temperatures: Temperatures) -> Floats:
    """Apply each rank's temperature to probabilities (..., s).

    P(species) = P(kingdom) P(family | kingdom) P(species | family), and each of the three becomes p^(1/T), normalised
    among siblings. The order of siblings never changes.
    """
    given = np.asarray(species, np.float64) + 1e-12
    family_of = tree.family_of[: given.shape[-1]]
    kingdom_of = tree.kingdom_of[: int(family_of.max()) + 1]
    families = sums_over(given, family_of, len(kingdom_of))
    kingdoms = sums_over(families, kingdom_of, len(KINGDOMS))
    of_species = _among(given / families[..., family_of], family_of, temperatures.species)
    of_family = _among(families / kingdoms[..., kingdom_of], kingdom_of, temperatures.family)
    of_kingdom = _among(kingdoms, np.zeros(len(KINGDOMS), np.intp), temperatures.kingdom)
    joint = of_species * (of_family * of_kingdom[..., kingdom_of])[..., family_of]
    return np.asarray(joint, np.float32)


def _among(shares: NDArray[np.float64], parent: NDArray[np.intp], temperature: float) -> NDArray[np.float64]:
    """Return p^(1/T) of shares (..., n) among siblings, normalised to sum to 1 under each parent."""
    raised = shares ** (1 / temperature)
    return raised / sums_over(raised, parent, int(parent.max()) + 1)[..., parent]


def sums_over(values: NDArray[np.float64], parent: NDArray[np.intp], parents: int) -> NDArray[np.float64]:
    """Sum over the children of each parent: (..., n) -> (..., parents)."""
    sums: NDArray[np.float64] = values @ np.eye(parents)[parent]
    return sums
