"""Cameras that the device agent opens itself: a webcam, an RTSP stream, a video file, a folder of photos.

A source yields `Shot`s: a JPEG and when it was taken. Of moving sources a shot is only what the motion gate lets pass,
since a frame that shows nothing new is not an event; a folder yields every photo once, in the order of their times::

    for shot in open_source("rtsp://10.0.0.7/live", stop=stop, clock=clock): ...
    for shot in open_source("~/photos", stop=stop, clock=clock): ...
"""

from __future__ import annotations

import datetime as dt
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import structlog

from models.vision import images, motion
from pipeline.clock import Clock
from pipeline.errors import Stop

log = structlog.get_logger("camera")

FRAMES_PER_S = 2.0
"""At most so many frames a second of a moving source are looked at: an animal stays for seconds."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between tries to open a source that is away: doubled from the first to the longest."""

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
JPEG_QUALITY = 90


class Shot(NamedTuple):
    """One frame as an event will carry it; `time_s` is UTC seconds since the epoch."""

    data: bytes
    time_s: float
    name: str


def open_source(source: str, *, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    """The shots of a source: a folder, a photo, a number (webcam), a video file, or a URL that OpenCV can open.

    A live source that goes away is opened again for ever; a file or a folder ends.

    Raises
    ------
    Stop
        The source is a path that does not exist, or a folder without photos.
    """
    path = Path(source).expanduser()
    if path.is_dir() or path.suffix.lower() in PHOTO_SUFFIXES:
        return _photos(path, stop)
    if "://" not in source and not source.isdigit() and not path.exists():
        raise Stop(
            f"source {source!r}: no such file or folder; give a path, a webcam's number or an rtsp:// URL"
        )
    return _video(
        source if not source.isdigit() else int(source), "://" in source or source.isdigit(), stop, clock
    )


# --- photos ----------------------------------------------------------------------------------------------------


def photos_of(path: Path) -> list[Path]:
    """The photos of a folder and its subfolders, or the one that was named, by name."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())


def _photos(path: Path, stop: threading.Event) -> Iterator[Shot]:
    files = photos_of(path)
    if not files:
        raise Stop(f"source {path}: no photos there (looked for {', '.join(sorted(PHOTO_SUFFIXES))})")
    for file, time_s in sorted(((f, taken_s(f)) for f in files), key=lambda pair: (pair[1], str(pair[0]))):
        if stop.is_set():
            return
        yield Shot(file.read_bytes(), time_s, file.name)


def taken_s(file: Path) -> float:
    """When a photo was taken, UTC seconds: EXIF's DateTimeOriginal (local time is taken as UTC where no offset stands
    beside it), else the file's own time."""
    with file.open("rb") as stream:
        text = exif_time(stream.read(64 << 10))
    if text is None:
        return file.stat().st_mtime
    return text.timestamp()


_DATE_TIME, _DATE_TIME_ORIGINAL, _EXIF_IFD = 0x0132, 0x9003, 0x8769


def exif_time(head: bytes) -> dt.datetime | None:
    """DateTimeOriginal, or DateTime, of a JPEG's EXIF block (CIPA DC-008), read from the file's first 64 KiB."""
    start = head.find(b"Exif\0\0")
    if head[:2] != b"\xff\xd8" or start < 0:
        return None
    tiff = head[start + 6 :]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        found = _ascii_tags(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
        text = found.get(_DATE_TIME_ORIGINAL) or found.get(_DATE_TIME)
        return (
            None if text is None else dt.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=dt.UTC)
        )
    except (struct.error, ValueError):
        return None


def _ascii_tags(tiff: bytes, order: str, ifd: int) -> dict[int, str]:
    """The date tags of an image file directory and of the EXIF directory that it points to."""
    found: dict[int, str] = {}
    for index in range(struct.unpack_from(order + "H", tiff, ifd)[0]):
        tag, _, count, value = struct.unpack_from(order + "HHII", tiff, ifd + 2 + 12 * index)
        if tag == _EXIF_IFD and value != ifd:
            found |= {t: s for t, s in _ascii_tags(tiff, order, value).items() if t != _EXIF_IFD}
        elif tag in (_DATE_TIME, _DATE_TIME_ORIGINAL) and count == 20:
            found[tag] = tiff[value : value + 19].decode("ascii")
    return found


# --- moving sources --------------------------------------------------------------------------------------------


def _video(source: str | int, live: bool, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    pause = FIRST_PAUSE_S
    while not stop.is_set():
        capture = cv2.VideoCapture(source)
        seen = False
        for shot in _moving_frames(capture, live, stop, clock):
            seen = True
            yield shot
        capture.release()
        if not live:
            return
        pause = FIRST_PAUSE_S if seen else min(2 * pause, LONGEST_PAUSE_S)
        log.warning("camera is away", source=str(source), again_in_s=pause)
        stop.wait(pause)


def _moving_frames(
    capture: cv2.VideoCapture, live: bool, stop: threading.Event, clock: Clock
) -> Iterator[Shot]:
    """Frames in which something moved. A live source is read as fast as it sends, so that what is looked at is always
    the newest frame; a file is stepped through by its own frame rate."""
    started_s = clock.now()
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    background: motion.Background | None = None
    next_s = 0.0
    index = 0
    while not stop.is_set() and capture.grab():
        at_s = clock.now() - started_s if live else index / rate
        index += 1
        if at_s < next_s:
            continue
        next_s = at_s + 1.0 / FRAMES_PER_S
        ok, frame = capture.retrieve()
        if not ok:
            continue
        picture = np.asarray(frame, np.uint8)
        background, moved = motion.look(background, picture)
        if moved.moved:
            yield Shot(images.encode_jpeg(picture, JPEG_QUALITY), started_s + at_s, f"frame {index}")
