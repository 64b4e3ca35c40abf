"""A site's own model: what the labels of one site or camera add to the general head. Pure: lessons in, a head out.

Three stages: the general head arrives from the cloud; the site's labelled visits are added to integer sums, solved
into a ridge head and pooled with the general one (`models.site_learning.site_head`); and every further label is added
behind a gate, in milliseconds::

    Lesson --learn--> Sums --gate: the visits held back--> taken, held back, or refused --head()--> SiteHead

Of each label the third visit of every five is held back from the head that the gate measures, or the next visit that
this head names right without it, so that a wrong label does not become a measure. Once `HELD_LEAST` visits are held
back, the gate refuses an increment with which that head names fewer of them right than the best head before, by more
than `FORGIVEN`, or whose mean log-loss on them lies above the best by more than `SLACK`. A visit to be held back has
to pass, too. After a refusal the last good head stays. The served head is solved from all accepted visits, held back
or not, since sums add up. They also subtract: after `forgotten`, the sums are exactly as if the visit had never been
added.

Example::

    site = SiteModel.start(tree, general="lite0@3", site="garden", space=space, dimension=256)
    site, verdict = site.learn(Lesson("Felidae", vectors, general))
    site.name                               # "lite0@3+garden.1"
    site.head().consensus(vectors, general) # float32 (species,): of one visit
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from models.labels.calibration import fit_temperature
from models.labels.scores import softmax
from models.labels.taxonomy import RANKS, Taxonomy
from models.site_learning.site_head import (
    FAINTEST,
    UNWEIGHED,
    BackgroundSums,
    Floats64,
    Lesson,
    SiteHead,
    Visits,
    Weighing,
    truths,
)
from pipeline.sums.sums import Sums

GENERAL_SHARES = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Weights that the general head may have beside the site's; the site's own visits decide which."""

HELD_OF, HELD_AT = 5, 2
"""Each label's visits form groups of `HELD_OF`. In each group the first free visit from `HELD_AT` on is held back."""

HELD_LEAST = 5
"""With fewer visits held back the gate cannot measure, and every label is taken."""

FORGIVEN = 0.1
"""The share of the visits held back, but at least one visit, by which a head may fall behind the best before it: two
labels that look alike win and lose a visit of each other while both are learned."""

SLACK = 0.1
"""The mean log-loss of the visits held back may be so many nats above the best: a new label makes a head less sure of
all others."""

CALIBRATED_FROM, CALIBRATED_ON = 10, 60
"""A temperature needs at least so many visits, and is fitted on the last so many."""

STANDS_FROM: Mapping[str, float] = MappingProxyType(dict.fromkeys(RANKS, 0.5))
"""A site's answer stands where it is likelier than not, by probabilities that its own visits have calibrated. A
threshold with a stated risk needs more visits than a site has labelled: 45 without an error for a risk of 5%."""

LEAST_TEMPERATURE = 0.5
"""Without this limit, the fit would choose a temperature of zero if every visit is named right."""

Rule = Literal["taken", "held-back", "refused"]


@dataclass(frozen=True, slots=True)
class HeadScore:
    """A head's score on the visits held back: how many it names right, and the mean log-loss in nats."""

    right: int
    loss: float


@dataclass(frozen=True, slots=True)
class LessonVerdict:
    """The gate's verdict on a lesson; `before` and `after` are the head's scores without and with it."""

    rule: Rule
    before: HeadScore
    after: HeadScore


