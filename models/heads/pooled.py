"""Two heads asked about one vector, and what both say together: calibrated species over the tree.

::

    feature or vector --TreeHead (tuned before release)--------> species \\
                                                                          pooled, tempered rank by rank --> species
    vector --LinearHead (solved from sums, which go on growing)-> species /

The tuned head knows ImageNet's world and the packs as well as a linear head can. The solved one (`heads.discriminants`)
knows what the sums hold: it takes in an event, a site or a release by adding integers, and forgets as exactly. Each is
the better witness somewhere, and their errors differ: pooled they beat either (figures in the model's card). Of the
kingdom the tuned head speaks alone: on pictures unlike those that were summed (blown up from 64 pixels) the solved one
takes too many animals for things.

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

# How much the solved witness counts beside the tuned one; 0.1 to 0.3 do equally well on held-out photos.
SOLVED_SHARE = 0.2
# Nothing is less likely than that to a witness: none can veto what the other is sure of.
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, slots=True)
class Temperatures:
    """One a rank: how much to soften (above 1) or sharpen (below 1) the choice among siblings."""

    kingdom: float = 1.0
    family: float = 1.0
    species: float = 1.0

    @classmethod
    def of(cls, arrays: Arrays) -> Temperatures:
        """From the zoo's ``tree.npz`` or ``vector.npz``."""
        return cls(*(float(value) for value in arrays["rank_temperatures"]))


@dataclass(frozen=True, slots=True)
class Novelty:
    """How likely a picture shows a species that only the solved head knows.

    sigmoid(slope * log-odds + doubt * log(1 - p) + offset): the log-odds are the solved head's own, of all such species
    against all others; p is the likeliest of those others, by both witnesses.
    """

    slope: float = 1.0
    offset: float = 0.0
    doubt: float = 0.0


NO_NOVELTY = Novelty()


@dataclass(frozen=True, slots=True, eq=False)
class PooledHeads:
    """The tuned head, the solved head, how both are weighed, and how their answers are tempered.

    The tree may have grown: species beyond the tuned head's are the solved one's alone.
    """

    tuned: TreeHead
    solved: LinearHead
    tree: Taxonomy
    temperatures: Temperatures
    share: float = SOLVED_SHARE
    novelty: Novelty = NO_NOVELTY

    @property
    def dimension(self) -> int:
        """The vector's length d."""
        return len(self.solved.weights)

    def species(self, x: Floats, vector: NDArray[np.uint8]) -> Floats:
        """Species (s,) from what the tuned head takes, and the vector (d,) of the same picture."""
        logits = self.solved.logits(vector)
        return witnessed(
            self.tree, self.tuned.species(x), logits, self.temperatures, self.share, self.novelty
        )


def witnessed(
    tree: Taxonomy,
    tuned: Floats,
    solved_logits: Floats,
    temperatures: Temperatures,
    share: float = SOLVED_SHARE,
    novelty: Novelty = NO_NOVELTY,
) -> Floats:
    """What both witnesses say together: tuned probabilities (..., t), logits (..., s) over a tree of s >= t species.

    Of the species that both know, the two are pooled and tempered. Those beyond take the share that `novelty` gives
    them, among themselves as the solved head says; so kingdoms and families follow what was learned.
    """
    known = tuned.shape[-1]
    both = tempered(tree, pooled(tree, tuned, softmax(solved_logits[..., :known]), share), temperatures)
    if known == solved_logits.shape[-1]:
        return both
    new = new_share(solved_logits, both, novelty)[..., None]
    among = np.asarray(softmax(solved_logits[..., known:]), np.float64)
    return np.concatenate([(1 - new) * both, new * among], axis=-1).astype(np.float32)


def new_share(solved_logits: Floats, both: NDArray[np.floating], novelty: Novelty) -> NDArray[np.float64]:
    """How likely (...,) each of some logits (..., s) is of a species beyond those that both witnesses know, (..., t)."""
    return heard(*signs_of_new(solved_logits, both), novelty)


def signs_of_new(
    solved_logits: Floats, both: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The solved head's log-odds of all species beyond the known ones, and log(1 - p) of the likeliest known one, (...,)."""
    halves = np.split(solved_logits.astype(np.float64), [both.shape[-1]], -1)
    tops = [its.max(-1, keepdims=True) for its in halves]
    old, new = (
        np.log(np.exp(its - top).sum(-1)) + top[..., 0] for its, top in zip(halves, tops, strict=True)
    )
    return new - old, np.log(np.maximum(1 - both.max(-1), LEAST_PROBABILITY))


def heard(odds: NDArray[np.float64], unsure: NDArray[np.float64], novelty: Novelty) -> NDArray[np.float64]:
    """`Novelty`'s formula."""
    at = np.clip(novelty.slope * odds + novelty.doubt * unsure + novelty.offset, -50, 50)
    return np.asarray(1 / (1 + np.exp(-at)), np.float64)


def pooled(tree: Taxonomy, tuned: Floats, solved: Floats, share: float = SOLVED_SHARE) -> Floats:
    """Probabilities (..., s) of both witnesses -> of both (..., s); the kingdoms' sums stay the tuned head's.

    `s` may end before the tree's species do.
    """
    kingdom_of = tree.kingdom_of[tree.family_of][: tuned.shape[-1]]
    tuned_log, solved_log = (
        np.log(np.asarray(its, np.float64) + LEAST_PROBABILITY) for its in (tuned, solved)
    )
    both = np.asarray(softmax(tuned_log + share * solved_log), np.float64)
    wanted, found = (
        sums_over(np.asarray(its, np.float64), kingdom_of, len(KINGDOMS)) for its in (tuned, both)
    )
    return np.asarray(both * (wanted / (found + 1e-12))[..., kingdom_of], np.float32)


def tempered(tree: Taxonomy, species: Floats, temperatures: Temperatures) -> Floats:
    """Probabilities (..., s), each rank's choice among siblings brought to its own temperature.

    P(species) = P(kingdom) P(family | kingdom) P(species | family), and each of the three becomes p^(1/T), normalised
    among its siblings. The order of siblings never changes.
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
    """Shares (..., n) among siblings -> p^(1/T), summing to 1 under each parent again."""
    raised = shares ** (1 / temperature)
    return raised / sums_over(raised, parent, int(parent.max()) + 1)[..., parent]


def sums_over(values: NDArray[np.float64], parent: NDArray[np.intp], parents: int) -> NDArray[np.float64]:
    """Sums over children (..., n) -> (..., parents)."""
    sums: NDArray[np.float64] = values @ np.eye(parents)[parent]
    return sums
