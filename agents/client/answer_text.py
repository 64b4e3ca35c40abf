"""Answers as people see them: the newest revision of each event, and one line of text for each.

>>> Board(most=10).events
()
>>> label_text("Felis catus")
'Felis catus (cat)'
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from models.labels.taxonomy import UnknownLabel, load_taxonomy
from pipeline import clock
from pipeline.messages import Result, Task

EVENTS_KEPT: Final = 1000
"""More than any screen shows."""


class Board:
    """Keeps the highest revision of each event, of the most recent events."""

    def __init__(self, most: int = EVENTS_KEPT) -> None:
        self._most = most
        self._answers: dict[str, Result] = {}

    def refine(self, result: Result) -> bool:
        """Take an answer in; return False if it is a repeat, or older than a known one."""
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


def label_text(label: str) -> str:
    """Return a label with its English name."""
    try:
        english = load_taxonomy().english(label)
    except UnknownLabel:  # a newer model of another tier may know labels that this table does not
        return label
    return label if english == label else f"{label} ({english})"


def wording(result: Result) -> str:
    """Return an answer as text: a label with its English name; a reading with its value or state."""
    if result.task is Task.WILDLIFE:
        return label_text(result.label)
    if len(result.path) > 1:
        return " ".join(reversed(result.path))
    measured = "" if result.value is None else f"{result.value:g} {result.unit or ''} "
    return f"{measured}{result.label}".strip()


def local_time(rfc3339: str) -> str:
    """Return the time of day where this command runs."""
    try:
        return dt.datetime.fromtimestamp(clock.seconds(rfc3339)).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError):  # anyone may publish a result
        return "--:--:--"


WIDE: Final = 110
"""Columns from which on a line holds rank and rule, too."""


def line(result: Result, width: int = WIDE) -> str:
    """Return one answer as one line of plain text; in a narrow terminal without rank and rule."""
    pending = f"→ {result.pending}" if result.pending else ""
    if width < WIDE:
        return (
            f"{result.tier:<7} {wording(result):<30} {result.probability:4.2f} "
            f"{result.latency_ms:5.0f} ms  {result.privacy:<12} {pending}"
        ).rstrip()
    return (
        f"{result.tier:<7} {result.rank:<8} {wording(result):<36} {result.probability:4.2f} "
        f"{result.latency_ms:6.0f} ms  {result.privacy:<12} {pending:<8} {result.rule}"
    ).rstrip()
