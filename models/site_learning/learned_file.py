"""What a site has learned without a running edge: one file of lessons, from which the head is solved again.

`tierwise labels import` writes it and `tierwise classify` answers by it. It is as private as the pictures are.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from models.site_learning.lesson_log import General, Learning, Standing, Taught
from models.site_learning.site_head import BackgroundSums
from models.site_learning.site_model import Rule
from pipeline.errors import Stop
from pipeline.files import fsync, private_files


class _Lesson(msgspec.Struct, frozen=True, array_like=True):
    event: str
    visit: str
    path: tuple[str, ...]
    english: str
    vector: bytes
    rule: Rule | None
    place: int


class _Learned(msgspec.Struct, frozen=True):
    space: str
    standing: Standing
    lessons: tuple[_Lesson, ...]


def read_learning(file: Path, general: General, site: str, background: BackgroundSums) -> Learning:
    """Return the learning that the file holds, over this general model; an empty one if there is no file.

    Raises `Stop` if it cannot be read. Lessons in vectors of another space are left out.
    """
    fresh = Learning.start(general, site=site, background=background)
    try:
        learned = msgspec.msgpack.decode(file.read_bytes(), type=_Learned)
    except FileNotFoundError:
        return fresh
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(f"{file} cannot be read ({error}): remove it, and import your labels again") from error
    if learned.space != general.space:
        return fresh
    events = (
        Taught(
            each.event, each.visit, each.path, each.english, np.frombuffer(each.vector, np.uint8), each.rule, each.place
        )
        for each in learned.lessons
    )
    return fresh.restored(events, learned.standing)


def write_learning(file: Path, learning: Learning) -> None:
    """Replace the file, for its owner alone. Raises `OSError`."""
    lessons = tuple(
        _Lesson(each.event, each.visit, each.path, each.english, each.vector.tobytes(), each.rule, each.place)
        for each in learning.events.values()
    )
    private_files.make_folder(file.parent)
    private_files.make_file(file.with_name(file.name + ".draft"))
    body = msgspec.msgpack.encode(_Learned(learning.general.space, learning.standing, lessons))
    fsync.replace_file(file, body)
