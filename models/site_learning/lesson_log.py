"""A site's learning, event by event: labels come, change and go, and releases come; each time there is one whole head. Pure.

::

    Taught (one labelled event) --> Lesson (all events of a visit with that label) --> SiteModel.learn, behind its gate
    label changed or withdrawn  --> the lesson is taken out exactly, and taught again without that event
    new general model           --> all lessons again, in their order, over its tree and its answers

Events of one visit are one picture several times, so they are one lesson: a further one teaches its lesson anew, and if that is
refused the lesson stays as it was. How site and general head are weighed is measured anew when the lessons have grown by a quarter,
since that costs as much as a hundred labels.

Example::

    learning = Learning.start(general, site="home", background=BackgroundSums.of(zoo.sums()))
    learning, step = learning.taught(Taught("0193...", "0193...", ("animal", "Felidae"), "", vector))
    step.verdict.rule                   # "taken"
    learning.local.name                 # "lite0@3+home.1"
    learning, step = learning.without("0193...")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, components
from models.heads.pooled import PooledHeads
from models.labels.taxonomy import Taxonomy
from models.labels.taxonomy_growth import grown, row_under
from models.site_learning.site_answers import ServedHead
from models.site_learning.site_head import BackgroundSums, Lesson, Weighing
from models.site_learning.site_model import CALIBRATED_FROM, HeadScore, LessonVerdict, Rule, SiteModel

WEIGHED_AGAIN = 1.25
"""By this factor lessons grow between two weighings."""


class VectorModel(Protocol):
    """A released eye, as far as a site learns from it: `head` answers of the vector alone."""

    name: str
    space: str
    tree: Taxonomy
    head: PooledHeads


@dataclass(frozen=True, slots=True)
class General:
    """What a site starts from: a model's name, its space and tree, and what it says of vectors uint8 (n, d) -> (n, species)."""

    name: str
    space: str
    tree: Taxonomy
    dimension: int
    says: Callable[[NDArray[np.uint8]], Floats]

    @classmethod
    def of(cls, eye: VectorModel) -> General:
        """A released eye's."""
        head, dimension = eye.head, eye.head.dimension

        def says(vectors: NDArray[np.uint8]) -> Floats:
            return np.stack([head.species(components(vector, dimension), vector) for vector in vectors])

        return cls(eye.name, eye.space, eye.tree, dimension, says)


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """One labelled event: its visit, its label's path from the kingdom down, its vector uint8 (d,); how its lesson was judged, and
    the lesson's place among the others.
    """

    event: str
    visit: str
    path: tuple[str, ...]
    english: str
    vector: NDArray[np.uint8]
    rule: Rule | None = None
    place: int = 0

    @property
    def lesson(self) -> str:
        """The lesson that it is part of."""
        return f"{self.visit}/{self.path[-1]}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is to be kept beside the events, so that a start goes on where the last one ended."""

    general: str
    taken: int
    best: HeadScore
    weighing: Weighing
    weighed_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What became of one change: the gate's verdict, if it was asked, and the events to write down or to delete."""

    verdict: LessonVerdict | None = None
    written: tuple[Taught, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not self.written and not self.deleted


@dataclass(frozen=True, slots=True, eq=False)
class Learning:
    """All that a site has learned, and from what."""

    general: General
    local: SiteModel
    events: Mapping[str, Taught]
    weighed_at: int = 0

    @classmethod
    def start(cls, general: General, *, site: str, background: BackgroundSums | None = None) -> Learning:
        """Before the first label."""
        local = SiteModel.start(
            general.tree,
            general=general.name,
            site=site,
            space=general.space,
            dimension=general.dimension,
            background=background,
        )
        return cls(general, local, MappingProxyType({}))

    @property
    def standing(self) -> Standing:
        local = self.local
        return Standing(local.general, local.taken, local.best, local.weighing, self.weighed_at)

    @property
    def served(self) -> ServedHead | None:
        """The head to answer with; None where the site has nothing to say yet."""
        if not self.local.lessons:
            return None
        head = self.local.head()
        own = frozenset(label for label in head.labels if label not in self.general.tree.paths)
        return ServedHead(self.local.name, self.local.general, head, own, weighed=self.weighed_at > 0)

    # --- one change ---------------------------------------------------------------------------------------------

    def taught(self, event: Taught) -> tuple[Learning, Step]:
        """An event got a label, or another one.

        Raises `Rejected` (`bad-label`, `unknown-label`) where the label has no place in the tree.
        """
        before = self.events.get(event.event)
        if before is not None and before.path == event.path:
            return self, Step()
        learning, left = self.without(event.event)
        place = 1 + max((its.place for its in learning.events.values()), default=0)
        learning, step = learning._over(event.path, event.english)._again(
            replace(event, place=place), learning._of(event.lesson)
        )
        written = {its.event: its for its in (*left.written, *step.written)}
        return learning._weighed(), replace(step, written=tuple(written.values()))

    def without(self, event: str) -> tuple[Learning, Step]:
        """An event lost its label: exactly as if it had never had it. Nothing changes where it had none."""
        its = self.events.get(event)
        if its is None:
            return self, Step()
        learning = self._having({}, event)
        if its.rule == "refused":
            return learning, Step(deleted=(event,))
        learning = replace(learning, local=learning.local.forgotten(its.lesson))
        rest = learning._of(its.lesson)
        if not rest:
            return learning, Step(deleted=(event,))
        lesson = learning._lesson(rest)
        local, verdict = learning.local.learn(lesson)
        written = tuple(replace(other, rule=verdict.rule) for other in rest)
        learning = replace(learning, local=local)._having({other.event: other for other in written})
        return learning, Step(verdict, written, (event,))

    def _again(self, event: Taught, others: tuple[Taught, ...]) -> tuple[Learning, Step]:
        """Teach a lesson with an event more; if that is refused, the lesson stays as it was."""
        members = (*(replace(its, place=event.place) for its in others), event)
        without = self.local.forgotten(event.lesson)
        if len(without.held) == len(self.local.held):
            # Else each frame more of a wrong visit would lower what the next is measured against.
            without = replace(without, best=self.local.best)
        local, verdict = without.learn(self._lesson(members))
        if verdict.rule == "refused":
            refused = replace(event, rule=verdict.rule)
            return self._having({event.event: refused}), Step(verdict, (refused,))
        written = tuple(replace(its, rule=verdict.rule) for its in members)
        return replace(self, local=local)._having({its.event: its for its in written}), Step(verdict, written)

    # --- a start, a release -------------------------------------------------------------------------------------

    def restored(self, events: Iterable[Taught], standing: Standing) -> Learning:
        """From a start: as it was when this was written down. Nothing is judged again; lessons of another general model are
        transferred.
        """
        known = {its.event: its for its in sorted(events, key=lambda its: (its.place, its.event))}
        learning = replace(self, events=MappingProxyType(known))
        if standing.general != self.general.name:
            moved, _ = learning.transferred(self.general, taken=standing.taken)
            return moved
        for its in known.values():
            learning = learning._over(its.path, its.english)
        lessons: dict[str, list[Taught]] = {}
        for its in known.values():
            if its.rule != "refused":
                lessons.setdefault(its.lesson, []).append(its)
        judged = [(learning._lesson(tuple(its)), its[0].rule or "taken") for its in lessons.values()]
        local = learning.local.restored(
            judged, taken=standing.taken, best=standing.best, weighing=standing.weighing
        )
        return replace(learning, local=local, weighed_at=standing.weighed_at)

    def transferred(self, general: General, *, taken: int | None = None) -> tuple[Learning, Step]:
        """To another general model: every lesson again, also those that were refused, in their order. One change by its name."""
        before = self.local.taken if taken is None else taken
        fresh = Learning.start(general, site=self.local.site, background=self.local.background)
        lessons: dict[str, list[Taught]] = {}
        for its in sorted(self.events.values(), key=lambda its: (its.place, its.event)):
            lessons.setdefault(its.lesson, []).append(its)
        local, written = fresh.local, dict[str, Taught]()
        for members in lessons.values():
            fresh = replace(fresh, local=local)._over(members[0].path, members[0].english)
            local, verdict = fresh.local.learn(fresh._lesson(tuple(members)))
            written |= {its.event: replace(its, rule=verdict.rule) for its in members}
        local = replace(local, taken=before + 1 if local.lessons else before).calibrated()
        events = MappingProxyType({**self.events, **written})
        weighed_at = len(local.lessons) if len(local.lessons) >= CALIBRATED_FROM else 0
        moved = replace(fresh, local=local, events=events, weighed_at=weighed_at)
        return moved, Step(written=tuple(written.values()))

    # --- parts --------------------------------------------------------------------------------------------------

    def _of(self, lesson: str) -> tuple[Taught, ...]:
        return tuple(its for its in self.events.values() if its.lesson == lesson and its.rule != "refused")

    def _lesson(self, members: tuple[Taught, ...]) -> Lesson:
        vectors = np.stack([its.vector for its in members])
        return Lesson(members[0].path[-1], vectors, self.general.says(vectors), members[0].lesson)

    def _over(self, path: tuple[str, ...], english: str) -> Learning:
        """Over a tree that has this path."""
        tree, label = self.local.tree, path[-1]
        if label in tree.paths:
            return self
        parent = path[-2] if path[-2] in tree.families else "/".join(path[:-1])
        row = row_under(tree, label, parent, english)
        return replace(self, local=self.local.grown(grown(tree, (row,))))

    def having(self, events: Mapping[str, Taught]) -> Learning:
        """With these events, whose lessons are still to be taught: see `transferred`."""
        return replace(self, events=MappingProxyType(dict(events)))

    def _having(self, more: Mapping[str, Taught], less: str = "") -> Learning:
        kept = {name: its for name, its in self.events.items() if name != less}
        return replace(self, events=MappingProxyType({**kept, **more}))

    def _weighed(self) -> Learning:
        lessons = len(self.local.lessons)
        if lessons < max(CALIBRATED_FROM, WEIGHED_AGAIN * self.weighed_at):
            return self
        return replace(self, local=self.local.calibrated(), weighed_at=lessons)
