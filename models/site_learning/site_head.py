"""A site's own head: solved from the site's labels and pooled with the general head. Pure.

::

    vectors of a visit --ridge head--> labels, unseen ------+
                                                            +-- pooled, tempered --> species over the site's tree
    general head's species --summed by label, unseen -------+

The head knows the labels that were given, of any rank, and one further class for all others: `unseen`. By Good and
Turing's estimate a visit belongs to `unseen` about as often as labels were given a single time. But people who label
only on request, or only what is new, label no fair sample. A running edge therefore also solves its head against the
shipped sums, as `BackgroundSums`, weighed down to the site's own events: their events under a label count for it, all
others for `unseen`. So a label has to differ from everything, not only from the site's other labels. The shares
of the labels and of `unseen` are pooled with the general head's shares of the same; within a label, and within
`unseen`, the general head decides alone.

Example::

    head = SiteHead.of(tree, sums, unseen=0.05, weighing=Weighing(), background=BackgroundSums.of(zoo.sums()))
    head.consensus(vectors, general)        # float32 (species,): of one visit

Sources: Good 1953 (Biometrika 40:237) for what was never seen; logarithmic opinion pools, Genest & Zidek 1986; ridge
heads that learn by addition, McDonnell et al. 2023 (RanPAC, arXiv:2307.02251).
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
"""A hundred times the ridge of the packs' sums: a camera's first visits are few and much alike."""

START_SHARE = 0.2
START_TEMPERATURE = 1.4
"""Used until the site has visits enough to measure how both heads are weighed."""

BACKGROUND_WEIGHT = 4.0
"""The background counts for so many events to each event of the site's own. On held-out photos, with labels of five to
seven species, all other species lose 1 to 2.5 points at 4, 6 to 8 at 2, and all points without a background:
docs/explanation/site-learning.md."""

FAINTEST = 1e-6
UNSEEN = "unseen"

Floats64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One labelled visit: vectors uint8 (n, d) of the frames, and the general head's species of each, (n, species).

    `key` names it among a site's lessons; a replay, which never forgets a lesson, leaves it empty.
    """

    label: str
    vectors: NDArray[np.uint8]
    general: Floats
    key: str = ""


@dataclass(frozen=True, slots=True)
class Weighing:
    """The weight of the general head beside the site's, and the temperature of both together."""

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
        """Convert sums whose labels are the tree's species, in the tree's order."""
        return cls(sums.gram.astype(np.float64), sums.cross.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Lessons as arrays: all frames, `starts` (v,) of each visit, `known` (frames, species) over the whole tree."""

    vectors: NDArray[np.uint8]
    known: Floats64
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, tree: Taxonomy, lessons: Sequence[Lesson]) -> Visits:
        """Stack lessons, of which there has to be at least one."""
        lengths = [len(lesson.vectors) for lesson in lessons]
        return cls(
            np.concatenate([lesson.vectors for lesson in lessons]),
            np.concatenate([extended(tree, lesson.general) for lesson in lessons]),
            np.cumsum([0, *lengths[:-1]]).astype(np.intp),
        )

    def mean(self, frames: Floats64) -> Floats64:
        """Return the mean over each visit's frames: (frames, k) -> (visits, k)."""
        lengths = np.diff([*self.starts, len(self.vectors)])
        means: Floats64 = np.add.reduceat(frames, self.starts) / lengths[:, None]
        return means


@dataclass(frozen=True, slots=True, eq=False)
class SiteHead:
    """Predicts species over the site's tree, from vectors and the general head's species.

    `group_of` (species,) is the position in `labels` that a species stands under, len(labels) for none. `solved` is
    over the labels, and with a background also over `UNSEEN`.
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
        """Solve the head from the labels of these sums that hold events; without any the general head answers alone."""
        labels = tuple(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
        group_of = groups(tree, labels)
        solved = _solved(sums.with_labels(labels), group_of, background) if labels else None
        return cls(tree, labels, solved, group_of, unseen, weighing)

    def consensus(self, vectors: NDArray[np.uint8], general: Floats) -> Floats:
        """Return one visit's probabilities (species,): the tempered mean of log-probabilities of its frames (n, d)."""
        species: Floats = self.answers(Visits.of(self.tree, [Lesson("", vectors, general)]))[0]
        return species

    def answers(self, visits: Visits) -> Floats:
        """Return the same of several visits: (visits, species)."""
        within = visits.mean(visits.known) + 1e-12
        if self.solved is None:
            return np.asarray(within / within.sum(1, keepdims=True), np.float32)
        site, known_groups = self.log_shares(visits)
        weighed = (site + self.weighing.share * known_groups) / self.weighing.temperature
        shares = softmax(weighed).astype(np.float64)
        by_group = within @ self._membership()
        species: Floats = (within * (shares / np.maximum(by_group, 1e-12))[:, self.group_of]).astype(np.float32)
        return species

    def log_shares(self, visits: Visits) -> tuple[Floats64, Floats64]:
        """Return the mean log-probabilities of each visit's frames, by the site's head and by the general one.

        Both are over the labels and `unseen`, which comes last: (visits, labels + 1).
        """
        assert self.solved is not None
        shares_by_site = softmax(self.solved.logits(visits.vectors) / self.solved.temperature).astype(np.float64)
        site = np.empty((len(shares_by_site), len(self.labels) + 1))
        site[:, -1] = self.unseen
        if len(self.solved.labels) > len(self.labels):
            site[:, -1] = np.maximum(self.unseen, shares_by_site[:, -1])
            shares_by_site = shares_by_site[:, :-1] / np.maximum(1 - shares_by_site[:, -1:], FAINTEST)
        site[:, :-1] = shares_by_site * (1 - site[:, -1:])
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
    """Return the general head's species (n, s) over a tree that has grown.

    A new species takes half of its family's share. The first species of a new family takes the share that each family
    of its kingdom would have if all were equal.
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
    """Return the position of the deepest of these labels that each species stands under, len(labels) for none.

    A leaf is a kingdom and a species at once; as a label it is the species: `other` is no fungus.
    """
    group_of = np.full(len(tree.species), len(labels), np.intp)
    kingdom_of = tree.kingdom_of[tree.family_of]
    # Shallow labels first: deeper ones overwrite them.
    for at in sorted(range(len(labels)), key=lambda position: len(tree.path(labels[position]))):
        label = labels[at]
        if label in tree.species:
            group_of[tree.species.index(label)] = at
        elif label in tree.families:
            group_of[tree.family_of == tree.families.index(label)] = at
        else:
            group_of[kingdom_of == tree.kingdoms.index(label)] = at
    return group_of


def truths(tree: Taxonomy, species: Floats, labels: Sequence[str]) -> list[tuple[float, bool]]:
    """Return the probability of each visit's label, and if it is the likeliest; `species` is (visits, species)."""
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
