"""A site's own head: what one camera's labels add to what the cloud knows. Pure: lessons in, a head out.

Three stages: the cloud's general head arrives; the site transfers it by its own labelled visits, which are added to integer
sums, solved into a ridge head and pooled with it; and every further label is added behind a gate, in milliseconds::

    general species -----------------------------------+
    vectors of a visit --> Sums --ridge--> labels, unseen -+-- pooled, tempered --> species over the site's tree

The site's head knows the labels that were given, of any rank, and that there are others: by Good and Turing's count, a visit
is of none of them about as often as labels that were seen once were. What it says of labels and of `unseen` is
weighed with what the general head says of the same; within a label, and within `unseen`, the general head speaks alone.

Of each label the third visit of every five is held back from the head that is judged. Once there are `HELD_LEAST` of them, an
increment is not taken if that head, with it, names fewer of them right than the best head before, by more than `FORGIVEN`; or if its
mean log-loss on them lies above the best by more than `SLACK`. A visit to be held back has to pass, too. Then the last good head goes on. What is served is solved from all visits taken,
held back or not: sums add up.

Example::

    site = Local.start(tree, general="lite0@3", site="garden", space=space, dimension=256)
    site, verdict = site.learn(Lesson("Felidae", vectors, general))
    site.name                               # "lite0@3+garden.1"
    site.head().consensus(vectors, general) # float32 (species,): of one visit

Sources: Good 1953 (Biometrika 40:237) for what was never seen; logarithmic opinion pools, Genest & Zidek 1986; ridge heads
that learn by addition, McDonnell et al. 2023 (RanPAC, arXiv:2307.02251).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.calibrate import fit_temperature
from models.eye_heads import Floats
from models.heads import LinearHead, solve
from models.scores import Scores, softmax
from models.taxonomy import RANKS, Taxonomy, roll_up
from pipeline.sums import Sums

RIDGE = 0.1
"""A hundred times what the packs' sums are solved with: a camera's first visits are few and much alike."""

GENERAL_SHARES = (0.0, 0.1, 0.2, 0.4, 0.8)
"""How much the general head may count beside the site's; which of these is measured on the site's own visits."""

START_SHARE = 0.2
"""Before there are enough of them."""

HELD_OF, HELD_AT = 5, 2
"""Of each label's visits, in groups of so many, the one at this place is held back."""

HELD_LEAST = 5
"""With fewer visits held back there is nothing to judge by, and labels are taken as they come."""

FORGIVEN = 0.1
"""The share of the visits held back, but one at least, by which a head may fall behind the best before it: two labels that look
alike win and lose a visit of each other while both are learned."""

SLACK = 0.1
"""By so many nats the mean log-loss of the visits held back may lie above the best: a new label makes a head less sure of all others."""

CALIBRATED_FROM, CALIBRATED_ON = 10, 60
"""A temperature needs so many visits, and is fitted on the last of so many."""

STANDS_FROM: Mapping[str, float] = MappingProxyType(dict.fromkeys(RANKS, 0.5))
"""A site's answer stands where it is likelier than not, by probabilities that its own visits have calibrated. A threshold with a
stated risk needs more visits than a site has labelled: 45 without an error for 5%."""

START_TEMPERATURE = 1.4
FAINTEST = 1e-6

LEAST_TEMPERATURE = 0.5
"""Where every visit was named right, no temperature is too low."""

Floats64 = NDArray[np.float64]
Rule = Literal["taken", "held-back", "refused"]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One labelled visit: vectors uint8 (n, d) of its frames, and what the general head says of each, (n, species)."""

    label: str
    vectors: NDArray[np.uint8]
    general: Floats


@dataclass(frozen=True, slots=True)
class Judged:
    """How a head does on the visits held back: how many it names right, and the mean log-loss in nats."""

    right: int
    loss: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a lesson: `before` and `after` are the head's figures without and with it."""

    rule: Rule
    before: Judged
    after: Judged


@dataclass(frozen=True, slots=True)
class Weighing:
    """How much the general head counts beside the site's, and the temperature of both together."""

    share: float = START_SHARE
    temperature: float = START_TEMPERATURE


