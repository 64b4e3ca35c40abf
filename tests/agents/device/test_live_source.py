"""A live camera is never behind: the newest frame waits, older ones are dropped, the first of a motion is taken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from agents.device import live_source
from agents.device.live_source import STARTS_MAX, LiveHooks, LiveTurns, NewestFrames, live
from agents.device.photo_sources import Shot
from pipeline.clock import HandClock, SystemClock
from pipeline.errors import Retry


def shot(name: str) -> Shot:
    return Shot(b"", 0.0, name, own=True)


class Stream:
    """A stream whose inbox has room or not."""

    def __init__(self) -> None:
        self.room = False
        self.dropped = 0
        self.frames = NewestFrames(LiveHooks(has_room=lambda: self.room, dropped=self._drop))

    def _drop(self) -> None:
        self.dropped += 1

    def names(self) -> list[str]:
        taken = []
        self.frames.end()
        try:
            while (taken_shot := self.frames.take()) is not None:
                taken.append(taken_shot.name)
        except Retry:
            pass
        return taken


def test_of_frames_that_find_no_room_the_newest_waits_and_the_others_are_dropped() -> None:
    stream = Stream()
    for name in "abc":
        stream.frames.put(shot(name), starts=False)
    assert stream.names() == []
    stream.room = True
    assert stream.names() == ["c"]
    assert stream.dropped == 2


def test_the_first_frame_of_each_motion_is_taken_whatever_waits() -> None:
    stream = Stream()
    for name in ("a1", "a2", "a3", "b1", "b2"):
        stream.frames.put(shot(name), starts=name.endswith("1"))
    assert stream.names() == ["a1", "b1"]
    stream.room = True
    assert stream.names() == ["b2"]
    assert stream.dropped == 2


def test_first_frames_take_bounded_memory_while_the_store_takes_none() -> None:
    stream = Stream()
    for number in range(STARTS_MAX + 2):
        stream.frames.put(shot(str(number)), starts=True)
    assert stream.names() == [str(number) for number in range(2, STARTS_MAX + 2)]
    assert stream.dropped == 2


def test_cameras_have_their_turns_in_the_order_in_which_they_asked() -> None:
    waiting = 2
    turns = LiveTurns(2, lambda: waiting)
    assert [turns.ask(name) for name in ("a", "b", "a", "b")] == [False] * 4
    waiting = 1
    assert [turns.ask(name) for name in ("b", "a", "a", "b", "a")] == [False, True, False, True, True]


class Camera:
    """A camera with a still picture and a visitor in some frames, 10 frames a second; then it is away."""

    def __init__(self, clock: HandClock, frames: int, visits: range) -> None:
        self.clock, self.left, self.visits, self.index = clock, frames, visits, -1
        self.released = threading.Event()

    def grab(self) -> bool:
        self.clock.turn(0.1)
        self.index += 1
        return self.index < self.left

    def retrieve(self) -> tuple[bool, object]:
        picture = np.full((96, 96, 3), 60, np.uint8)
        if self.index in self.visits:
            place = 4 * (self.index - self.visits.start) % 60
            cv2.rectangle(picture, (place, 20), (place + 30, 60), (220, 220, 220), -1)
        return True, picture

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


def taken(clock: HandClock, camera: Camera, hooks: LiveHooks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shot]:
    monkeypatch.setattr(live_source, "_open", lambda _: camera)
    return live("rtsp://camera/live", threading.Event(), clock, hooks)


def test_a_live_camera_yields_the_first_frame_of_a_motion_and_is_away_when_it_ends(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, drops, seen = Camera(clock, 200, range(100, 140)), [], []
    hooks = LiveHooks(lambda: False, lambda: seen.append(clock.now()), lambda: drops.append(clock.now()))
    yielded: list[Shot] = []
    with pytest.raises(Retry, match="does not answer"):
        for each in taken(clock, camera, hooks, monkeypatch):
            yielded.append(each)  # noqa: PERF402 - those before the error
    assert camera.released.wait(5.0)
    first, visit = yielded
    assert (first.name, first.time_s) == ("frame 1", pytest.approx(1000.1))
    assert 1010.0 < visit.time_s < 1010.7
    assert 38 <= len(seen) <= 41
    assert len(drops) >= 5


def test_a_live_camera_goes_on_when_the_clock_is_set_back(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    class SetBack(Camera):
        def grab(self) -> bool:
            if self.index == 50:
                self.clock.set_wall(-3 * 86_400)
            return super().grab()

    yielded: list[Shot] = []
    with pytest.raises(Retry):
        for each in taken(clock, SetBack(clock, 200, range(100, 140)), LiveHooks(lambda: False), monkeypatch):
            yielded.append(each)  # noqa: PERF402 - those before the error
    first, visit = yielded
    assert visit.time_s < first.time_s - 2 * 86_400


def test_a_camera_whose_reading_fails_is_an_error_on_the_thread_of_its_source(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: object) -> None:
        raise cv2.error("no such device")

    monkeypatch.setattr(live_source, "_open", failing)
    with pytest.raises(cv2.error, match="no such device"):
        list(live(7, threading.Event(), clock, LiveHooks()))


@pytest.mark.slow
def test_a_camera_that_accepts_and_says_nothing_is_away_after_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_source, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Retry, match="does not answer"):
        list(live(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live", threading.Event(), SystemClock(), LiveHooks()))
