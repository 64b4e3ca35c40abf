"""Progress of `tierwise classify` on stderr: a bar with the time that is left, or a line now and then into a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

LINE_EVERY_S: Final = 10.0


class CardProgress:
    """Progress over so many pictures; with 0, none is shown."""

    def __init__(self, errors: Console, pictures: int) -> None:
        self._errors = errors
        self._pictures = pictures
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=errors,
            transient=True,
            disable=not (pictures and errors.is_terminal),
        )
        self._task = self._bar.add_task("reading times", total=pictures)
        self._done = self._new = 0
        self._began_s = self._said_s = time.monotonic()

    def __enter__(self) -> CardProgress:
        """Show it from now on."""
        self._bar.start()
        self._line(f"{self._pictures:,} pictures: opening the models")
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def reading(self, files: Sequence[T]) -> Iterator[T]:
        """Yield the files, whose times are read; afterwards they are answered."""
        for file in files:
            yield file
            self._bar.advance(self._task)
        self.begin("classifying")

    def begin(self, work: str) -> None:
        """Count the pictures from zero, for this work."""
        self._bar.reset(self._task, description=work, total=self._pictures)

    def answered(self, pictures: int, *, known: bool) -> None:
        """Count pictures; those that an earlier run answered do not count for the time that is left."""
        now_s = time.monotonic()
        if self._done == 0:  # the time until then is mostly that of opening the models
            self._began_s = now_s
        elif not known:
            self._new += pictures
        self._done += pictures
        self._bar.advance(self._task, pictures)
        if now_s - self._said_s >= LINE_EVERY_S:
            left = (self._pictures - self._done) * (now_s - self._began_s) / self._new if self._new else 0.0
            about = f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left" if left else ""
            self._line(f"{self._done:,} of {self._pictures:,} pictures{about}")

    def _line(self, text: str) -> None:
        self._said_s = time.monotonic()
        if self._pictures and not self._errors.is_terminal:
            self._errors.print(text)
