"""A site's own head: solved from what the site labelled, pooled with what the general head says. Pure.

::

    vectors of a visit --ridge head--> labels, unseen ------+
                                                            +-- pooled, tempered --> species over the site's tree
    general head's species --summed by label, unseen -------+

The head knows the labels that were given, of any rank, and that there are others: `unseen`. By Good and Turing's count a visit is
of none of them about as often as labels that were seen once were. Who labels what he is asked about, or only what is new, labels no
fair sample, though: a running edge therefore also solves its head against the shipped sums as a `BackgroundSums`, weighed down to the
site's own events. What they hold under a label speaks for it, the rest for `unseen`: a label has to be told from all the world, not
only from the site's other labels. What the head says of labels and of `unseen` is weighed with what the general head says of the
same; within a label, and within `unseen`, the general head speaks alone.

Example::

    head = SiteHead.of(tree, sums, unseen=0.05, weighing=Weighing(), background=BackgroundSums.of(zoo.sums()))
    head.consensus(vectors, general)        # float32 (species,): of one visit

Sources: Good 1953 (Biometrika 40:237) for what was never seen; logarithmic opinion pools, Genest & Zidek 1986; ridge heads
that learn by addition, McDonnell et al. 2023 (RanPAC, arXiv:2307.02251).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats
from models.heads.solve import LinearHead, ridge_head, solve
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, RANKS, Taxonomy
from pipeline.sums.sums import Sums

RIDGE = 0.1
"""A hundred times what the packs' sums are solved with: a camera's first visits are few and much alike."""

START_SHARE = 0.2
START_TEMPERATURE = 1.4
"""Before the site has visits enough to say how both heads are weighed."""

BACKGROUND_WEIGHT = 4.0
"""So many events the background counts for each event of the site's own. On held-out photos, with labels of five to seven species and
of no others, those others lose 1 to 2.5 points at 4, 6 to 8 at 2, and without a background all: docs/learning.md."""

FAINTEST = 1e-6
UNSEEN = "unseen"

Floats64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One labelled visit: vectors uint8 (n, d) of its frames, and what the general head says of each, (n, species).

    `key` names it among a site's lessons; a replay, which never takes one back, leaves it empty.
    """

    label: str
    vectors: NDArray[np.uint8]
    general: Floats
    key: str = ""


@dataclass(frozen=True, slots=True)
class Weighing:
    """How much the general head counts beside the site's, and the temperature of both together."""

    share: float = START_SHARE
    temperature: float = START_TEMPERATURE


UNWEIGHED = Weighing()


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundSums:
    """The shipped sums as floats: gram (d+1, d+1), cross (d+1, species) over the first species of the tree."""

    gram: Floats64
    cross: Floats64

    @classmethod
    def of(cls, sums: Sums) -> BackgroundSums:
        """Sums whose labels are the tree's species, in its order."""
        return cls(sums.gram.astype(np.float64), sums.cross.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Lessons as arrays: frames one after the other, `starts` (v,) where each visit's begin, `known` over the whole tree."""

    vectors: NDArray[np.uint8]
    known: Floats64
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, tree: Taxonomy, lessons: Sequence[Lesson]) -> Visits:
        """At least one lesson."""
        lengths = [len(its.vectors) for its in lessons]
        return cls(
            np.concatenate([its.vectors for its in lessons]),
            np.concatenate([extended(tree, its.general) for its in lessons]),
            np.cumsum([0, *lengths[:-1]]).astype(np.intp),
        )

    def mean(self, frames: Floats64) -> Floats64:
        """Of each visit: (frames, k) -> (visits, k)."""
        lengths = np.diff([*self.starts, len(self.vectors)])
        means: Floats64 = np.add.reduceat(frames, self.starts) / lengths[:, None]
        return means


