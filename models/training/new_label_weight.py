"""Choose the weight of the solved head and of new labels, by held-out events and golden photos. Pure.

Only the solved head knows new labels. A new label with too little weight is never answered; with too much it takes
photos from the known labels. So of all settings that cost the golden photos at most `HEARD_LOSS` at a rank, `choose`
takes the one under which most held-out events are named right; of several, the one under which the labels of those and
of the golden photos are likeliest.

Example::

    calibration = choose(base, tree, learned, golden, held)     # both as `LabelledVectors`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.base import HeadBase
from models.heads.linear import LEVELS_PER_SIGMA, ZERO_LEVEL, Floats, TreeHead
from models.heads.pooled import Novelty, new_probability, pooled, signs_of_new, sums_over, tempered
from models.heads.release import Calibration
from models.heads.solve import LinearHead
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, Taxonomy
from pipeline.sums.sums import Sums

HEARD_LOSS: Final = 0.002
"""Less than old classes may lose in all (0.005), since photos that no setting was chosen by lose more."""

SHRINKS: Final = (0.3, 1.0)
SLOPES: Final = (0.25, 0.5, 1.0)
DOUBTS: Final = (0.0, 1.0, 2.0)
OFFSETS: Final = tuple(np.arange(-8.0, 8.01, 0.5).tolist())
FAINTEST: Final = 1e-6

Floats64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVectors:
    """Vectors (n, d), labels of any rank, and the tuned head's species of each, (n, species of the base)."""

    vectors: NDArray[np.uint8]
    labels: tuple[str, ...]
    tuned: Floats

    @classmethod
    def of(cls, tuned: TreeHead, vectors: NDArray[np.uint8], labels: Sequence[str]) -> LabelledVectors:
        """Ask the tuned head, once for all, since it never changes."""
        known = len(tuned.kingdom_of)
        x = (vectors.astype(np.float32) - ZERO_LEVEL) / np.float32(LEVELS_PER_SIGMA)
        return cls(vectors, tuple(labels), tuned.species(x) if len(x) else np.empty((0, known), np.float32))

    def chosen(self, kept: Sequence[bool]) -> LabelledVectors:
        """Return the vectors that a mask keeps."""
        mask = np.array(kept, bool).reshape(len(self.labels))
        labels = tuple(label for label, keep in zip(self.labels, mask, strict=True) if keep)
        return LabelledVectors(self.vectors[mask], labels, self.tuned[mask])


def choose(
    base: HeadBase, tree: Taxonomy, learned: Sums, golden: LabelledVectors, held: LabelledVectors
) -> Calibration:
    """Return the calibration of a head that learned these sums; `golden` photos show species that the base knows."""
    plain = Calibration(edge=base.calibration.edge, cloud=base.calibration.cloud)
    served = _Asked.of(base, base.tree, base.grown().solved, golden)
    least = served.right(np.zeros(len(golden.labels))) - HEARD_LOSS
    best: tuple[int, float] = (-1, 0.0)
    chosen = plain
    for shrink in SHRINKS:
        solved = base.solved(tree, learned, msgspec.structs.replace(plain, shrink=shrink))
        golden_asked, held_asked = (_Asked.of(base, tree, solved, photos) for photos in (golden, held))
        for novelty in _novelties(base, tree, held):
            of_golden, of_held = golden_asked.new_of(novelty), held_asked.new_of(novelty)
            if (golden_asked.right(of_golden) < least).any():
                continue
            sure = golden_asked.surety(of_golden) + held_asked.surety(of_held)
            worth = int(held_asked.is_right(of_held).sum()), sure
            if worth > best or best[0] < 0:
                best, chosen = worth, msgspec.structs.replace(plain, shrink=shrink, novelty=novelty)
    return chosen


