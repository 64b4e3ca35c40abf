"""A site's learning, event by event: labels are given, changed and withdrawn, and releases arrive. Pure.

::

    Taught (one labelled event) --> Lesson (all events of a visit with that label) --> SiteModel.learn, behind its gate
    label changed or withdrawn  --> the lesson is taken out exactly, and taught again without that event
    new general model           --> all lessons again, in their order, over its tree and its predictions

Events of one visit are one picture several times, so they are one lesson. A further event teaches its lesson again,
and if the gate refuses that, the lesson does not change. The weights of site and general head are measured again when
the lessons have grown by a quarter, since that costs as much as a hundred labels.

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
"""The number of lessons grows by this factor between two weighings."""


class VectorModel(Protocol):
    """A released model, as far as a site learns from it: `head` predicts from the vector alone."""

    name: str
    space: str
    tree: Taxonomy
    head: PooledHeads


@dataclass(frozen=True, slots=True)
class General:
    """The general model that a site starts from; `predict` takes vectors uint8 (n, d) and returns (n, species)."""

    name: str
    space: str
    tree: Taxonomy
    dimension: int
    predict: Callable[[NDArray[np.uint8]], Floats]

    @classmethod
    def of(cls, model: VectorModel) -> General:
        """Take the parts of a released model."""
        head, dimension = model.head, model.head.dimension

        def predict(vectors: NDArray[np.uint8]) -> Floats:
            return np.stack([head.species(components(vector, dimension), vector) for vector in vectors])

        return cls(model.name, model.space, model.tree, dimension, predict)


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """One labelled event: visit, path of the label from the kingdom down, vector uint8 (d,).

    `rule` is the verdict on its lesson, `place` the lesson's position among the others.
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
        """The key of the event's lesson."""
        return f"{self.visit}/{self.path[-1]}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state to store beside the events, so that a start continues where the last run ended."""

    general: str
    taken: int
    best: HeadScore
    weighing: Weighing
    weighed_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The effect of one change: the gate's verdict, if it was asked, and the events to write or delete."""

    verdict: LessonVerdict | None = None
    written: tuple[Taught, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Return whether no event has to be written or deleted."""
        return not self.written and not self.deleted


@dataclass(frozen=True, slots=True, eq=False)
class Learning:
    """The learning of a site, and the events that taught it."""

    general: General
    local: SiteModel
    events: Mapping[str, Taught]
    weighed_at: int = 0

    @classmethod
    def start(cls, general: General, *, site: str, background: BackgroundSums | None = None) -> Learning:
        """Return the learning before the first label."""
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
        """The state to store beside the events."""
        local = self.local
        return Standing(local.general, local.taken, local.best, local.weighing, self.weighed_at)

    @property
    def served(self) -> ServedHead | None:
        """The head to answer with, or None before the first lesson."""
        if not self.local.lessons:
            return None
        head = self.local.head()
        own = frozenset(label for label in head.labels if label not in self.general.tree.paths)
        return ServedHead(self.local.name, self.local.general, head, own, weighed=self.weighed_at > 0)

    # --- one change ---------------------------------------------------------------------------------------------

    def taught(self, event: Taught) -> tuple[Learning, Step]:
        """Teach an event with a label, its first or another.

        Raises `Rejected` (`bad-label`, `unknown-label`) where the label has no place in the tree.
        """
        before = self.events.get(event.event)
        if before is not None and before.path == event.path:
            return self, Step()
        learning, left = self.without(event.event)
        place = 1 + max((other.place for other in learning.events.values()), default=0)
        learning, step = learning._with_label(event.path, event.english)._again(
            replace(event, place=place), learning._of(event.lesson)
        )
        written = {taught.event: taught for taught in (*left.written, *step.written)}
        return learning._weighed(), replace(step, written=tuple(written.values()))

    def without(self, event: str) -> tuple[Learning, Step]:
        """Withdraw an event's label, exactly as if it had never been given. Nothing changes where there is none."""
        known = self.events.get(event)
        if known is None:
            return self, Step()
        learning = self._having({}, event)
        if known.rule == "refused":
            return learning, Step(deleted=(event,))
        learning = replace(learning, local=learning.local.forgotten(known.lesson))
        rest = learning._of(known.lesson)
        if not rest:
            return learning, Step(deleted=(event,))
        lesson = learning._lesson(rest)
        local, verdict = learning.local.learn(lesson)
        written = tuple(replace(other, rule=verdict.rule) for other in rest)
        learning = replace(learning, local=local)._having({other.event: other for other in written})
        return learning, Step(verdict, written, (event,))

    def _again(self, event: Taught, others: tuple[Taught, ...]) -> tuple[Learning, Step]:
        """Teach a lesson with one more event. If the gate refuses that, the lesson does not change."""
        members = (*(replace(other, place=event.place) for other in others), event)
        without = self.local.forgotten(event.lesson)
        if len(without.held) == len(self.local.held):
            # Otherwise each further frame of a wrong visit would lower the score that the next is compared with.
            without = replace(without, best=self.local.best)
        local, verdict = without.learn(self._lesson(members))
        if verdict.rule == "refused":
            refused = replace(event, rule=verdict.rule)
            return self._having({event.event: refused}), Step(verdict, (refused,))
        written = tuple(replace(member, rule=verdict.rule) for member in members)
        return replace(self, local=local)._having({member.event: member for member in written}), Step(verdict, written)

    # --- a start, a release -------------------------------------------------------------------------------------

    def restored(self, events: Iterable[Taught], standing: Standing) -> Learning:
        """Return the stored learning without judging it again. Transfer lessons of another general model."""
        known = {event.event: event for event in sorted(events, key=_order)}
        learning = replace(self, events=MappingProxyType(known))
        if standing.general != self.general.name:
            moved, _ = learning.transferred(self.general, taken=standing.taken)
            return moved
        lessons: dict[str, list[Taught]] = {}
        for event in known.values():
            learning = learning._with_label(event.path, event.english)
            if event.rule != "refused":
                lessons.setdefault(event.lesson, []).append(event)
        judged = [(learning._lesson(tuple(members)), members[0].rule or "taken") for members in lessons.values()]
        local = learning.local.restored(judged, taken=standing.taken, best=standing.best, weighing=standing.weighing)
        return replace(learning, local=local, weighed_at=standing.weighed_at)

    def transferred(self, general: General, *, taken: int | None = None) -> tuple[Learning, Step]:
        """Move to another general model: teach all lessons again in order, refused ones too. This is one change."""
        before = self.local.taken if taken is None else taken
        fresh = Learning.start(general, site=self.local.site, background=self.local.background)
        lessons: dict[str, list[Taught]] = {}
        for event in sorted(self.events.values(), key=_order):
            lessons.setdefault(event.lesson, []).append(event)
        local, written = fresh.local, dict[str, Taught]()
        for members in lessons.values():
            fresh = replace(fresh, local=local)._with_label(members[0].path, members[0].english)
            local, verdict = fresh.local.learn(fresh._lesson(tuple(members)))
            written |= {member.event: replace(member, rule=verdict.rule) for member in members}
        local = replace(local, taken=before + 1 if local.lessons else before).calibrated()
        events = MappingProxyType({**self.events, **written})
        weighed_at = len(local.lessons) if len(local.lessons) >= CALIBRATED_FROM else 0
        moved = replace(fresh, local=local, events=events, weighed_at=weighed_at)
        return moved, Step(written=tuple(written.values()))

    # --- parts --------------------------------------------------------------------------------------------------

    def _of(self, lesson: str) -> tuple[Taught, ...]:
        return tuple(event for event in self.events.values() if event.lesson == lesson and event.rule != "refused")

    def _lesson(self, members: tuple[Taught, ...]) -> Lesson:
        vectors = np.stack([member.vector for member in members])
        return Lesson(members[0].path[-1], vectors, self.general.predict(vectors), members[0].lesson)

    def _with_label(self, path: tuple[str, ...], english: str) -> Learning:
        """Return the learning over a tree that holds this label."""
        tree, label = self.local.tree, path[-1]
        if label in tree.paths:
            return self
        parent = path[-2] if path[-2] in tree.families else "/".join(path[:-1])
        row = row_under(tree, label, parent, english)
        return replace(self, local=self.local.grown(grown(tree, (row,))))

    def having(self, events: Mapping[str, Taught]) -> Learning:
        """Return the learning with these events, whose lessons `transferred` then teaches."""
        return replace(self, events=MappingProxyType(dict(events)))

    def _having(self, more: Mapping[str, Taught], less: str = "") -> Learning:
        kept = {name: event for name, event in self.events.items() if name != less}
        return replace(self, events=MappingProxyType({**kept, **more}))

    def _weighed(self) -> Learning:
        lessons = len(self.local.lessons)
        if lessons < max(CALIBRATED_FROM, WEIGHED_AGAIN * self.weighed_at):
            return self
        return replace(self, local=self.local.calibrated(), weighed_at=lessons)


def _order(event: Taught) -> tuple[int, str]:
    return event.place, event.event
