"""A site learns by itself: each label of an event that the edge may see becomes part of the edge's own head, within milliseconds.

::

    Labels (after their commit) ──queue──> Learning (pure) ──one transaction──> spool ──> SiteModels.serve(the new head)
    a release came to serve ─────^            `── refused by its gate: said, and the last good head goes on

Public and edge-private events teach it; what is user-private never reaches this place, and an event that becomes so is taken out.
What was committed is served, and only that: after a kill the head is solved anew from what the spool holds, and labels that were
committed and not yet learned are found by comparing both (`_reconcile`).

One thread learns; answers wait for nothing. What is learned of an event is exactly undone when its label is taken back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import structlog

from agents.edge.label_rules import LabelledEvent
from agents.edge.learning_store import About
from agents.edge.store import EdgeStore
from agents.role.dead_letters import INTERNAL_ERROR, RETRY_S
from agents.role.telemetry import Metrics
from models.site_learning.lesson_log import General, Learning, Step, Taught
from models.site_learning.site_answers import ServedHead
from models.site_learning.site_head import BackgroundSums
from pipeline.errors import Rejected, Retry
from pipeline.messages import Kind, Levels, Privacy, Tier
from pipeline.privacy.gate import may_see
from pipeline.spool import Spool

log = structlog.get_logger("edge")

NOT_LEARNED = "label-not-learned"
"""What the metrics call a label that the gate refused."""


class EdgeLearning:
    """The learning of one site. `heard` and `served_by` may be called from any thread, all else from one."""

    def __init__(
        self,
        site: str,
        spool: Spool,
        store: EdgeStore,
        serve: Callable[[ServedHead | None], object],
        general: General,
        background: BackgroundSums | None,
        metrics: Metrics,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`serve` takes each head to answer with; `changed` is called when all that waited is learned."""
        self._spool = spool
        self._answers = store
        self._store = store.learning
        self._serve = serve
        self._metrics = metrics
        self._changed = changed
        self._learning = Learning.start(general, site=site, background=background)
        self._waiting: queue.SimpleQueue[LabelledEvent | General | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = "nothing learned yet"

    # --- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Serve what was learned before, and find what was said since."""
        general = self._learning.general
        standing = self._store.standing()
        if standing is not None:
            learning = self._learning.restored(self._store.lessons(general.space), standing)
            step = Step(written=tuple(learning.events.values())) if standing != learning.standing else Step()
            self._take_effect(learning, step, None)
        for told in self._reconcile():
            self._waiting.put(told)

    def start(self) -> None:
        """Learn on a thread of its own."""
        self._thread = threading.Thread(target=self._learn_for_ever, name="learn", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """What waits is found again at the next start."""
        self._stop.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(deadline_s)

    @property
    def state(self) -> str:
        """One line for `/health`."""
        return self._state

    @property
    def general(self) -> General:
        """What the site's head was transferred from."""
        return self._learning.general

    # --- in -----------------------------------------------------------------------------------------------------

    def heard(self, told: LabelledEvent) -> None:
        """An event's label changed."""
        self._waiting.put(told)

    def served_by(self, general: General) -> None:
        """Another general model serves from now on."""
        self._waiting.put(general)

    def work(self) -> None:
        """Learn all that waits."""
        while True:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                self._take(waiting)

    def _learn_for_ever(self) -> None:
        if not self._until_done(self.open):
            return
        while not self._stop.is_set():
            waiting = self._waiting.get()
            if waiting is not None:
                self._until_done(partial(self._take, waiting))

    def _until_done(self, work: Callable[[], None]) -> bool:
        """No label ends the learning, and learning never ends the edge; False where it was not done."""
        while not self._stop.is_set():
            try:
                work()
            except Retry as error:
                log.warning("learning waits for the store", error=str(error))
                self._stop.wait(RETRY_S)
            except Exception as error:
                self._metrics.refused(INTERNAL_ERROR)
                self._state = f"{self._learning.local.name}, with trouble: {error}"
                log.exception("learning met a bug of ours, or a broken store; the last good head goes on")
                return False
            else:
                return True
        return False

    # --- one change -----------------------------------------------------------------------------------------------

    def _take(self, waiting: LabelledEvent | General) -> None:
        if isinstance(waiting, General):
            self._transfer(waiting)
        else:
            self._learn(waiting)

    def _transfer(self, general: General) -> None:
        """Lessons are kept: those of this space are taught again, over what the new model says of them."""
        lessons = {its.event: its for its in self._store.lessons(general.space)}
        learning, step = self._learning.having(lessons).transferred(general)
        self._take_effect(learning, step, None)

    def _learn(self, told: LabelledEvent) -> None:
        level = learning_level(told.levels)
        if told.label is None or not may_see(Tier.EDGE, level):
            self._forget(told.event)
            if not may_see(Tier.EDGE, level):
                self._scrub()
            return
        if told.space != self._learning.general.space:
            log.warning("a label of another space is not learned from", of=told.event, space=told.space)
            return
        english = next((word.english for word in told.words if word.label == told.label), "")
        event = Taught(
            told.event,
            told.sighting or told.event,
            told.path,
            english,
            np.frombuffer(told.vector, np.uint8),
        )
        try:
            learning, step = self._learning.taught(event)
        except Rejected as error:
            log.warning(
                "a label has no place in the tree", of=told.event, reason=error.reason, error=str(error)
            )
            self._forget(told.event)
            return
        self._take_effect(learning, step, About(told.event, told.space, level))

    def _forget(self, event: str) -> None:
        learning, step = self._learning.without(event)
        if not step.nothing:
            self._take_effect(learning, step, None)
        else:  # a lesson of a space that serves no more is on the disk alone
            with self._spool.transaction() as tx:
                self._store.drop(event, tx)

    def _scrub(self) -> None:
        try:
            self._spool.scrub()
        except Retry as error:
            log.warning("a lesson is deleted, but not overwritten yet", error=str(error))

    def _take_effect(self, learning: Learning, step: Step, about: About | None) -> None:
        """First on the disk, then in memory: what is served is never ahead of what a restart finds."""
        if not step.nothing:
            with self._spool.transaction() as tx:
                self._store.write(step, learning.standing, about, tx)
        self._learning = learning
        self._serve(learning.served)
        self._say(learning, step)
        if self._waiting.empty():
            self._changed()

    def _say(self, learning: Learning, step: Step) -> None:
        local, verdict = learning.local, step.verdict
        refused = sum(its.rule == "refused" for its in learning.events.values())
        labels = len({its.label for its in local.lessons})
        self._state = f"{local.name}: {len(local.lessons)} visits of {labels} labels" + (
            f", {refused} labels refused" if refused else ""
        )
        if verdict is None:
            return
        if verdict.rule == "refused":
            self._metrics.refused(NOT_LEARNED)
            log.warning(
                "a label is not learned: the head would be worse with it",
                of=step.written[0].event,
                label=step.written[0].path[-1],
                held_back=len(local.held),
                right=f"{verdict.before.right} -> {verdict.after.right}",
                loss=f"{verdict.before.loss:.2f} -> {verdict.after.loss:.2f}",
            )
        else:
            log.info("learned", model=local.name, rule=verdict.rule)

    # --- a start --------------------------------------------------------------------------------------------------

    def _reconcile(self) -> Iterator[LabelledEvent]:
        """Labels that were committed and not learned, and lessons whose labels are gone: a kill came in between."""
        learned = dict(self._learning.events)
        for told in self._answers.labels.all_labelled():
            if told.event not in learned or learned[told.event].path != told.path:
                yield told
        space = self._learning.general.space
        for event in self._store.events():
            known = self._answers.answer(event)
            # Without answer, label and feature were forgotten with the days; what was learned stays.
            if known is not None and not may_see(Tier.EDGE, learning_level(known.context.levels)):
                yield forgotten(event, space, known.context.levels)
                continue
            found = self._answers.labels.labelled(event)
            if found is not None and found.label is None:
                yield found


def learning_level(levels: Levels) -> Privacy:
    """How private what is learned from an event is: as its feature and as its label."""
    return levels.feature.join(levels.of(Kind.LABEL))


def forgotten(event: str, space: str, levels: Levels) -> LabelledEvent:
    """An event of which nothing may be known here any more."""
    return LabelledEvent(event, "", None, (), "", (), space, b"", levels, "", "")
