"""Folders of photos: every photo once, in the order of their times, searched for new photos until the agent stops."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from models.vision.capture_time import exif_tags_of, wall_time_s
from models.vision.photo_files import PHOTO_SUFFIXES, photos_of, read_photo
from pipeline.errors import Retry

log = structlog.get_logger("camera")

SEARCH_AGAIN_S = 30.0
"""Pause between two searches of a folder for new photos."""


class Shot(NamedTuple):
    """One encoded picture, and the time that its id is made of (see `photo_time_s`; UTC seconds since the epoch)."""

    data: bytes
    time_s: float
    name: str
    own: bool = False
    """This process encoded it, so it can be decoded."""
    live: bool = False
    """It was taken at `time_s` by this machine's clock."""
    problem: str = ""
    """Why there are no data."""


def photos(path: Path, stop: threading.Event) -> Iterator[Shot]:
    """Yield new and changed photos, search after search. A photo that cannot be read is a shot with a `problem`."""
    taken: set[int] = set()
    while not stop.is_set():
        files = photos_of(path, lambda error: log.warning("a folder cannot be listed", error=str(error)))
        if not files:
            raise Retry(f"{path}: no photos there yet (searched for {', '.join(sorted(PHOTO_SUFFIXES))})")
        new = {file: mark for file in files if (mark := _fingerprint(file)) not in taken}
        for time_s, file in sorted((photo_time_s(file), file) for file in new):
            if stop.is_set():
                return
            taken.add(new[file])
            try:
                yield Shot(read_photo(file), time_s, file.name)
            except OSError as error:
                yield Shot(b"", time_s, file.name, problem=f"it cannot be read: {error.strerror}")
        if files == [path]:
            return
        stop.wait(SEARCH_AGAIN_S)


def photo_time_s(file: Path) -> float:
    """Return the time that orders photos and names their events: the camera's own, as if it were UTC, else the file's.

    It does not depend on the settings, so that a photo keeps its id when the time zone is set.
    """
    if (time_s := wall_time_s(exif_tags_of(file))) is not None:
        return time_s
    with contextlib.suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _fingerprint(file: Path) -> int:
    """Return a number that changes with the file. A number for each photo, since a folder may hold very many."""
    try:
        status = file.stat()
    except OSError:
        return hash(file)
    return hash((file, status.st_mtime_ns, status.st_size))
