"""Cameras that the device agent opens itself: a webcam, an RTSP stream, a video file, a folder of photos.

A source yields `Shot`s: a JPEG and the time when it was taken. `agents.device.live_source` yields the frames of a live
camera in which something moved, and `agents.device.photo_sources` the files of a folder::

    for shot in open_source("rtsp://10.0.0.7/live", "home/cam1/gate", known, stop=stop, clock=clock): ...
    for shot in open_source("~/photos", "home/cam1/garden", known, stop=stop, clock=clock): ...

A source that is away raises `Retry`: `agents.device.own_cameras` opens it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agents.device.known_files import KnownFiles
from agents.device.live_source import LiveHooks, live
from agents.device.photo_sources import PhotoSource, Shot
from pipeline.clock import Clock
from pipeline.errors import Retry

TAKE_ALL: Final = LiveHooks()


def open_source(
    source: str,
    stream: str,
    known: KnownFiles,
    *,
    stop: threading.Event,
    clock: Clock,
    found: Callable[[], object] = lambda: None,
    hooks: LiveHooks = TAKE_ALL,
) -> Iterator[Shot]:
    """Yield the shots of a source: a folder, a photo, a video file, a webcam's number, or a URL that OpenCV can open.

    `known` are the files that were taken from this stream (``site/device/stream``) before. `found` is called when the
    source is there, which shows nothing new. A file ends; a folder ends with `stop`. `hooks` is for live sources.

    Raises
    ------
    Retry
        The source is away: a path that does not exist, a folder without photos, a live source that ended.
    """
    path = Path(source).expanduser()
    if "://" in source or source.isdigit() or path.is_char_device():
        return live(int(source) if source.isdigit() else source, stop, clock, hooks)
    if not path.exists():
        raise Retry(f"{source}: no such file or folder yet")
    return PhotoSource(path, stream, known, stop, clock).shots(found)
