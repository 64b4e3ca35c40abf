"""What a release of heads adds to: a zoo model's label tree, its shipped sums, its tuned head over vectors.

::

    shipped sums + learned sums --discriminants--> solved head --+
    tuned head (knows the base's species) ----------------------+--> PooledHeads over the grown tree

Example::

    base = load_zoo().base()
    grown = base.grown(release)             # or None: the base alone
    grown.witnesses(base.tuned, grown.calibration.cloud).species(components(vector, 256), vector)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from models.heads.linear import TreeHead
from models.heads.pooled import PooledHeads, Temperatures
from models.heads.release import Calibration, HeadRelease
from models.heads.solve import LinearHead, discriminants
from models.labels.taxonomy import Taxonomy
from models.manifest import Manifest
from pipeline.sums.sums import Sums


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """A base with a release in it, or without one: what an eye is made of beside its own tuned head."""

    title: str
    tree: Taxonomy
    solved: LinearHead
    calibration: Calibration
    thresholds: Mapping[str, float]

    def witnesses(self, tuned: TreeHead, temperatures: Temperatures) -> PooledHeads:
        """Both witnesses, weighed as the calibration says."""
        its = self.calibration
        return PooledHeads(tuned, self.solved, self.tree, temperatures, its.solved_share, its.novelty)


@dataclass(frozen=True, slots=True, eq=False)
class HeadBase:
    """A zoo's model without its networks. `tuned` reads vectors; `calibration` are the model's own temperatures."""

    manifest: Manifest
    tree: Taxonomy
    sums: Sums
    tuned: TreeHead
    calibration: Calibration
    thresholds: Mapping[str, float]

    def grown(self, release: HeadRelease | None = None) -> Grown:
        """With what a release learned. Raises `Rejected` where it is of another base, or learned what its tree lacks."""
        if release is None:
            return Grown(
                self.manifest.title, self.tree, discriminants(self.sums), self.calibration, self.thresholds
            )
        release.check_base(self.manifest)
        tree = release.tree(self.tree)
        return Grown(
            release.title,
            tree,
            self.solved(tree, release.learned(self.tree), release.calibration),
            release.calibration,
            MappingProxyType({**self.thresholds, **release.calibration.thresholds}),
        )

    def solved(self, tree: Taxonomy, learned: Sums, calibration: Calibration) -> LinearHead:
        """The head of shipped and learned sums together, regularised as the calibration says, over a grown tree's species.

        `learned` has columns for these, and maybe more: labels of other ranks, which are not answered.
        """
        sums = self.sums.with_labels(learned.labels).merge(learned)
        head = discriminants(sums, "species", calibration.shrink, calibration.prior)
        count = len(tree.species)
        return replace(head, labels=tree.species, weights=head.weights[:, :count], bias=head.bias[:count])

    def head(self, release: HeadRelease | None = None) -> PooledHeads:
        """What answers of a vector, as the cloud asks it."""
        grown = self.grown(release)
        return grown.witnesses(self.tuned, grown.calibration.cloud)
