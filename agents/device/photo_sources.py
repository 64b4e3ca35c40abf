"""Folders of photos and clips: every content once, in the order of their times, searched again until the agent stops.

A file is taken when it is whole. A content is taken once on its stream, whatever its name, its place or the time of the
file (see `agents.device.known_files`)::

    search ──changed?──> settled? ──> SHA-256 ──new?──> Shot ──> inbox
       ^                    └──still being written: look again soon
       └──pause
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from agents.device.known_files import KnownFiles, SourceFile, file_mark
from models.vision import images
from models.vision.capture_time import exif_tags_of, wall_time_s
from models.vision.clip_files import best_frame, clip_tags, digest_of, is_clip
from models.vision.photo_files import PHOTO_SUFFIXES, PICTURE_SUFFIXES, photos_of, read_photo
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry

log = structlog.get_logger("camera")

SEARCH_AGAIN_S = 30.0
"""Pause between two searches of a folder for new photos."""

SETTLED_S = 5.0
"""A file without its end is whole, or never will be, if it was not written for so long: copying pauses for less."""

LOOK_AGAIN_S: Final = 1.0
"""Pause while a file is being written."""


class Shot(NamedTuple):
    """One encoded picture, and the time that orders it (UTC seconds since the epoch)."""

    data: bytes
    time_s: float
    name: str
    own: bool = False
    """This process encoded it, so it can be decoded."""
    problem: str = ""
    """Why there are no data."""
    file: SourceFile | None = None


def still_grows(written_ago_s: float, whole: bool) -> bool:
    """Return whether a file is being written: its end is missing, and it was written just now.

    >>> still_grows(1.0, whole=False), still_grows(60.0, whole=False), still_grows(1.0, whole=True)
    (True, False, False)
    """
    return not whole and abs(written_ago_s) < SETTLED_S


class PhotoSource:
    """The photos and clips of one stream: a folder with its subfolders, or a single file."""

    def __init__(self, path: Path, source: str, known: KnownFiles, stop: threading.Event, clock: Clock) -> None:
        self._path = path
        self._source = source
        self._known = known
        self._stop = stop
        self._clock = clock
        self._done: set[bytes] = set()
        """Marks of the files of this run."""
        self._growing = False

    def shots(self, found: Callable[[], object]) -> Iterator[Shot]:
        """Yield new contents, search after search. A file that cannot be read is a shot with a `problem`.

        `found` is called at each search that finds files, which may all be known. Raises `Retry` without any file.
        """
        while not self._stop.is_set():
            files = photos_of(self._path, _report, PICTURE_SUFFIXES)
            if not files:
                raise Retry(f"{self._path}: no photos there yet (searched for {', '.join(sorted(PICTURE_SUFFIXES))})")
            found()
            self._growing = False
            for file in sorted(self._new(files), key=lambda file: (file.time_s, file.path)):
                if self._stop.is_set():
                    return
                yield from self._shots_of(file)
            if files == [self._path] and not self._growing:
                return
            self._stop.wait(LOOK_AGAIN_S if self._growing else SEARCH_AGAIN_S)

    def _new(self, files: list[Path]) -> Iterator[SourceFile]:
        for path in files:
            try:
                status = path.stat()
                mark, file_s = file_mark(status), status.st_mtime
            except OSError:
                mark, file_s = bytes(path), 0.0
            if mark not in self._done and not self._known.is_unchanged(self._source, path, mark):
                clip = is_clip(path) or (files == [self._path] and path.suffix.lower() not in PHOTO_SUFFIXES)
                bytes_s = wall_time_s(clip_tags(path) if clip else exif_tags_of(path))
                yield SourceFile(path, mark, clip, bytes_s, file_s)

    def _shots_of(self, file: SourceFile) -> Iterator[Shot]:
        """Yield the shot of a file, unless its content is known or it is still being written."""
        path, data = file.path, b""
        try:
            if not file.clip:
                data = read_photo(path)
            whole = bool(data) and _is_whole(data)
            file = file._replace(digest=hashlib.sha256(data).digest() if data else digest_of(path))
            if still_grows(self._clock.now() - file.file_s, whole) or file_mark(path.stat()) != file.mark:
                self._growing = True
                return
            if self._known.has(self._source, file.digest):
                self._known.remember(self._source, file)
            else:
                data = data or (best_frame(path, lambda: not self._stop.is_set()) if file.clip else b"")
                yield Shot(data, file.time_s, path.name, own=file.clip, file=file)
        except Rejected as error:
            if self._stop.is_set():
                return
            yield Shot(b"", file.time_s, path.name, problem=str(error), file=file)
        except OSError as error:  # perhaps of a card with a loose contact: refused once, and tried again at each start
            file = file._replace(digest=file.mark, mark=b"")
            if not self._known.has(self._source, file.digest):
                yield Shot(b"", file.time_s, path.name, problem=f"it cannot be read: {error.strerror}", file=file)
        self._done.add(file.mark or file.digest)


def _is_whole(data: bytes) -> bool:
    """Return whether a picture's bytes end with its end marker. Phones append a film, which may still be on its way."""
    try:
        images.inspect(data)
    except Rejected:
        return False
    return data.rstrip(b"\0").endswith(images.ENDS)


def _report(error: OSError) -> None:
    log.warning("a folder cannot be listed", error=str(error))
