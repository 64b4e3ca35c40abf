"""Live cameras: read on a thread of their own as fast as they send, so that an answer is about now.

Of the frames in which something moved, the newest one waits; older ones are dropped and counted. The first frame after
motion starts is never dropped for a newer one, so each visitor has a picture, however busy the machine is::

    camera ──grab──> 2 a second: did something move? ──first of a motion──> taken at once
                                                     └──another────> waits for its turn; replaced by the next
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from agents.device.photo_sources import Shot
from models.vision import images, motion
from pipeline.clock import Clock
from pipeline.errors import Retry

FRAMES_PER_S = 2.0
"""Frames a second that are checked for motion, at most: an animal stays for seconds."""

JPEG_QUALITY = 90

QUIET_S = 2.0
"""Motion after at least so long without any is a new motion."""

STARTS_MAX = 60
"""First frames that wait while the store takes none; the oldest of more are dropped, too."""

TIMEOUT_S = 10.0
"""A camera that sends nothing for this long is away. Network cameras send several frames a second."""

STOP_WITHIN_S = 0.8
"""Time for the last frame at a stop. The read of a camera that hangs ends later, after its timeout."""

LOOK_AGAIN_S, WAIT_S = 0.05, 0.5
"""Pauses while the newest frame waits for its turn, and while there is none."""


class LiveHooks(NamedTuple):
    """What a live source asks and reports."""

    has_room: Callable[[], bool] = lambda: True
    """Return whether the newest frame may be taken."""
    seen: Callable[[], None] = lambda: None
    """The camera sent a frame, whether something moved in it or not."""
    dropped: Callable[[], None] = lambda: None
    """A frame was dropped for a newer one."""


class NewestFrames:
    """The frames of one camera that wait to be taken: first frames of motions, and the newest other one."""

    def __init__(self, hooks: LiveHooks) -> None:
        self._hooks = hooks
        self._starts: deque[Shot] = deque()
        self._newest: Shot | None = None
        self._ended = False
        self._changed = threading.Condition()

    def put(self, shot: Shot, *, starts: bool) -> None:
        """Add a frame; `starts` marks the first one of a motion."""
        with self._changed:
            if self._newest is not None or (starts and len(self._starts) >= STARTS_MAX):
                self._hooks.dropped()
            self._newest = None if starts else shot
            if starts:
                self._starts = deque([*self._starts, shot], STARTS_MAX)
            self._changed.notify_all()

    def end(self) -> None:
        """Note that the camera sends no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self) -> Shot | None:
        """Return the next frame, or None if there is none for now.

        Raises
        ------
        Retry
            The camera has ended, and every first frame was taken.
        """
        with self._changed:
            if not self._starts and self._newest is None and not self._ended:
                self._changed.wait(WAIT_S)
            if self._starts:
                return self._starts.popleft()
            if self._newest is not None and self._hooks.has_room():
                shot, self._newest = self._newest, None
                return shot
            if self._ended:
                raise Retry("the camera does not answer")
            if self._newest is not None:
                self._changed.wait(LOOK_AGAIN_S)
            return None


class LiveTurns:
    """Which camera may put its newest frame into the inbox: few frames of all cameras wait there, so each is fresh."""

    def __init__(self, ahead: int, waiting: Callable[[], int]) -> None:
        """Give a camera its turn while `waiting()`, the frames of live cameras in the inbox, are below `ahead`."""
        self._ahead = ahead
        self._waiting = waiting
        self._asked: dict[str, tuple[float, float]] = {}
        """When each camera first asked for its turn, and last."""
        self._lock = threading.Lock()

    def ask(self, source: str) -> bool:
        """Return whether it is this camera's turn now: the one that has waited for longest is next."""
        with self._lock:
            now_s = time.monotonic()
            first_s, _ = self._asked.get(source, (now_s, now_s))
            self._asked[source] = first_s, now_s
            asking = [(first_s, name) for name, (first_s, last_s) in self._asked.items() if now_s - last_s < WAIT_S]
            if min(asking)[1] != source or self._waiting() >= self._ahead:
                return False
            del self._asked[source]
            return True


def live(source: str | int, stop: threading.Event, clock: Clock, hooks: LiveHooks) -> Iterator[Shot]:
    """Yield frames of a webcam (its number) or a URL until `stop`. Raises `Retry` when the camera is away."""
    frames, done = NewestFrames(hooks), threading.Event()
    failures: list[Exception] = []

    def read() -> None:
        try:
            _read(source, lambda: stop.is_set() or done.is_set(), clock, hooks, frames)
        except Exception as error:  # raised on the source's own thread, below
            failures.append(error)
        frames.end()

    reader = threading.Thread(target=read, name="live camera", daemon=True)
    reader.start()
    try:
        while not stop.is_set():
            if failures:
                raise failures[0]
            if (shot := frames.take()) is not None:
                yield shot
    finally:
        done.set()
        reader.join(STOP_WITHIN_S)  # a thread inside OpenCV at the process's end would abort it


def _read(source: str | int, stopped: Callable[[], bool], clock: Clock, hooks: LiveHooks, frames: NewestFrames) -> None:
    """Grab every frame, so that the checked one is always the newest, and put those in which something moved."""
    capture = _open(source)
    background: motion.BackgroundModel | None = None
    next_s, moved_s, index = 0.0, -QUIET_S, 0
    began_s = clock.monotonic()
    try:
        while not stopped() and capture.grab():
            at_s = clock.monotonic() - began_s
            index += 1
            if at_s < next_s:
                continue
            next_s = at_s + 1.0 / FRAMES_PER_S
            ok, frame = capture.retrieve()
            if not ok:
                continue
            hooks.seen()
            picture = np.asarray(frame, np.uint8)
            background, moved = motion.look(background, picture)
            if moved.moved:
                data = images.encode_jpeg(picture, JPEG_QUALITY)
                shot = Shot(data, clock.now(), f"frame {index}", own=True)
                frames.put(shot, starts=at_s - moved_s >= QUIET_S)
                moved_s = at_s
    finally:
        capture.release()


def _open(source: str | int) -> cv2.VideoCapture:
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    timeout_ms = round(TIMEOUT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)  # RTSP over TCP, unless the environment says otherwise
