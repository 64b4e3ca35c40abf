"""Cameras that the device agent opens itself: a webcam, an RTSP stream, a video file, a folder of photos.

A source yields `Shot`s: a JPEG and the time when it was taken. A video yields only frames in which something moved,
since a frame that shows nothing new is not an event; `agents.device.live_source` reads cameras, and
`agents.device.photo_sources` yields what lies in folders::

    for shot in open_source("rtsp://10.0.0.7/live", stop=stop, clock=clock): ...
    for shot in open_source("~/photos", stop=stop, clock=clock): ...

A source that is away raises `Retry`: `agents.device.own_cameras` opens it again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from agents.device.live_source import FRAMES_PER_S, JPEG_QUALITY, Watch, live
from agents.device.photo_sources import Shot, photos
from models.vision import images, motion
from models.vision.photo_files import PHOTO_SUFFIXES
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry

ANYTHING = Watch()


def is_live(source: str) -> bool:
    """Return whether a source is a camera, not a file or folder."""
    return "://" in source or source.isdigit()


def open_source(source: str, *, stop: threading.Event, clock: Clock, watch: Watch = ANYTHING) -> Iterator[Shot]:
    """Yield the shots of a source: a folder, a photo, a webcam's number, a video file, or a URL that OpenCV can open.

    A file ends; a folder ends with `stop`.

    Raises
    ------
    Retry
        The source is away: a path that does not exist, a folder without photos, a live source that ended.
    Rejected
        The file is not a video.
    """
    if is_live(source):
        return live(int(source) if source.isdigit() else source, stop, clock, watch)
    path = Path(source).expanduser()
    if path.is_dir() or path.suffix.lower() in PHOTO_SUFFIXES:
        return photos(path, stop)
    if not path.exists():
        raise Retry(f"{source}: no such file or folder yet")
    return _video(source, stop, clock)


# --- moving sources --------------------------------------------------------------------------------------------


def _video(source: str, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise Rejected("unreadable", f"{Path(source).name}: it opens neither as a photo nor as a video")
        yield from _moving_frames(capture, stop, clock)
    finally:
        capture.release()


def _moving_frames(capture: cv2.VideoCapture, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    """Yield frames in which something moved: the file is stepped through at its own frame rate."""
    started_s = clock.now()
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    background: motion.BackgroundModel | None = None
    next_s = 0.0
    index = 0
    while not stop.is_set() and capture.grab():
        at_s = index / rate
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
            yield Shot(images.encode_jpeg(picture, JPEG_QUALITY), started_s + at_s, f"frame {index}", own=True)
