"""The eyes that a tier answers with: swapped between two events, and asked so that no event waits for a swap.

::

    event --look(source, ask)--> the eye that serves this stream --> answer
                |                                                      |
                +-- queue, never waited for --> the other eye ---------+--> Tally (off the hot path, on a thread of its own)

An event finishes on the eye that it began with. A candidate that fails is not the event's trouble: what serves answers it.

    serving = Serving(zoo.edge_eye(), glance=edge_glance)
    eye, sight = serving.look("home/cam1/garden", lambda eye: eye.see(picture, box))
    sight.model                             # names the eye that answered

`Looker` is what the answering side asks. Whoever adds to the eyes (a site's own head, say) wraps the general eyes in a
`Looker` of its own, and is told of a swap by `subscribe`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic

import structlog

from agents.rollout.shadow import Glance, Tally
from models.answering.tier_eye import E, S
from models.labels.taxonomy import Taxonomy
from pipeline.errors import Rejected

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 16
"""Events that wait for the other eye: a crop of a few MB each, at most. More are not compared."""

END_WITHIN_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Trial(Generic[E]):
    """A candidate beside what serves."""

    eye: E
    takes: Callable[[str], bool]
    """Whether the candidate answers a stream."""
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Arrangement(Generic[E]):
    """Which eyes there are. Replaced whole, by one assignment."""

    eye: E
    trial: Trial[E] | None = None


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[E]):
    """An event that one eye has answered, for the other."""

    ask: Callable[[E], Any]
    trial: Trial[E]
    other: E
    glance: Glance
    by_candidate: bool


class Serving(Generic[E]):
    """Holds the eye that serves, and during a trial the candidate beside it. Methods may be called from any thread."""

    def __init__(self, eye: E, glance: Callable[[Taxonomy, Any], Glance]) -> None:
        """`glance` reads what an eye of this tier saw."""
        self._now: _Arrangement[E] = _Arrangement(eye)
        self._glance = glance
        self._waiting: queue.Queue[_Waiting[E] | None] = queue.Queue(WAITING_MAX)
        self._listeners: list[Callable[[E], object]] = []
        self._thread: threading.Thread | None = None

    @property
    def eye(self) -> E:
        """The one that serves."""
        return self._now.eye

    @property
    def trial(self) -> Trial[E] | None:
        return self._now.trial

    # --- the hot path ------------------------------------------------------------------------------------------

    def look(self, source: str, ask: Callable[[E], S]) -> tuple[E, S]:
        """See `Looker.look`."""
        now = self._now
        trial = now.trial
        if trial is None:
            return now.eye, ask(now.eye)
        if not trial.takes(source):
            sight = ask(now.eye)
            self._offer(_Waiting(ask, trial, trial.eye, self._glance(now.eye.tree, sight), False))
            return now.eye, sight
        try:
            sight = ask(trial.eye)
            glance = self._glance(trial.eye.tree, sight)
        except Exception as error:  # whatever a new eye's bug is: the event is answered by what serves
            sight = ask(now.eye)
            self._failed(trial, error)
            return now.eye, sight
        self._offer(_Waiting(ask, trial, now.eye, glance, True))
        return trial.eye, sight

    def _offer(self, waiting: _Waiting[E]) -> None:
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            waiting.trial.tally.drop()

    # --- off the hot path --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compare on a thread of its own."""
        self._thread = threading.Thread(target=self._compare_for_ever, name="shadow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        self.compare_waiting(keep=False)
        with contextlib.suppress(queue.Full):  # it hangs in an eye; a daemon's thread ends with the process
            self._waiting.put(None, timeout=END_WITHIN_S)
        self._thread.join(END_WITHIN_S)

    def compare_waiting(self, *, keep: bool = True) -> None:
        """Compare what waits now; without `keep`, forget it."""
        while True:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return
            if waiting is not None and keep:
                self._compare(waiting)

    def _compare_for_ever(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            self._compare(waiting)

    def _compare(self, waiting: _Waiting[E]) -> None:
        trial = waiting.trial
        current = self._now.trial
        if current is None or trial.tally is not current.tally:
            return  # of a trial that is over
        try:
            other = self._glance(waiting.other.tree, waiting.ask(waiting.other))
        except (
            Exception
        ) as error:  # the candidate's bug is counted; that of what serves is the hot path's to tell
            if not waiting.by_candidate:
                self._failed(trial, error)
            return
        old, new = (other, waiting.glance) if waiting.by_candidate else (waiting.glance, other)
        trial.tally.add(old, new)

    def _failed(self, trial: Trial[E], error: Exception) -> None:
        trial.tally.fail()
        told = error if isinstance(error, Rejected) else repr(error)
        log.warning("the candidate fails where what serves does not", model=trial.eye.name, error=str(told))

    # --- swaps -------------------------------------------------------------------------------------------------

    def try_out(self, trial: Trial[E] | None) -> None:
        """Begin a trial, or its next stage, or end it."""
        self._now = _Arrangement(self._now.eye, trial)

    def swap(self, eye: E) -> None:
        """From the next event on this eye serves; a trial is over. Listeners are told afterwards."""
        self._now = _Arrangement(eye)
        for listener in self._listeners:
            try:
                listener(eye)
            except Exception:  # a listener's bug is no reason to go back
                log.exception("a listener to a swap failed", model=eye.name)

    def subscribe(self, listener: Callable[[E], object]) -> None:
        """Have it called with each eye that comes to serve, on the updater's thread."""
        self._listeners.append(listener)
