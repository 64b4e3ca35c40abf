"""The site's own learning: each label becomes part of the edge's own head within milliseconds.

::

    committed label ────queue──> Learning (pure) ──one transaction──> spool ──> SiteModels.serve(the new head)
    another release serves ──^       `── refused by the gate: this is logged, and the last good head goes on

Public and edge-private events teach the head. User-private ones never reach it, and an event that becomes user-private
is taken out. Only a committed head serves: after a kill, the head is solved anew from the spool, and labels that were
committed but not learned are found by comparing both (`_reconcile`).

One thread learns, and no answer waits for it. When a label is taken back, its lesson is undone exactly.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import structlog

from agents.edge.label_rules import LabelledEvent, label_level
from agents.edge.learning_store import LessonSource
from agents.edge.store import EdgeStore
from agents.role.dead_letters import INTERNAL_ERROR, RETRY_S
from agents.role.telemetry import Metrics
from models.site_learning.lesson_log import General, Learning, Step, Taught
from models.site_learning.site_answers import ServedHead
from models.site_learning.site_head import BackgroundSums
from pipeline.errors import Rejected, Retry
from pipeline.messages import Levels, Tier
from pipeline.privacy.gate import may_see

log = structlog.get_logger("edge")

NOT_LEARNED = "label-not-learned"
"""Name, in the metrics, of a label that the gate refused."""


class EdgeLearning:
    """The learning of one site. Any thread may call `on_label` and `on_model`; the rest runs on one thread."""

    def __init__(
        self,
        site: str,
        store: EdgeStore,
        serve: Callable[[ServedHead | None], object],
        general: General,
        background: BackgroundSums | None,
        metrics: Metrics,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`serve` takes each new head into service; `changed` is called when all waiting labels are learned."""
        self._store = store
        self._lessons = store.learning
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
        """Serve the head of the last run, and queue the labels that it did not learn."""
        general = self._learning.general
        standing = self._lessons.standing()
        if standing is not None:
            learning = self._learning.restored(self._lessons.lessons(general.space), standing)
            step = Step(written=tuple(learning.events.values())) if standing != learning.standing else Step()
            self._take_effect(learning, step, None)
        for event in self._reconcile():
            self._waiting.put(event)

    def start(self) -> None:
        """Learn on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="learn", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """End the thread. The next start finds the labels that still wait."""
        self._stop.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(deadline_s)

    @property
    def state(self) -> str:
        """Return one line for `/health`."""
        return self._state

    @property
    def general(self) -> General:
        """Return the general model that the site's head builds on."""
        return self._learning.general

    # --- in -----------------------------------------------------------------------------------------------------

    def on_label(self, event: LabelledEvent) -> None:
        """Learn from an event whose label changed."""
        self._waiting.put(event)

    def on_model(self, general: General) -> None:
        """Build on another general model, which serves from now on."""
        self._waiting.put(general)

    def work(self) -> None:
        """Learn all waiting labels."""
        while True:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                self._take(waiting)

    def _run(self) -> None:
        if not self._until_done(self.open):
            return
        while not self._stop.is_set():
            waiting = self._waiting.get()
            if waiting is not None:
                self._until_done(partial(self._take, waiting))

    def _until_done(self, work: Callable[[], None]) -> bool:
        """Repeat `work` until it succeeds; return False if it failed. No label ends the learning, nor the edge."""
        while not self._stop.is_set():
            try:
                work()
            except Retry as error:
                log.warning("learning waits for the store", error=str(error))
                self._stop.wait(RETRY_S)
            except Exception as error:
                self._metrics.refused(INTERNAL_ERROR)
                self._state = f"{self._learning.local.name}, with trouble: {error}"
                log.exception("learning failed by a bug of ours or a broken store; the last good head goes on")
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
        """Build on another general model, and teach the lessons of its space again."""
        lessons = {lesson.event: lesson for lesson in self._lessons.lessons(general.space)}
        learning, step = self._learning.having(lessons).transferred(general)
        self._take_effect(learning, step, None)

    def _learn(self, event: LabelledEvent) -> None:
        level = label_level(event.levels)
        if event.label is None or not may_see(Tier.EDGE, level):
            self._forget(event.event)
            if not may_see(Tier.EDGE, level):
                self._store.scrub()
            return
        if event.space != self._learning.general.space:
            log.warning("a label was not learned: its feature is of another space", of=event.event, space=event.space)
            return
        english = next((vote.english for vote in event.votes if vote.label == event.label), "")
        lesson = Taught(
            event.event,
            event.sighting or event.event,
            event.path,
            english,
            np.frombuffer(event.vector, np.uint8),
        )
        try:
            learning, step = self._learning.taught(lesson)
        except Rejected as error:
            log.warning(
                "a label was not learned: it has no place in the tree",
                of=event.event,
                reason=error.reason,
                error=str(error),
            )
            self._forget(event.event)
            return
        self._take_effect(learning, step, LessonSource(event.event, event.space, level))

    def _forget(self, event: str) -> None:
        learning, step = self._learning.without(event)
        if not step.nothing:
            self._take_effect(learning, step, None)
        else:  # a lesson of an earlier space stands only on the disk
            with self._store.transaction() as tx:
                self._lessons.drop(event, tx)

    def _take_effect(self, learning: Learning, step: Step, source: LessonSource | None) -> None:
        """Write a change to the disk, then serve it: what serves is never ahead of what a restart finds."""
        if not step.nothing:
            with self._store.transaction() as tx:
                self._lessons.write(step, learning.standing, source, tx)
        self._learning = learning
        self._serve(learning.served)
        self._report(learning, step)
        if self._waiting.empty():
            self._changed()

    def _report(self, learning: Learning, step: Step) -> None:
        local, verdict = learning.local, step.verdict
        refused = sum(lesson.rule == "refused" for lesson in learning.events.values())
        labels = len({lesson.label for lesson in local.lessons})
        self._state = f"{local.name}: {len(local.lessons)} visits of {labels} labels" + (
            f", {refused} labels refused" if refused else ""
        )
        if verdict is None:
            return
        if verdict.rule == "refused":
            self._metrics.refused(NOT_LEARNED)
            log.warning(
                "a label was not learned: the head would be worse with it",
                of=step.written[0].event,
                label=step.written[0].path[-1],
                held_back=len(local.held),
                right=f"{verdict.before.right} -> {verdict.after.right}",
                loss=f"{verdict.before.loss:.2f} -> {verdict.after.loss:.2f}",
            )
        else:
            log.info("a label was learned", model=local.name, rule=verdict.rule)

    # --- a start --------------------------------------------------------------------------------------------------

    def _reconcile(self) -> Iterator[LabelledEvent]:
        """Yield the events whose labels were committed but not learned, because a kill came in between."""
        learned = dict(self._learning.events)
        for labelled in self._store.labels.all_labelled():
            if labelled.event not in learned or learned[labelled.event].path != labelled.path:
                yield labelled
        space = self._learning.general.space
        for event in self._lessons.events():
            known = self._store.answer(event)
            # Without an answer, label and feature were forgotten with the days, but the lesson stays.
            if known is not None and not may_see(Tier.EDGE, label_level(known.context.levels)):
                yield forgotten(event, space, known.context.levels)
                continue
            found = self._store.labels.labelled(event)
            if found is not None and found.label is None:
                yield found


def forgotten(event: str, space: str, levels: Levels) -> LabelledEvent:
    """Return the notice of an event that the edge may not learn from any more."""
    return LabelledEvent(event, "", None, (), "", (), space, b"", levels, "", "")
