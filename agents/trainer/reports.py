"""What the trainer and people tell each other on disk: a report of each training, and the wish for one.

::

    <data>/trainer/reports/0007.json, 0007.md      what came of it, refused and failed ones as well; never changed
    <data>/trainer/train-now.json                  somebody asks for a training; stays until a report answers it
    <data>/trainer/forget/*.json                   somebody asks that an event, a device or a site be taken out

    reports = Reports(settings.data_dir)
    reports.last                       # Kept(number=7, outcome="released", title="lite0@3", ...)
    reports.ask("before the weekend")  # what `tierwise models train` does
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agents.trainer.triggers import Last
from models.training.report import TrainingReport, render
from pipeline import clock
from pipeline.errors import Stop
from pipeline.files import private_files

FOLDER: Final = "trainer"
WISH: Final = "train-now.json"
DIGITS: Final = 4


class Forget(msgspec.Struct, frozen=True):
    """What is to be taken out of all that was learned, for good."""

    kind: Literal["event", "device", "site"]
    name: str


class Wish(msgspec.Struct, frozen=True):
    id: str
    reason: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One training, and what came of it."""

    number: int
    time: str
    rule: str
    reason: str
    """Why it began: see `trainer_triggers.RULES`."""
    outcome: Literal["released", "refused", "failed"]
    title: str
    """Of the release, as ``lite0@3``: the one that there is, or would have been."""
    why: tuple[str, ...]
    """What speaks against it; empty for a release."""
    seconds: float
    changes: int
    events: dict[str, int]
    """By label, what the fold held: judges included."""
    digest: str
    """Of the sums."""
    wish: str = ""
    """Id of the wish that it answers."""
    training: TrainingReport | None = None
    """Figures; none where it failed before there were any."""

    @property
    def text(self) -> str:
        """For people, Markdown."""
        if self.training is not None:
            return render(self.training)
        return "\n".join((f"# {self.title} ({self.outcome})", "", *(f"* {line}" for line in self.why), ""))

    @property
    def line(self) -> str:
        """In one line."""
        because = f": {'; '.join(self.why)}" if self.why else ""
        return f"{self.time} {self.title} {self.outcome} ({self.rule}: {self.reason}){because}"


class Reports:
    """A trainer's folder. Reading needs no trainer."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER / "reports"
        self._wish = data_dir / FOLDER / WISH
        self._forget = data_dir / FOLDER / "forget"

    # --- reports -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Kept]:
        """All of them, the oldest first."""
        for path in self._paths():
            yield _read(path)

    @property
    def last(self) -> Kept | None:
        paths = self._paths()
        return _read(paths[-1]) if paths else None

    def _paths(self) -> list[Path]:
        """By number: as text, 10000 would come before 9999."""
        return sorted(self._folder.glob("[0-9]*.json"), key=lambda path: (len(path.stem), path.stem))

    @property
    def seen(self) -> Last:
        """What the last training saw: the triggers count from there."""
        last = self.last
        return Last(last.changes, last.events, clock.seconds(last.time)) if last else Last()

    @property
    def next_number(self) -> int:
        last = self.last
        return last.number + 1 if last else 1

    def keep(self, kept: Kept) -> None:
        """Write a report, for good; and let go of the wish that it answers."""
        private_files.make_folder(self._folder)
        name = f"{kept.number:0{DIGITS}d}"
        _write(self._folder / f"{name}.md", kept.text.encode())
        _write(self._folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(kept)))
        wish = self.wish()
        if wish and wish.id == kept.wish:
            self._wish.unlink(missing_ok=True)

    # --- wishes ------------------------------------------------------------------------------------------------

    def ask(self, reason: str) -> Wish:
        """Ask the trainer for a training, now."""
        wish = Wish(uuid.uuid4().hex, reason)
        private_files.make_folder(self._wish.parent)
        _write(self._wish, msgspec.json.encode(wish))
        return wish

    def wish(self) -> Wish | None:
        """What is asked for and not answered yet."""
        try:
            return msgspec.json.decode(self._wish.read_bytes(), type=Wish)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:  # somebody's `touch`: that is a wish, too
            return Wish("", "by hand")

    def ask_to_forget(self, what: Forget) -> None:
        """The trainer does it next, and trains without it."""
        private_files.make_folder(self._forget)
        _write(self._forget / f"{uuid.uuid4().hex}.json", msgspec.json.encode(what))

    def to_forget(self) -> list[tuple[Forget, Path]]:
        """What is to be forgotten, and the file to remove when it is."""
        found = []
        for path in sorted(self._forget.glob("*.json")):
            try:
                found.append((msgspec.json.decode(path.read_bytes(), type=Forget), path))
            except (OSError, msgspec.DecodeError) as error:
                raise Stop(f"{path} does not say what to forget ({error}): remove it") from None
        return found


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(f"{path} is no report of a training ({error}): move it away") from None


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also where the power fails."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
