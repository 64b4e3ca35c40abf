"""Answers a card's pictures, in one process or several.

::

    CardPictures --stretches--> tasks --processes: read, TierChain--> Outcomes, in the order of the tasks
                                             |  ^
                                             v  |
                                         KeptAnswers: what an earlier run has answered already

Memory holds one picture a process and the answers of one task, however many pictures there are. With equal pictures,
models and settings the answers are equal, for any number of processes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from models.answering.tier_chain import CAMERA, ChainAnswer, Classified, TierChain, classified
from models.card.kept_answers import KeptAnswers
from models.card.stretches import CardPicture, Stretch, in_tasks, stretches
from models.evaluation.process_pool import ITEMS_A_TURN, process_count, work_through
from models.vision.capture_time import EARLIEST_S, capture_time
from models.vision.clip_files import digest_of, file_tags, is_clip, read_picture
from pipeline import clock, ids
from pipeline.errors import Rejected


class RefusedPicture(msgspec.Struct, frozen=True):
    """Why a file has no answer."""

    reason: str
    detail: str


class Outcome(msgspec.Struct, frozen=True):
    """One picture's answer, or the reason why it has none."""

    file: str
    answer: Classified | None = None
    refused: RefusedPicture | None = None


class AnsweredStretch(NamedTuple):
    """The outcomes of one stretch; `key` is None if it cannot be kept, since a file of it could not be read."""

    key: bytes | None
    outcomes: tuple[Outcome, ...]
    known: bool = False
    """An earlier run answered it."""


@dataclass(frozen=True, slots=True)
class CardRun:
    """One run over a card. `opener` opens the chain in each process anew, and has to be picklable."""

    opener: Callable[[], TierChain]
    settings: bytes
    """Whatever else could change an answer."""
    zone: dt.tzinfo
    now_s: float
    """Time of the run (UTC seconds), by which a camera's clock is judged."""
    pause_s: float
    """A longer time without a picture ends motion, sightings and holds."""
    kept: Path | None = None
    """File of kept answers; None keeps none."""
    again: bool = False
    """Answer what was answered before, too."""

    def dated(self, name: str, file: Path) -> CardPicture:
        """Return the picture with the time that its bytes hold, if that can be right."""
        taken = capture_time(file_tags(file), self.zone, self.now_s)
        return CardPicture(name, file, taken.time_s if taken.trusted and taken.source != "received" else None)

    def outcomes(self, pictures: Iterable[CardPicture], workers: int | None) -> Generator[AnsweredStretch, None, None]:
        """Yield the outcomes, folder by folder, each folder in the order of capture. Raises `Stop`, `sqlite3.Error`."""
        tasks = list(in_tasks(stretches(pictures, self.pause_s), ITEMS_A_TURN))
        count = sum(len(stretch.pictures) for task in tasks for stretch in task)
        processes = process_count(workers, count, len(tasks))
        # Opened here also where other processes answer: a damaged model is reported before they start.
        chain = self.opener()
        worker = self._worker if processes > 1 else lambda: _CardWorker(self, chain).work
        kept = KeptAnswers(self.kept) if self.kept is not None else None
        try:
            with closing(work_through(tasks, worker, processes)) as done:
                for answered in done:
                    if kept is not None:  # known ones too: they were used
                        kept.put((each.key, msgspec.json.encode(each.outcomes)) for each in answered if each.key)
                    yield from answered
        finally:
            if kept is not None:
                kept.close()

    def _worker(self) -> Callable[[Sequence[Stretch]], list[AnsweredStretch]]:
        return _CardWorker(self, self.opener()).work


class _CardWorker:
    """Answers the stretches of one process."""

    def __init__(self, run: CardRun, chain: TierChain) -> None:
        self._run = run
        self._chain = chain
        self._kept = None if run.kept is None or run.again else KeptAnswers(run.kept)
        self._models = msgspec.json.encode(dict(chain.names)) + run.settings

    def work(self, task: Sequence[Stretch]) -> list[AnsweredStretch]:
        return [self._stretch(stretch) for stretch in task]

    def _stretch(self, stretch: Stretch) -> AnsweredStretch:
        key = self._key(stretch)
        if key is not None and self._kept is not None and (body := self._kept.get(key)) is not None:
            names = [picture.name for picture in stretch.pictures]
            return AnsweredStretch(key, tuple(map(_renamed, msgspec.json.decode(body, type=_MANY), names)), known=True)
        before: ChainAnswer | None = None
        outcomes = []
        for picture in (*stretch.lead, *stretch.pictures):
            before, outcome = self._picture(picture, before, stretch)
            outcomes.append(outcome)
        return AnsweredStretch(key, tuple(outcomes[len(stretch.lead) :]))

    def _key(self, stretch: Stretch) -> bytes | None:
        whole = hashlib.sha256(self._models)
        try:
            for picture in (*stretch.lead, *stretch.pictures):
                # Without a time in its bytes, a picture has that of its file.
                taken_s = picture.file.stat().st_mtime if picture.taken_s is None else picture.taken_s
                whole.update(digest_of(picture.file) + f"{taken_s} {is_clip(picture.file)}\0".encode())
        except OSError:
            return None
        return whole.digest()

    def _picture(
        self, picture: CardPicture, before: ChainAnswer | None, stretch: Stretch
    ) -> tuple[ChainAnswer | None, Outcome]:
        """Return the memory for the next picture, and the outcome of this one."""
        first_s = (*stretch.lead, *stretch.pictures)[0].taken_s or 0.0
        try:
            data = read_picture(picture.file)
            answer = self._chain.answer(
                data,
                event=ids.of_content(picture.taken_s, CAMERA.name, hashlib.sha256(data).digest()),
                received_s=self._run.now_s + max(0.0, (picture.taken_s or 0.0) - first_s),
                captured_s=self._file_s(picture.file),
                before=before,
            )
        except (Rejected, OSError) as error:
            reason = error.reason if isinstance(error, Rejected) else "unreadable"
            return before, Outcome(picture.name, refused=RefusedPicture(reason, _detail(error)))
        result = answer.device.result
        if answer.device.situation.stands and before is not None and answer.device.situation.person_ago_s is None:
            answer = replace(answer, edge=before.edge, cloud=before.cloud)  # what stands is the whole answer
        line = classified(
            picture.name,
            answer,
            time=dt.datetime.fromtimestamp(clock.seconds(result.time), self._run.zone).isoformat(timespec="seconds"),
            time_source="file" if picture.taken_s is None else result.time_source,
            media="video" if is_clip(picture.file) else "image",
        )
        return answer, Outcome(picture.name, line)

    def _file_s(self, file: Path) -> float:
        return max(EARLIEST_S, min(file.stat().st_mtime, self._run.now_s))


_MANY: Final = tuple[Outcome, ...]


def _renamed(outcome: Outcome, name: str) -> Outcome:
    answer = outcome.answer
    return Outcome(name, answer and msgspec.structs.replace(answer, file=name), outcome.refused)


def _detail(error: Exception) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)
