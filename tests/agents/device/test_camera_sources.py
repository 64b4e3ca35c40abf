"""Cameras that the device opens itself: folders by the times of their photos, videos by what moves in them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from exif_samples import DATE_TIME, GREY, ORIGINAL, with_exif

from agents.device.camera_sources import open_source
from agents.device.known_files import KnownFiles
from agents.device.photo_sources import SETTLED_S, still_grows
from models.vision import images
from models.vision.photo_files import PHOTO_SUFFIXES, photos_of
from pipeline.clock import HandClock
from pipeline.errors import Retry


class NothingKnown(KnownFiles):
    """No file was taken before, and none is remembered."""

    def __init__(self) -> None:
        pass

    def is_unchanged(self, source: str, file: Path, mark: bytes) -> bool:
        return False

    def has(self, source: str, digest: bytes) -> bool:
        return False


class OnePass(threading.Event):
    """Stops at the first pause between two searches of a folder."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def shots(source: str) -> list[tuple[str, float]]:
    opened = open_source(source, "home/cam1/garden", NothingKnown(), stop=OnePass(), clock=HandClock(1000.0))
    return [(shot.name, shot.time_s) for shot in opened]


# --- photos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [ORIGINAL, DATE_TIME])
def test_a_photo_is_ordered_by_its_cameras_own_time(tmp_path: Path, tag: int) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif({tag: "2020:02:03 04:05:06"}))
    assert shots(str(file)) == [("a.jpg", 1580702706.0)]
    assert images.decode(file.read_bytes()).shape == (32, 32, 3)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday afternoon"])
def test_a_camera_that_does_not_know_its_time_falls_back_to_the_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif({ORIGINAL: text}))
    os.utime(file, (77.0, 77.0))
    assert shots(str(file)) == [("a.jpg", 77.0)]


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
    opened = open_source(str(tmp_path), "home/cam1/garden", NothingKnown(), stop=stop, clock=HandClock())
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


def test_only_a_file_without_its_end_that_was_just_written_is_waited_for() -> None:
    assert [still_grows(ago_s, whole=False) for ago_s in (0.0, SETTLED_S / 2, SETTLED_S, 1e9)] == [
        True,
        True,
        False,
        False,
    ]
    assert not still_grows(0.0, whole=True)
    assert not still_grows(-3600.0, whole=False), "the clock of the card's writer is an hour ahead"
