"""The shipped model that a release of heads adds to: its label tree, its sums and its tuned head.

::

    shipped sums + learned sums --discriminants--> solved head --+
    tuned head (knows the base's species) ----------------------+--> PooledHeads over the grown tree

Example::

    base = load_zoo().base()
    grown = base.grown(release)             # base.grown(None) is the base alone
    grown.pooled_heads(base.tuned, grown.calibration.cloud).species(components(vector, 256), vector)
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
    """A base with or without a release: everything that a tier's model needs beside its tuned head."""

    title: str
    tree: Taxonomy
    solved: LinearHead
    calibration: Calibration
    thresholds: Mapping[str, float]

    def pooled_heads(self, tuned: TreeHead, temperatures: Temperatures) -> PooledHeads:
        """Return the tuned and the solved head, weighed by the calibration."""
        share, novelty = self.calibration.solved_share, self.calibration.novelty
        return PooledHeads(tuned, self.solved, self.tree, temperatures, share, novelty)


@dataclass(frozen=True, slots=True, eq=False)
class HeadBase:
    """A shipped model without its networks. `tuned` reads vectors; `calibration` holds the model's own temperatures."""

    manifest: Manifest
    tree: Taxonomy
    sums: Sums
    tuned: TreeHead
    calibration: Calibration
    thresholds: Mapping[str, float]

    def grown(self, release: HeadRelease | None = None) -> Grown:
        """Add a release. Raises `Rejected` if it has another base, or learned a label that its tree lacks."""
        if release is None:
            return Grown(self.manifest.title, self.tree, discriminants(self.sums), self.calibration, self.thresholds)
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
        """Solve the head of shipped and learned sums together, over the species of a grown tree.

        `learned` may also have columns for labels of other ranks, which are never answered.
        """
        sums = self.sums.with_labels(learned.labels).merge(learned)
        head = discriminants(sums, "species", calibration.shrink, calibration.prior)
        count = len(tree.species)
        return replace(head, labels=tree.species, weights=head.weights[:, :count], bias=head.bias[:count])

    def head(self, release: HeadRelease | None = None) -> PooledHeads:
        """Return the heads that answer a vector in the cloud."""
        grown = self.grown(release)
        return grown.pooled_heads(self.tuned, grown.calibration.cloud)