@dataclass(frozen=True, slots=True, eq=False)
class LocalHead:
    """Species over the site's tree, from vectors and the general head's answers.

    `group_of` (species,) says which of the solved head's labels a species stands under, or len(labels): none.
    """

    tree: Taxonomy
    solved: LinearHead | None
    group_of: NDArray[np.intp]
    unseen: float
    weighing: Weighing = Weighing()

    def consensus(self, vectors: NDArray[np.uint8], general: Floats) -> Floats:
        """One visit's frames (n, d), (n, species) -> (species,): the mean of their log-probabilities, tempered."""
        known = extended(self.tree, general)
        within = known.mean(0) + 1e-12
        if self.solved is None:
            return np.asarray(within / within.sum(), np.float32)
        site, known_groups = self.witnesses(vectors, general)
        weighed = (site + self.weighing.share * known_groups) / self.weighing.temperature
        groups = softmax(weighed).astype(np.float64)
        by_group = np.bincount(self.group_of, within, len(groups))
        return np.asarray(within * (groups / np.maximum(by_group, 1e-12))[self.group_of], np.float32)

    def witnesses(self, vectors: NDArray[np.uint8], general: Floats) -> tuple[Floats64, Floats64]:
        """Mean log-probabilities of one visit's frames, by the site's head and by the general one.

        Both over the labels that were learned, and `unseen` at last: (labels + 1,).
        """
        assert self.solved is not None
        site = softmax(self.solved.logits(vectors) / self.solved.temperature).astype(np.float64) * (
            1 - self.unseen
        )
        site = np.hstack([site, np.full((len(site), 1), self.unseen)])
        known = extended(self.tree, general) @ np.eye(len(self.solved.labels) + 1)[self.group_of]
        return np.log(site + FAINTEST).mean(0), np.log(known + FAINTEST).mean(0)


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """A site's learning so far: what was taken, and the visits held back; both are as private as the frames they are of.

    `best` are the best figures of any head so far on the visits held back, the loss since one was added to them.
    """

    general: str
    site: str
    tree: Taxonomy
    learned: Sums
    held: tuple[Lesson, ...] = ()
    lessons: tuple[Lesson, ...] = ()
    taken: int = 0
    best: Judged = Judged(0, math.inf)
    weighing: Weighing = Weighing()

    @classmethod
    def start(cls, tree: Taxonomy, *, general: str, site: str, space: str, dimension: int) -> Local:
        """Before the first label: the general head answers."""
        return cls(general, site, tree, Sums.empty(space, dimension, ()))

    @property
    def name(self) -> str:
        """The general model and how many increments of this site's were taken: `lite0@3+garden.17`."""
        return f"{self.general}+{self.site}.{self.taken}" if self.taken else self.general

    def learn(self, lesson: Lesson) -> tuple[Local, Verdict]:
        """Adds one visit, if the visits held back do not speak against it."""
        nth = sum(its.label == lesson.label for its in self.lessons)
        grown = replace(self, lessons=(*self.lessons, lesson), taken=self.taken + 1)
        learned = added(self.learned, lesson)
        before, after = (self.judge(self._headed(sums)) for sums in (self.learned, learned))
        if len(self.held) >= HELD_LEAST:
            least = self.best.right - max(1, int(FORGIVEN * len(self.held)))
            if after.right < least or after.loss > self.best.loss + SLACK:
                return self, Verdict("refused", before, after)
        if nth % HELD_OF == HELD_AT:
            held = replace(grown, held=(*self.held, lesson))
            now = held.judge(held._headed(held.learned))
            best = Judged(self.best.right + now.right - before.right, now.loss)
            return replace(held, best=best), Verdict("held-back", before, after)
        best = Judged(max(self.best.right, after.right), min(self.best.loss, after.loss))
        return replace(grown, learned=learned, best=best), Verdict("taken", before, after)

    def judge(self, head: LocalHead) -> Judged:
        """A head on the visits held back."""
        if not self.held:
            return Judged(0, 0.0)
        sure = [_truth(self.tree, head.consensus(its.vectors, its.general), its.label) for its in self.held]
        return Judged(sum(best for _, best in sure), float(-np.mean(np.log([p + FAINTEST for p, _ in sure]))))

    def head(self) -> LocalHead:
        """What is served: of all visits taken."""
        return self._headed(self._everything())

    def calibrated(self) -> Local:
        """With the share and the temperature that fit the visits taken best.

        Each is asked about by a head that has forgotten it, exactly: sums subtract. Fewer than `CALIBRATED_FROM` change nothing.
        """
        asked = self.left_out()
        if len(asked) < CALIBRATED_FROM:
            return self
        labels = max(len(site) for site, _, _ in asked)
        site, known = (np.full((len(asked), labels), np.log(FAINTEST)) for _ in range(2))
        for row, its in enumerate(asked):
            site[row, : len(its[0])], known[row, : len(its[1])] = its[0], its[1]
        truths = np.array([truth for _, _, truth in asked], np.intp)

        def fitted(share: float) -> tuple[float, Weighing]:
            logits = (site + share * known).astype(np.float32)
            weighing = Weighing(share, max(LEAST_TEMPERATURE, fit_temperature(logits, truths)))
            sure = softmax(logits / weighing.temperature)[np.arange(len(truths)), truths]
            return float(np.log(sure + FAINTEST).mean()), weighing

        _, best = max(map(fitted, GENERAL_SHARES), key=lambda its: its[0])
        return replace(self, weighing=best)

    def left_out(self) -> list[tuple[Floats64, Floats64, int]]:
        """Of the last `CALIBRATED_ON` visits: what heads that have forgotten them say (`LocalHead.witnesses`), and the truth."""
        everything, asked = self._everything(), []
        for lesson in self.lessons[-CALIBRATED_ON:]:
            nothing = Sums.empty(everything.space, everything.dimension, everything.labels)
            without = everything.subtract(added(nothing, lesson))
            if without.counts[without.labels.index(lesson.label)]:
                head = self._headed(without)
                assert head.solved is not None
                site, known = head.witnesses(lesson.vectors, lesson.general)
                asked.append((site, known, head.solved.labels.index(lesson.label)))
        return asked

    def _everything(self) -> Sums:
        sums = self.learned
        for lesson in self.held:
            sums = added(sums, lesson)
        return sums

    def _headed(self, sums: Sums) -> LocalHead:
        seen = tuple(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
        solved = solve(sums.with_labels(seen), "species", RIDGE) if seen else None
        visits = [lesson.label for lesson in self.lessons if lesson.label in seen]
        once = sum(visits.count(label) == 1 for label in set(visits))
        return LocalHead(
            self.tree, solved, _groups(self.tree, seen), (once + 0.5) / (len(visits) + 1), self.weighing
        )


def added(sums: Sums, lesson: Lesson) -> Sums:
    """The sums with one visit more, and a column for its label where they had none."""
    if lesson.label not in sums.labels:
        sums = sums.with_labels((*sums.labels, lesson.label))
    return sums.add(lesson.vectors, np.full(len(lesson.vectors), sums.labels.index(lesson.label)))


def extended(tree: Taxonomy, general: Floats) -> Floats64:
    """The general head's species (n, s) over a tree that has grown: a new species takes half of its family's share."""
    known = np.zeros((len(general), len(tree.species)))
    known[:, : general.shape[1]] = general
    for new in range(general.shape[1], len(tree.species)):
        family = tree.family_of == tree.family_of[new]
        share = known[:, family].sum(1)
        known[:, family] /= 2
        known[:, new] = share / 2
    return known


def _groups(tree: Taxonomy, labels: tuple[str, ...]) -> NDArray[np.intp]:
    """Of each species the deepest of these labels that it stands under, by position; len(labels): none.

    A leaf is its kingdom and a species at once; as a label it is the species: `other` is no fungus.
    """

    def group(species: str) -> int:
        over = [
            label
            for label in tree.path(species)
            if label in labels and (label == species or label not in tree.species)
        ]
        return labels.index(over[-1]) if over else len(labels)

    return np.array([group(species) for species in tree.species], np.intp)


def _truth(tree: Taxonomy, species: Floats, label: str) -> tuple[float, bool]:
    """How likely a label is, and whether it is likelier than all else at its rank."""
    scores = Scores("species", tree.species, species)
    family, kingdom = roll_up(tree, scores)
    at_rank = {"species": scores, "family": family, "kingdom": kingdom}[tree.rank(label)]
    return at_rank[label], at_rank.best[0] == label
