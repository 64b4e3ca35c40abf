"""The files through which people and the trainer communicate: training records, and requests to train or to forget.

::

    <data>/trainer/reports/0007.json, 0007.md      one training, also a refused or failed one; never changed
    <data>/trainer/train-now.json                  a request for a training; stays until a record answers it
    <data>/trainer/forget/*.json                   a request to remove an event, a device or a site

    reports = Reports(settings.data_dir)
    reports.last                       # TrainingRecord(number=7, outcome="released", title="lite0@3", ...)
    reports.request_training("before the weekend")  # as `tierwise training now` does
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agents.trainer.triggers import LastTraining
from models.training.report import TrainingReport, render
from pipeline import clock
from pipeline.errors import Stop
from pipeline.files import private_files

FOLDER: Final = "trainer"
REQUEST_FILE: Final = "train-now.json"
DIGITS: Final = 4


class ForgetRequest(msgspec.Struct, frozen=True):
    """A request to remove an event, a device or a site from everything that was learned, for good."""

    kind: Literal["event", "device", "site"]
    name: str


class TrainingRequest(msgspec.Struct, frozen=True):
    """A person's request for a training."""

    id: str
    reason: str


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One training and its outcome."""

    number: int
    time: str
    rule: str
    reason: str
    """The trigger: see `triggers.RULES`."""
    outcome: Literal["released", "refused", "failed"]
    title: str
    """Title of the release, as ``lite0@3``; without a release, the title that it would have had."""
    why: tuple[str, ...]
    """The reasons against a release; empty if there is one."""
    seconds: float
    changes: int
    events: dict[str, int]
    """Events in the fold by label, including held-out ones."""
    digest: str
    """Digest of the sums."""
    wish: str = ""
    """Id of the `TrainingRequest` that this training answers."""
    training: TrainingReport | None = None
    """The report with figures; None if the training failed earlier."""

    @property
    def text(self) -> str:
        """Return the record as Markdown."""
        if self.training is not None:
            return render(self.training)
        return "\n".join((f"# {self.title} ({self.outcome})", "", *(f"* {line}" for line in self.why), ""))

    @property
    def line(self) -> str:
        """Return the record as one line."""
        because = f": {'; '.join(self.why)}" if self.why else ""
        return f"{self.time} {self.title} {self.outcome} ({self.rule}: {self.reason}){because}"


class Reports:
    """The folder of a trainer. It can be read while no trainer runs."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER / "reports"
        self._request = data_dir / FOLDER / REQUEST_FILE
        self._forget = data_dir / FOLDER / "forget"

    # --- records -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TrainingRecord]:
        """Iterate over all records, oldest first."""
        for path in self._paths():
            yield _read(path)

    @property
    def last(self) -> TrainingRecord | None:
        """Return the newest record."""
        paths = self._paths()
        return _read(paths[-1]) if paths else None

    def _paths(self) -> list[Path]:
        """Return the files by number: sorted as text, 10000 would stand before 9999."""
        return sorted(self._folder.glob("[0-9]*.json"), key=lambda path: (len(path.stem), path.stem))

    @property
    def last_training(self) -> LastTraining:
        """Return the fold's state at the last training, from which the triggers count."""
        last = self.last
        if last is None:
            return LastTraining()
        return LastTraining(last.changes, last.events, clock.seconds(last.time))

    @property
    def next_number(self) -> int:
        """Return the number of the next record."""
        last = self.last
        return last.number + 1 if last else 1

    def add(self, record: TrainingRecord) -> None:
        """Write a record, and remove the request that it answers."""
        private_files.make_folder(self._folder)
        name = f"{record.number:0{DIGITS}d}"
        _write(self._folder / f"{name}.md", record.text.encode())
        _write(self._folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(record)))
        request = self.open_request()
        if request and request.id == record.wish:
            self._request.unlink(missing_ok=True)

    # --- requests ----------------------------------------------------------------------------------------------

    def request_training(self, reason: str) -> TrainingRequest:
        """Request a training now."""
        request = TrainingRequest(uuid.uuid4().hex, reason)
        private_files.make_folder(self._request.parent)
        _write(self._request, msgspec.json.encode(request))
        return request

    def open_request(self) -> TrainingRequest | None:
        """Return the request that no record answers yet."""
        try:
            return msgspec.json.decode(self._request.read_bytes(), type=TrainingRequest)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:  # an empty file, as `touch` makes, is a request too
            return TrainingRequest("", "by hand")

    def request_forgetting(self, request: ForgetRequest) -> None:
        """Request that the trainer forgets, and then trains again."""
        private_files.make_folder(self._forget)
        _write(self._forget / f"{uuid.uuid4().hex}.json", msgspec.json.encode(request))

    def forget_requests(self) -> list[tuple[ForgetRequest, Path]]:
        """Return the requests to forget, each with its file, which the trainer removes afterwards."""
        found = []
        for path in sorted(self._forget.glob("*.json")):
            try:
                found.append((msgspec.json.decode(path.read_bytes(), type=ForgetRequest), path))
            except (OSError, msgspec.DecodeError) as error:
                raise Stop(f"{path} is not a valid request to forget ({error}): remove it") from None
        return found


def _read(path: Path) -> TrainingRecord:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(f"{path} is not a valid report of a training ({error}): move it away") from None


def _write(path: Path, data: bytes) -> None:
    """Write the complete file or nothing. Each process has its own draft, since several may write a request."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
