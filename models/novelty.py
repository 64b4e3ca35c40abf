"""How much the solved head, and the labels that it alone knows, are heard: chosen by held-out events and golden photos. Pure.

A new label that is heard too little is never answered; heard too much, it takes photos from all that was known before. So of all
settings that cost the golden photos at most `HEARD_LOSS` at a rank, the one is taken under which held-out events and
golden photos are likeliest.

Example::

    calibration = choose(base, tree, learned, golden, held)     # both as `Photos`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.eye_heads import LEVELS_PER_SIGMA, ZERO_LEVEL, Floats, TreeHead
from models.head_base import HeadBase
from models.head_release import Calibration
from models.heads import LinearHead
from models.scores import softmax
from models.taxonomy import KINGDOMS, Taxonomy
from models.witnesses import Novelty, new_share, pooled, sums_over, tempered
from pipeline.sums import Sums

HEARD_LOSS: Final = 0.0025
"""Half of what old classes may lose in all: the other half is for photos that nothing was chosen on."""

SHRINKS: Final = (0.3, 1.0)
SHARES: Final = (0.1, 0.2, 0.4)
SLOPES: Final = (0.25, 0.5, 1.0)
OFFSETS: Final = tuple(np.arange(-8.0, 4.01, 0.25).tolist())
FAINTEST: Final = 1e-6

Floats64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Vectors (n, d), their labels of any rank, and what the tuned head says of each, (n, species of the base)."""

    vectors: NDArray[np.uint8]
    labels: tuple[str, ...]
    tuned: Floats

    @classmethod
    def of(cls, tuned: TreeHead, vectors: NDArray[np.uint8], labels: Sequence[str]) -> Photos:
        """Asks the tuned head once: it never changes."""
        known = len(tuned.kingdom_of)
        x = (vectors.astype(np.float32) - ZERO_LEVEL) / np.float32(LEVELS_PER_SIGMA)
        return cls(vectors, tuple(labels), tuned.species(x) if len(x) else np.empty((0, known), np.float32))

    def chosen(self, kept: Sequence[bool]) -> Photos:
        """Those that a mask keeps."""
        mask = np.array(kept, bool).reshape(len(self.labels))
        labels = tuple(label for label, keep in zip(self.labels, mask, strict=True) if keep)
        return Photos(self.vectors[mask], labels, self.tuned[mask])


def choose(base: HeadBase, tree: Taxonomy, learned: Sums, golden: Photos, held: Photos) -> Calibration:
    """The calibration of a head that learned these sums; `golden` photos show species that the base knows."""
    plain = Calibration(edge=base.calibration.edge, cloud=base.calibration.cloud)
    found: list[tuple[float, Calibration]] = []
    least = _right_before(base, golden) - HEARD_LOSS
    for shrink in SHRINKS:
        solved = base.solved(tree, learned, msgspec.structs.replace(plain, shrink=shrink))
        for share in SHARES:
            golden_asked = _Asked.of(base, tree, solved, golden, share)
            held_asked = _Asked.of(base, tree, solved, held, share)
            for novelty in _novelties(base, tree, held):
                if (golden_asked.right(novelty) >= least).all():
                    worth = golden_asked.surety(novelty) + held_asked.surety(novelty)
                    # With nothing to judge new labels by they are heard as the sums say, or less.
                    its = msgspec.structs.replace(plain, shrink=shrink, solved_share=share, novelty=novelty)
                    found.append((worth, its))
    return max(found, key=lambda its: its[0])[1] if found else plain


def _novelties(base: HeadBase, tree: Taxonomy, held: Photos) -> Iterator[Novelty]:
    if len(tree.species) == len(base.tree.species):
        yield Novelty()
    elif any(label not in base.tree.paths for label in held.labels):
        yield from (Novelty(slope, offset) for slope in SLOPES for offset in OFFSETS)
    else:
        yield Novelty()


def _right_before(base: HeadBase, golden: Photos) -> Floats64:
    grown = base.grown()
    asked = _Asked.of(base, base.tree, grown.solved, golden, base.calibration.solved_share)
    return asked.right(Novelty())


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What a solved head and the tuned one say of some photos, before anything is known of how new they are."""

    tree: Taxonomy
    old: Floats64
    among: Floats64
    logits: Floats
    under: NDArray[np.bool_]

    @classmethod
    def of(cls, base: HeadBase, tree: Taxonomy, solved: LinearHead, photos: Photos, share: float) -> _Asked:
        known = len(base.tree.species)
        logits = solved.logits(photos.vectors)
        both = pooled(tree, photos.tuned, softmax(logits[:, :known]), share)
        old = np.asarray(tempered(tree, both, base.calibration.cloud), np.float64)
        among = (
            np.asarray(softmax(logits[:, known:]), np.float64)
            if logits.shape[1] > known
            else np.empty((len(old), 0))
        )
        paths = [(*tree.path(species), species) for species in tree.species]
        rows = {label: np.array([label in path for path in paths]) for label in set(photos.labels)}
        under = np.array([rows[label] for label in photos.labels], bool).reshape(len(old), len(tree.species))
        return cls(tree, old, among, logits, under)

    def species(self, novelty: Novelty) -> Floats64:
        if not self.among.shape[1]:
            return self.old
        new = new_share(self.logits, self.old.shape[1], novelty)[:, None]
        return np.hstack([(1 - new) * self.old, new * self.among])

    def right(self, novelty: Novelty) -> Floats64:
        """The shares whose likeliest kingdom and species are right."""
        species = self.species(novelty)
        kingdom_of = self.tree.kingdom_of[self.tree.family_of]
        kingdoms = sums_over(species, kingdom_of, len(KINGDOMS))
        true_kingdom = kingdom_of[self.under.argmax(1)]
        of_species = self.under[np.arange(len(species)), species.argmax(1)]
        return np.array([(kingdoms.argmax(1) == true_kingdom).mean(), of_species.mean()])

    def surety(self, novelty: Novelty) -> float:
        """Mean log-probability of the labels, in nats; 0 where there are no photos."""
        if not len(self.old):
            return 0.0
        return float(np.log((self.species(novelty) * self.under).sum(1) + FAINTEST).mean())