NOTHING_JUDGED = HeadScore(0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class SiteModel:
    """The learning of a site. Lessons and sums are as private as their frames.

    `learned` are the sums without the visits held back, `everything` with them. `best` are the best scores of any head
    so far on the visits held back, the loss since the last was added to them. `taken` counts the changes, so that no
    two heads share a name.
    """

    general: str
    site: str
    tree: Taxonomy
    learned: Sums
    everything: Sums
    held: tuple[Lesson, ...] = ()
    exam: Visits | None = None
    lessons: tuple[Lesson, ...] = ()
    taken: int = 0
    best: HeadScore = HeadScore(0, math.inf)
    weighing: Weighing = UNWEIGHED
    background: BackgroundSums | None = None
    judged: SiteHead | None = None
    """The head of `learned`, as last solved."""

    @classmethod
    def start(
        cls,
        tree: Taxonomy,
        *,
        general: str,
        site: str,
        space: str,
        dimension: int,
        background: BackgroundSums | None = None,
    ) -> SiteModel:
        """Return the model before the first label, when the general head answers."""
        nothing = Sums.empty(space, dimension, ())
        return cls(general, site, tree, nothing, nothing, background=background)

    @property
    def name(self) -> str:
        """The general model and how many increments of this site's were taken: `lite0@3+garden.17`."""
        return f"{self.general}+{self.site}.{self.taken}" if self.taken else self.general

    def learn(self, lesson: Lesson) -> tuple[SiteModel, LessonVerdict]:
        """Add one visit, unless the gate refuses it."""
        nth = sum(earlier.label == lesson.label for earlier in self.lessons)
        learned = added(self.learned, lesson)
        head, grown = self._head_of_learned(), self._headed(learned)
        before, after = self.judge(head), self.judge(grown)
        if len(self.held) >= HELD_LEAST:
            least = self.best.right - max(1, int(FORGIVEN * len(self.held)))
            if after.right < least or after.loss > self.best.loss + SLACK:
                return replace(self, judged=head), LessonVerdict("refused", before, after)
        everything, lessons = added(self.everything, lesson), (*self.lessons, lesson)
        accepted = replace(self, everything=everything, lessons=lessons, taken=self.taken + 1)
        if self._is_due(lesson.label, nth) and self._names(head, lesson):
            held = (*self.held, lesson)
            holding = replace(accepted, held=held, exam=Visits.of(self.tree, held), judged=head)
            now = holding.judge(holding._head_of_learned())
            best = HeadScore(self.best.right + now.right - before.right, now.loss)
            return replace(holding, best=best), LessonVerdict("held-back", before, after)
        best = HeadScore(max(self.best.right, after.right), min(self.best.loss, after.loss))
        taken = replace(accepted, learned=learned, judged=grown, best=best)
        return taken, LessonVerdict("taken", before, after)

    def restored(
        self, lessons: Iterable[tuple[Lesson, Rule]], *, taken: int, best: HeadScore, weighing: Weighing
    ) -> SiteModel:
        """Return the model after these lessons and verdicts, in this order, without judging again."""
        learned, everything = self.learned, self.everything
        held, kept = list(self.held), list(self.lessons)
        for lesson, rule in lessons:
            if rule == "refused":
                continue
            kept.append(lesson)
            everything = added(everything, lesson)
            if rule == "held-back":
                held.append(lesson)
            else:
                learned = added(learned, lesson)
        return replace(
            self,
            learned=learned,
            everything=everything,
            held=tuple(held),
            exam=Visits.of(self.tree, held) if held else None,
            lessons=tuple(kept),
            taken=taken,
            best=best,
            weighing=weighing,
            judged=None,
        )

    def forgotten(self, key: str) -> SiteModel:
        """Return the model exactly as if the lesson of this name, if there is any, had never been taught."""
        forgotten = next((lesson for lesson in self.lessons if lesson.key == key), None)
        if forgotten is None:
            return self
        held = tuple(lesson for lesson in self.held if lesson is not forgotten)
        was_held = len(held) < len(self.held)
        without = replace(
            self,
            everything=_without(self.everything, forgotten),
            learned=self.learned if was_held else _without(self.learned, forgotten),
            held=held,
            exam=Visits.of(self.tree, held) if held else None,
            lessons=tuple(lesson for lesson in self.lessons if lesson is not forgotten),
            taken=self.taken + 1,
            judged=None,
        )
        # The head that is left may be worse than the best before: later heads are measured against this one.
        return replace(without, best=without.judge(without._head_of_learned()) if held else HeadScore(0, math.inf))

    def grown(self, tree: Taxonomy) -> SiteModel:
        """Return the model over a tree that has more species at its end."""
        return replace(self, tree=tree, exam=Visits.of(tree, self.held) if self.held else None, judged=None)

    def judge(self, head: SiteHead) -> HeadScore:
        """Return a head's score on the visits held back."""
        if self.exam is None:
            return NOTHING_JUDGED
        species = head.answers(self.exam)
        sure = truths(self.tree, species, [lesson.label for lesson in self.held])
        return HeadScore(sum(best for _, best in sure), float(-np.mean(np.log([p + FAINTEST for p, _ in sure]))))

    def head(self) -> SiteHead:
        """Return the head to serve, of all accepted visits."""
        return self._headed(self.everything)

    def calibrated(self) -> SiteModel:
        """Return the model with the share and the temperature that fit its visits best.

        Each visit is predicted by a head that has forgotten it exactly. Fewer than `CALIBRATED_FROM` visits change
        nothing.
        """
        asked = self.left_out()
        if len(asked) < CALIBRATED_FROM:
            return self
        labels = max(len(site) for site, _, _ in asked)
        site, known = (np.full((len(asked), labels), np.log(FAINTEST)) for _ in range(2))
        for row, (by_site, by_general, _) in enumerate(asked):
            site[row, : len(by_site)], known[row, : len(by_general)] = by_site, by_general
        right = np.array([truth for _, _, truth in asked], np.intp)

        def fitted(share: float) -> tuple[float, Weighing]:
            logits = (site + share * known).astype(np.float32)
            weighing = Weighing(share, max(LEAST_TEMPERATURE, fit_temperature(logits, right)))
            sure = softmax(logits / weighing.temperature)[np.arange(len(right)), right]
            return float(np.log(sure + FAINTEST).mean()), weighing

        _, best = max(map(fitted, GENERAL_SHARES), key=lambda candidate: candidate[0])
        return replace(self, weighing=best)

    def left_out(self) -> list[tuple[Floats64, Floats64, int]]:
        """Predict the last `CALIBRATED_ON` visits by heads that have forgotten them, and return the truth beside."""
        asked = []
        for lesson in self.lessons[-CALIBRATED_ON:]:
            without = _without(self.everything, lesson)
            if without.counts[without.labels.index(lesson.label)]:
                head = self._headed(without)
                site, known = head.log_shares(Visits.of(self.tree, [lesson]))
                asked.append((site[0], known[0], head.labels.index(lesson.label)))
        return asked

    def _is_due(self, label: str, nth: int) -> bool:
        """Return whether too few of a label's visits, of which this is the `nth`, are held back."""
        return sum(lesson.label == label for lesson in self.held) < (nth - HELD_AT) // HELD_OF + 1

    def _names(self, head: SiteHead, lesson: Lesson) -> bool:
        species = head.answers(Visits.of(self.tree, [lesson]))
        return truths(self.tree, species, [lesson.label])[0][1]

    def _headed(self, sums: Sums) -> SiteHead:
        unseen = self._unseen(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
        return SiteHead.of(self.tree, sums, unseen, self.weighing, self.background)

    def _head_of_learned(self) -> SiteHead:
        """Return the head of `learned`, solved again only where the sums have changed."""
        if self.judged is None:
            return self._headed(self.learned)
        return replace(self.judged, unseen=self._unseen(self.judged.labels), weighing=self.weighing)

    def _unseen(self, labels: Iterable[str]) -> float:
        solved = set(labels)
        visits = Counter(lesson.label for lesson in self.lessons if lesson.label in solved)
        once = sum(count == 1 for count in visits.values())
        return (once + 0.5) / (visits.total() + 1)


def added(sums: Sums, lesson: Lesson) -> Sums:
    """Return the sums with one more visit, and with a column for its label."""
    if lesson.label not in sums.labels:
        sums = sums.with_labels((*sums.labels, lesson.label))
    return sums.add(lesson.vectors, np.full(len(lesson.vectors), sums.labels.index(lesson.label)))


def _without(sums: Sums, lesson: Lesson) -> Sums:
    """Return the sums without one of their visits, exactly."""
    part = added(Sums.empty(sums.space, sums.dimension, ()), lesson)
    return sums.subtract(part.with_labels(sums.labels))
