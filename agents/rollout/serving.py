"""The models that a tier answers with: swapped between two events, so that no event waits for a swap.

::

    event --look(source, ask)--> the model that serves this stream --> answer
                |                                                        |
                +-- queue, without waiting ----> the other model ---------+--> TrialTally (on a thread of its own)

An event finishes on the model that it began with. If a candidate fails, the serving model answers the event.

    serving = Serving(zoo.edge_model(), edge_summary)
    model, prediction = serving.look("home/cam1/garden", lambda model: model.predict(picture, box))
    prediction.model                        # names the model that answered

`Serving` is a `models.answering.model_source.ModelSource`. A wrapper that adds a site's own head learns of swaps by
`subscribe`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic

import structlog

from agents.rollout.shadow import AnswerSummary, TrialTally
from models.answering.model_source import E, S
from pipeline.errors import Rejected

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 16
"""Events that wait for the other model: a crop of a few MB each, at most. Further events are not compared."""

END_WITHIN_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Trial(Generic[E]):
    """A candidate beside the serving model."""

    model: E
    takes: Callable[[str], bool]
    """Returns whether the candidate answers a stream."""
    tally: TrialTally


@dataclass(frozen=True, slots=True)
class _Arrangement(Generic[E]):
    """The models that exist now. One assignment replaces both."""

    model: E
    trial: Trial[E] | None = None


@dataclass(frozen=True, slots=True)
class _Comparison(Generic[E]):
    """An event that one model has answered, and that the other model is to predict."""

    ask: Callable[[E], Any]
    trial: Trial[E]
    other: E
    summary: AnswerSummary
    by_candidate: bool


class Serving(Generic[E]):
    """The serving model, and during a trial the candidate beside it. Any thread may call the methods."""

    def __init__(self, model: E, summarise: Callable[[Any], AnswerSummary]) -> None:
        """`summarise` turns a prediction of this tier into an `AnswerSummary`."""
        self._now: _Arrangement[E] = _Arrangement(model)
        self._summarise = summarise
        self._waiting: queue.Queue[_Comparison[E] | None] = queue.Queue(WAITING_MAX)
        self._listeners: list[Callable[[E], object]] = []
        self._thread: threading.Thread | None = None

    @property
    def model(self) -> E:
        """The serving model."""
        return self._now.model

    # --- the hot path ------------------------------------------------------------------------------------------

    def look(self, source: str, ask: Callable[[E], S]) -> tuple[E, S]:
        """See `ModelSource.look`."""
        now = self._now
        trial = now.trial
        if trial is None:
            return now.model, ask(now.model)
        if not trial.takes(source):
            prediction = ask(now.model)
            self._offer(_Comparison(ask, trial, trial.model, self._summarise(prediction), False))
            return now.model, prediction
        try:
            prediction = ask(trial.model)
            summary = self._summarise(prediction)
        except Exception as error:  # whatever fails in a candidate, the serving model answers the event
            prediction = ask(now.model)
            self._failed(trial, error)
            return now.model, prediction
        self._offer(_Comparison(ask, trial, now.model, summary, True))
        return trial.model, prediction

    def _offer(self, waiting: _Comparison[E]) -> None:
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
        """Forget the events that wait, and end the thread."""
        if self._thread is None:
            return
        self.compare_waiting(keep=False)
        with contextlib.suppress(queue.Full):  # a model hangs; a daemon thread ends with the process
            self._waiting.put(None, timeout=END_WITHIN_S)
        self._thread.join(END_WITHIN_S)

    def compare_waiting(self, *, keep: bool = True) -> None:
        """Compare the events that wait now; without `keep`, forget them."""
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

    def _compare(self, waiting: _Comparison[E]) -> None:
        trial = waiting.trial
        current = self._now.trial
        if current is None or trial.tally is not current.tally:
            return  # the trial of this event has ended
        try:
            other = self._summarise(waiting.ask(waiting.other))
        except Exception as error:  # count a candidate's failure; the hot path reports the serving model's
            if not waiting.by_candidate:
                self._failed(trial, error)
            return
        old, new = (other, waiting.summary) if waiting.by_candidate else (waiting.summary, other)
        trial.tally.add(old, new)

    def _failed(self, trial: Trial[E], error: Exception) -> None:
        trial.tally.fail()
        text = error if isinstance(error, Rejected) else repr(error)
        log.warning(
            "the candidate failed on an event that the serving model answers",
            model=trial.model.name,
            error=str(text),
        )

    # --- swaps -------------------------------------------------------------------------------------------------

    def try_out(self, trial: Trial[E] | None) -> None:
        """Begin a trial or its next stage, or end it with None."""
        self._now = _Arrangement(self._now.model, trial)

    def swap(self, model: E) -> None:
        """Serve this model from the next event on, end any trial, then call the listeners."""
        self._now = _Arrangement(model)
        for listener in self._listeners:
            try:
                listener(model)
            except Exception:  # a listener's failure does not undo the swap
                log.exception("a listener to a swap failed", model=model.name)

    def subscribe(self, listener: Callable[[E], object]) -> None:
        """Call the listener with each model that begins to serve, on the updater's thread."""
        self._listeners.append(listener)
