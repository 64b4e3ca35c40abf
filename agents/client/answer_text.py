"""Answers as people see them: the newest revision of each event, and one line of text for each.

>>> Board(most=10).events
()
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from models.labels.taxonomy import UnknownLabel, load_taxonomy
from pipeline import clock
from pipeline.messages import Result, Task

EVENTS_KEPT: Final = 1000
"""Of a long `watch`: more than any screen shows."""


class Board:
    """Keeps the highest revision of each event, of the most recent events."""

    def __init__(self, most: int = EVENTS_KEPT) -> None:
        self._most = most
        self._answers: dict[str, Result] = {}

    def refine(self, result: Result) -> bool:
        """Take an answer in; False if it says nothing new (a repeat, or older than what is known)."""
        known = self._answers.get(result.event)
        if known is not None and known.revision >= result.revision:
            return False
        self._answers[result.event] = result
        while len(self._answers) > self._most:
            del self._answers[next(iter(self._answers))]
        return True

    @property
    def events(self) -> tuple[Result, ...]:
        """The newest answer of each event, in the order in which the events came first."""
        return tuple(self._answers.values())


def wording(result: Result) -> str:
    """An answer's words: a label with its English name; a reading with its value."""
    if result.task is Task.WILDLIFE:
        try:
            english = load_taxonomy().english(result.label)
        except UnknownLabel:  # a newer model of another tier may know labels that this table does not
            english = result.label
        return result.label if english == result.label else f"{result.label} ({english})"
    measured = "" if result.value is None else f"{result.value:g} {result.unit or ''} "
    return f"{measured}{result.label}".strip()


def local_time(result: Result) -> str:
    """The event's time of day where this command runs."""
    return dt.datetime.fromtimestamp(clock.seconds(result.time)).astimezone().strftime("%H:%M:%S")


def line(result: Result) -> str:
    """One answer on one line of plain text."""
    pending = f"→ {result.pending}" if result.pending else ""
    return (
        f"{result.tier:<7} {result.rank:<8} {wording(result):<36} {result.probability:4.2f} "
        f"{result.latency_ms:6.0f} ms  {result.privacy:<12} {pending:<8} {result.rule}"
    ).rstrip()
