"""The pictures of folders, cut into stretches that can be answered apart from each other. Pure.

Motion, sightings and the hold after a person follow a camera's pictures in the order of their capture. After a pause
that is longer than all of these, nothing is remembered, so each stretch between two pauses is answered by itself, in
any process, with the same answers::

    cam1/  08:00:01 08:00:02 | 08:14:40 08:14:41 08:14:42 | 09:30:00      three stretches

A picture without a time of its own is a stretch of its own. A camera that never pauses is cut after `LONGEST`
pictures; the `lead` of a cut stretch holds the pictures before it, which are answered again for what they are
remembered for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

LONGEST: Final = 128
"""Pictures of a stretch at most: a time-lapse never pauses, and all cores shall work on it."""


class CardPicture(NamedTuple):
    """A photo or video: its name in every output, its file, and the time of its capture (UTC seconds) if it has one."""

    name: str
    file: Path
    taken_s: float | None = None


class Stretch(NamedTuple):
    """Pictures of one folder in the order of their capture, and those right before them that have to be known."""

    pictures: Sequence[CardPicture]
    lead: Sequence[CardPicture] = ()


def stretches(pictures: Iterable[CardPicture], pause_s: float) -> Iterator[Stretch]:
    """Cut at pauses of more than `pause_s` seconds; folders in the order of their names."""
    folders: dict[Path, list[CardPicture]] = {}
    for picture in pictures:
        folders.setdefault(picture.file.parent, []).append(picture)
    for of_folder in folders.values():
        dated = sorted((p for p in of_folder if p.taken_s is not None), key=lambda p: (p.taken_s or 0.0, p.name))
        yield from _cut(dated, pause_s)
        yield from (Stretch((picture,)) for picture in of_folder if picture.taken_s is None)


def _cut(dated: Sequence[CardPicture], pause_s: float) -> Iterator[Stretch]:
    start = 0
    lead: Sequence[CardPicture] = ()
    for at in range(1, len(dated) + 1):
        pause = at == len(dated) or _apart_s(dated[at - 1], dated[at]) > pause_s
        if pause or at - start == LONGEST:
            stretch = dated[start:at]
            yield Stretch(stretch, lead)
            lead = () if pause else [p for p in stretch if _apart_s(p, dated[at]) <= pause_s]
            start = at


def _apart_s(earlier: CardPicture, later: CardPicture) -> float:
    return (later.taken_s or 0.0) - (earlier.taken_s or 0.0)


def in_tasks(cut: Iterable[Stretch], pictures: int) -> Iterator[tuple[Stretch, ...]]:
    """Gather stretches until there are so many pictures: what a process gets at once."""
    task: list[Stretch] = []
    for stretch in cut:
        task.append(stretch)
        if sum(len(each.pictures) for each in task) >= pictures:
            yield tuple(task)
            task = []
    if task:
        yield tuple(task)
