"""Cameras that the device agent opens itself: a webcam, an RTSP stream, a video file, a folder of photos.

A source yields `Shot`s: a JPEG and the time when it was taken. A live camera yields only frames in which something
moved, since a frame that shows nothing new is not an event; `agents.device.photo_sources` yields the files of folders::

    for shot in open_source("rtsp://10.0.0.7/live", "home/cam1/gate", known, stop=stop, clock=clock): ...
    for shot in open_source("~/photos", "home/cam1/garden", known, stop=stop, clock=clock): ...

A source that is away raises `Retry`: `agents.device.own_cameras` opens it again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from agents.device.known_files import KnownFiles
from agents.device.photo_sources import PhotoSource, Shot
from models.vision import images, motion
from pipeline.clock import Clock
from pipeline.errors import Retry

FRAMES_PER_S = 2.0
"""Frames a second of a video that are checked for motion, at most: an animal stays for seconds."""

JPEG_QUALITY = 90


def open_source(
    source: str,
    stream: str,
    known: KnownFiles,
    *,
    stop: threading.Event,
    clock: Clock,
    found: Callable[[], object] = lambda: None,
) -> Iterator[Shot]:
    """Yield the shots of a source: a folder, a photo, a video file, a webcam's number, or a URL that OpenCV can open.

    `known` are the files that were taken from this stream (``site/device/stream``) before. `found` is called when the
    source is there, which shows nothing new. A file ends; a folder ends with `stop`.

    Raises
    ------
    Retry
        The source is away: a path that does not exist, a folder without photos, a live source that ended.
    """
    path = Path(source).expanduser()
    if "://" in source or source.isdigit() or path.is_char_device():
        return _video(int(source) if source.isdigit() else source, stop, clock)
    if not path.exists():
        raise Retry(f"{source}: no such file or folder yet")
    return PhotoSource(path, stream, known, stop, clock).shots(found)


# --- live cameras ----------------------------------------------------------------------------------------------


def _video(source: str | int, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    capture = cv2.VideoCapture(source)
    try:
        yield from moving_frames(capture, stop, clock)
    finally:
        capture.release()
    if not stop.is_set():
        raise Retry("the camera does not answer")


def moving_frames(capture: cv2.VideoCapture, stop: threading.Event, clock: Clock) -> Iterator[Shot]:
    """Yield frames in which something moved. All frames are read, so that the checked frame is always the newest."""
    background: motion.BackgroundModel | None = None
    next_s = -math.inf
    index = 0
    while not stop.is_set() and capture.grab():
        at_s, monotonic_s = clock.now(), clock.monotonic()
        index += 1
        if monotonic_s < next_s:
            continue
        next_s = monotonic_s + 1.0 / FRAMES_PER_S
        ok, frame = capture.retrieve()
        if not ok:
            continue
        picture = np.asarray(frame, np.uint8)
        background, moved = motion.look(background, picture)
        if moved.moved:
            yield Shot(images.encode_jpeg(picture, JPEG_QUALITY), at_s, f"frame {index}", own=True)
