"""The trainer's reports on this machine, and requests to it: for the commands that people run beside it."""

from __future__ import annotations

from agents.trainer.reports import ForgetRequest, Reports, TrainingRecord
from pipeline.errors import Stop

__all__ = ["ForgetRequest", "Reports", "TrainingRecord", "numbered"]


def numbered(reports: Reports, text: str) -> TrainingRecord:
    """Return one training: by its number, or `last`. Raises `Stop`.

    >>> from pathlib import Path
    >>> numbered(Reports(Path("nowhere")), "last")
    Traceback (most recent call last):
    ...
    pipeline.errors.Stop: there is no training yet; `tierwise training now` asks for one
    """
    if text == "last":
        last = reports.last
        if last is None:
            raise Stop("there is no training yet; `tierwise training now` asks for one")
        return last
    found = next((each for each in reports if str(each.number) == text), None)
    if found is None:
        raise Stop(f"there is no training {text}; `tierwise training list` shows their numbers")
    return found