@dataclass(frozen=True, slots=True, eq=False)
class SiteHead:
    """Species over the site's tree, from vectors and the general head's answers.

    `group_of` (species,) says which of `labels` a species stands under, or len(labels): none. `solved` is over the labels, and with a
    background over `UNSEEN`, too.
    """

    tree: Taxonomy
    labels: tuple[str, ...]
    solved: LinearHead | None
    group_of: NDArray[np.intp]
    unseen: float
    weighing: Weighing = UNWEIGHED

    @classmethod
    def of(
        cls, tree: Taxonomy, sums: Sums, unseen: float, weighing: Weighing, background: BackgroundSums | None
    ) -> SiteHead:
        """Solved from the labels of these sums that hold events; the general head alone where none does."""
        labels = tuple(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
        group_of = groups(tree, labels)
        solved = _solved(sums.with_labels(labels), group_of, background) if labels else None
        return cls(tree, labels, solved, group_of, unseen, weighing)

    def consensus(self, vectors: NDArray[np.uint8], general: Floats) -> Floats:
        """One visit's frames (n, d), (n, species) -> (species,): the mean of their log-probabilities, tempered."""
        species: Floats = self.answers(Visits.of(self.tree, [Lesson("", vectors, general)]))[0]
        return species

    def answers(self, visits: Visits) -> Floats:
        """The same of several visits: (visits, species)."""
        within = visits.mean(visits.known) + 1e-12
        if self.solved is None:
            return np.asarray(within / within.sum(1, keepdims=True), np.float32)
        site, known_groups = self.witnesses(visits)
        weighed = (site + self.weighing.share * known_groups) / self.weighing.temperature
        shares = softmax(weighed).astype(np.float64)
        by_group = within @ self._membership()
        species: Floats = (within * (shares / np.maximum(by_group, 1e-12))[:, self.group_of]).astype(
            np.float32
        )
        return species

    def witnesses(self, visits: Visits) -> tuple[Floats64, Floats64]:
        """Mean log-probabilities of each visit's frames, by the site's head and by the general one.

        Both over the labels that were learned, and `unseen` at last: (visits, labels + 1).
        """
        assert self.solved is not None
        said = softmax(self.solved.logits(visits.vectors) / self.solved.temperature).astype(np.float64)
        site = np.empty((len(said), len(self.labels) + 1))
        site[:, -1] = self.unseen
        if len(self.solved.labels) > len(self.labels):
            site[:, -1] = np.maximum(self.unseen, said[:, -1])
            said = said[:, :-1] / np.maximum(1 - said[:, -1:], FAINTEST)
        site[:, :-1] = said * (1 - site[:, -1:])
        known = visits.known @ self._membership()
        return visits.mean(np.log(site + FAINTEST)), visits.mean(np.log(known + FAINTEST))

    def _membership(self) -> Floats64:
        members: Floats64 = np.eye(len(self.labels) + 1)[self.group_of]
        return members


def _solved(sums: Sums, group_of: NDArray[np.intp], background: BackgroundSums | None) -> LinearHead:
    if background is None:
        return solve(sums, "species", RIDGE)
    weight = BACKGROUND_WEIGHT * sums.events / background.gram[-1, -1]
    members = np.eye(len(sums.labels) + 1)[group_of[: background.cross.shape[1]]]
    cross = weight * (background.cross @ members)
    cross[:, :-1] += sums.cross
    gram = sums.gram + weight * background.gram
    return ridge_head(sums.space, "species", (*sums.labels, UNSEEN), gram, cross, RIDGE)


def extended(tree: Taxonomy, general: Floats) -> Floats64:
    """The general head's species (n, s) over a tree that has grown.

    A new species takes half of its family's share; the first of a family that is new, what that family would have if its kingdom's
    were alike.
    """
    known = np.zeros((len(general), len(tree.species)))
    known[:, : general.shape[1]] = general
    kingdom_of = tree.kingdom_of[tree.family_of]
    for new in range(general.shape[1], len(tree.species)):
        siblings = tree.family_of[:new] == tree.family_of[new]
        if siblings.any():
            share = 0.5
        else:
            siblings = kingdom_of[:new] == kingdom_of[new]
            share = 1 / (1 + len(np.unique(tree.family_of[:new][siblings])))
        taken = known[:, :new][:, siblings].sum(1)
        known[:, :new][:, siblings] *= 1 - share
        known[:, new] = share * taken
    return known


def groups(tree: Taxonomy, labels: tuple[str, ...]) -> NDArray[np.intp]:
    """Of each species the deepest of these labels that it stands under, by position; len(labels): none.

    A leaf is its kingdom and a species at once; as a label it is the species: `other` is no fungus.
    """
    group_of = np.full(len(tree.species), len(labels), np.intp)
    kingdom_of = tree.kingdom_of[tree.family_of]
    # Shallow labels first, so that deeper ones have the last word.
    for at in sorted(range(len(labels)), key=lambda its: len(tree.path(labels[its]))):
        label = labels[at]
        if label in tree.species:
            group_of[tree.species.index(label)] = at
        elif label in tree.families:
            group_of[tree.family_of == tree.families.index(label)] = at
        else:
            group_of[kingdom_of == tree.kingdoms.index(label)] = at
    return group_of


def truths(tree: Taxonomy, species: Floats, labels: Sequence[str]) -> list[tuple[float, bool]]:
    """How likely each visit's label is by (visits, species), and whether it is likelier than all else at its rank."""
    families = species @ np.eye(len(tree.families), dtype=np.float32)[tree.family_of]
    kingdoms = families @ np.eye(len(KINGDOMS), dtype=np.float32)[tree.kingdom_of]
    by_rank = {
        "kingdom": (tree.kingdoms, kingdoms),
        "family": (tree.families, families),
        "species": (tree.species, species),
    }
    assert tuple(by_rank) == RANKS
    found = []
    for row, label in enumerate(labels):
        names, scores = by_rank[tree.rank(label)]
        at = names.index(label)
        found.append((float(scores[row, at]), int(scores[row].argmax()) == at))
    return found
