"""Cameras that the device opens itself: folders by the times of their photos, videos by what moves in them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from exif_samples import DATE_TIME, GREY, ORIGINAL, with_exif

from agents.device.camera_sources import FRAMES_PER_S, open_source
from agents.device.photo_sources import photo_time_s
from models.vision import images
from models.vision.photo_files import PHOTO_SUFFIXES, photos_of
from pipeline.clock import HandClock
from pipeline.errors import Retry


class OnePass(threading.Event):
    """Stops at the first pause between two searches of a folder."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def shots(source: str) -> list[tuple[str, float]]:
    opened = open_source(source, stop=OnePass(), clock=HandClock(1000.0))
    return [(shot.name, shot.time_s) for shot in opened]


# --- photos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [ORIGINAL, DATE_TIME])
def test_a_photo_is_ordered_by_its_cameras_own_time(tmp_path: Path, tag: int) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif({tag: "2020:02:03 04:05:06"}))
    assert photo_time_s(file) == 1580702706.0
    assert images.decode(file.read_bytes()).shape == (32, 32, 3)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday afternoon"])
def test_a_camera_that_does_not_know_its_time_falls_back_to_the_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif({ORIGINAL: text}))
    os.utime(file, (77.0, 77.0))
    assert photo_time_s(file) == 77.0


def test_a_folder_yields_each_photo_once_in_the_order_of_their_times(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("c.jpg", "b.PNG", "sub/a.jpeg")):
        (tmp_path / name).write_bytes(GREY)
        os.utime(tmp_path / name, (100.0 - number, 100.0 - number))
    (tmp_path / "notes.txt").write_text("no photo")
    assert shots(str(tmp_path)) == [("a.jpeg", 98.0), ("b.PNG", 99.0), ("c.jpg", 100.0)]


def test_one_photo_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(GREY)
    os.utime(tmp_path / "cat.jpg", (5.0, 5.0))
    assert shots(str(tmp_path / "cat.jpg")) == [("cat.jpg", 5.0)]
    assert photos_of(tmp_path / "cat.jpg") == [tmp_path / "cat.jpg"]


def test_a_source_that_is_told_to_stop_ends(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(GREY)
    stop = threading.Event()
    opened = open_source(str(tmp_path), stop=stop, clock=HandClock())
    next(opened)
    stop.set()
    assert list(opened) == []


@pytest.mark.parametrize("source", ["nowhere", "nowhere/film.mp4", "nowhere/cat.jpg"])
def test_a_path_that_is_not_there_may_come(tmp_path: Path, source: str) -> None:
    with pytest.raises(Retry, match="yet"):
        shots(str(tmp_path / source))


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Retry, match=sorted(PHOTO_SUFFIXES)[0]):
        shots(str(tmp_path))


# --- moving sources --------------------------------------------------------------------------------------------


def film(path: Path, frames: list[images.Picture], rate: float = 10.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (160, 120))  # type: ignore[attr-defined]
    for frame in frames:
        writer.write(frame)
    writer.release()


def test_of_a_video_only_what_moves_is_a_shot(tmp_path: Path) -> None:
    """Ten still seconds, then a square walks through the picture."""
    still = [np.full((120, 160, 3), 90, np.uint8) for _ in range(100)]
    walking = [frame.copy() for frame in still[:30]]
    for number, frame in enumerate(walking):
        frame[40:80, 4 * number : 4 * number + 40] = 250
    film(tmp_path / "film.avi", still + walking)
    taken = shots(str(tmp_path / "film.avi"))
    times = [time_s - 1000.0 for _, time_s in taken]
    assert times[0] == 0.0
    assert len(times) >= 4
    assert all(10.0 <= time_s <= 13.0 for time_s in times[1:])


def test_no_more_frames_a_second_are_looked_at_than_an_animal_needs(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 120, 160, 3), np.uint8)
    film(tmp_path / "film.avi", list(noise), rate=30.0)
    assert len(shots(str(tmp_path / "film.avi"))) <= 2 * FRAMES_PER_S + 1