def _novelties(base: HeadBase, tree: Taxonomy, held: LabelledVectors) -> Iterator[Novelty]:
    if len(tree.species) == len(base.tree.species):
        yield Novelty()
    elif any(label not in base.tree.paths for label in held.labels):
        yield from (Novelty(slope, offset, doubt) for slope in SLOPES for doubt in DOUBTS for offset in OFFSETS)
    else:
        # Without held-out events of new labels, the sums alone weigh these.
        yield Novelty()


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Probabilities of some photos over one side of the species, known before or new.

    `best` is the likeliest one's and `is_right` whether it is right (n,), `kingdoms` are the shares (n, 4), `truth` is
    the true label's probability (n,).
    """

    best: Floats64
    is_right: NDArray[np.bool_]
    kingdoms: Floats64
    truth: Floats64

    @classmethod
    def of(cls, species: Floats64, under: NDArray[np.bool_], kingdom_of: NDArray[np.intp]) -> _Side:
        if not species.shape[1]:
            nothing = np.zeros(len(species))
            return cls(nothing, nothing > 0, np.zeros((len(species), len(KINGDOMS))), nothing)
        at, rows = species.argmax(1), np.arange(len(species))
        kingdoms = sums_over(species, kingdom_of, len(KINGDOMS))
        kingdoms = np.pad(kingdoms, ((0, 0), (0, len(KINGDOMS) - kingdoms.shape[1])))
        return cls(species[rows, at], under[rows, at], kingdoms, (species * under).sum(1))


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The predictions of a solved head and the tuned one about some photos, apart for known and new species."""

    old: _Side
    new: _Side
    odds: Floats64 | None
    unsure: Floats64
    true_kingdom: NDArray[np.intp]

    @classmethod
    def of(cls, base: HeadBase, tree: Taxonomy, solved: LinearHead, photos: LabelledVectors) -> _Asked:
        known, logits = len(base.tree.species), solved.logits(photos.vectors)
        both = pooled(tree, photos.tuned, softmax(logits[:, :known]), base.calibration.solved_share)
        old = np.asarray(tempered(tree, both, base.calibration.cloud), np.float64)
        among, odds, unsure = np.zeros((len(old), 0)), None, np.zeros(len(old))
        if logits.shape[1] > known:
            odds, unsure = signs_of_new(logits, old)
            among = np.asarray(softmax(logits[:, known:]), np.float64)
        paths = [(*tree.path(species), species) for species in tree.species]
        rows = {label: np.array([label in path for path in paths]) for label in set(photos.labels)}
        under = np.array([rows[label] for label in photos.labels], bool).reshape(len(old), len(tree.species))
        kingdom_of = tree.kingdom_of[tree.family_of]
        return cls(
            _Side.of(old, under[:, :known], kingdom_of[:known]),
            _Side.of(among, under[:, known:], kingdom_of[known:]),
            odds,
            unsure,
            kingdom_of[under.argmax(1)],
        )

    def new_of(self, novelty: Novelty) -> Floats64:
        """Return the probability that each photo shows a new label (n,)."""
        return np.zeros(len(self.unsure)) if self.odds is None else new_probability(self.odds, self.unsure, novelty)

    def is_right(self, new: Floats64) -> NDArray[np.bool_]:
        """Return which photos are named right, at the rank of their labels."""
        return np.where(new * self.new.best > (1 - new) * self.old.best, self.new.is_right, self.old.is_right)

    def right(self, new: Floats64) -> Floats64:
        """Return the shares of photos whose likeliest kingdom and species are right."""
        kingdoms = (1 - new)[:, None] * self.old.kingdoms + new[:, None] * self.new.kingdoms
        return np.array([(kingdoms.argmax(1) == self.true_kingdom).mean(), self.is_right(new).mean()])

    def surety(self, new: Floats64) -> float:
        """Return the mean log-probability of the labels, in nats; 0 without photos."""
        if not len(new):
            return 0.0
        return float(np.log((1 - new) * self.old.truth + new * self.new.truth + FAINTEST).mean())
