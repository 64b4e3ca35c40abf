"""Cameras that the device agent opens itself: a webcam, an RTSP stream, a video file, a folder of photos.

A source yields `Shot`s: a JPEG and the time when it was taken. A video yields only frames in which something moved,
since a frame that shows nothing new is not an event. A folder yields every photo once, in the order of their times::

    for shot in open_source("rtsp://10.0.0.7/live", stop=stop, clock=clock): ...
    for shot in open_source("~/photos", stop=stop, clock=clock): ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import structlog

from models.vision import images, motion
from models.vision.photo_files import PHOTO_SUFFIXES, photos_of, taken_s
from pipeline.clock import Clock
from pipeline.errors import Stop

log = structlog.get_logger("camera")

FRAMES_PER_S = 2.0
"""Frames a second of a video that are checked for motion, at most: an animal stays for seconds."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between attempts to open a source that is away: doubled from the first to the longest."""

JPEG_QUALITY = 90


class Shot(NamedTuple):
    """One encoded picture, and when it was taken (UTC seconds since the epoch)."""

    data: bytes
    time_s: float
    name: str


def open_source(source: str, *, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    """Yield the shots of a source: a folder, a photo, a webcam's number, a video file, or a URL that OpenCV can open.

    A live source that goes away is opened again and again; a file or a folder ends.

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


def _photos(path: Path, stop: threading.Event) -> Iterator[Shot]:
    files = photos_of(path)
    if not files:
        raise Stop(f"source {path}: no photos there (searched for {', '.join(sorted(PHOTO_SUFFIXES))})")
    for file, time_s in sorted(((f, taken_s(f)) for f in files), key=lambda pair: (pair[1], str(pair[0]))):
        if stop.is_set():
            return
        yield Shot(file.read_bytes(), time_s, file.name)


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
        log.warning("a camera is away", source=str(source), again_in_s=pause)
        stop.wait(pause)


def _moving_frames(
    capture: cv2.VideoCapture, live: bool, stop: threading.Event, clock: Clock
) -> Iterator[Shot]:
    """Yield frames in which something moved.

    A live source is read as fast as it sends, so that the checked frame is always the newest. A file is stepped
    through at its own frame rate.
    """
    started_s = clock.now()
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    background: motion.BackgroundModel | None = None
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
