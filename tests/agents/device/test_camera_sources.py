"""Cameras that the device opens itself: folders by the times of their photos, videos by what moves in them."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.device.camera_sources import FRAMES_PER_S, open_source
from models.vision import images
from models.vision.photo_files import PHOTO_SUFFIXES, exif_time, photos_of, taken_s
from pipeline.clock import HandClock
from pipeline.errors import Stop

GREY = images.encode_jpeg(np.full((32, 32, 3), 128, np.uint8))


def with_exif(order: str, tag: int, text: str, *, in_exif_ifd: bool) -> bytes:
    """A JPEG whose EXIF block tells one date (TIFF 6.0 in JPEG, CIPA DC-008)."""
    date = text.encode("ascii").ljust(20, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHII", tag, 2, len(date), 44 if in_exif_ifd else 26)
    if in_exif_ifd:
        pointer = struct.pack(order + "HHII", 0x8769, 4, 1, 26)
        tiff = mark + struct.pack(order + "IH", 8, 1) + pointer + struct.pack(order + "I", 0)
        tiff += struct.pack(order + "H", 1) + entry + struct.pack(order + "I", 0) + date
    else:
        tiff = mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0) + date
    body = b"Exif\0\0" + tiff
    return GREY[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + GREY[2:]


def shots(source: str) -> list[tuple[str, float]]:
    opened = open_source(source, stop=threading.Event(), clock=HandClock(1000.0))
    return [(shot.name, shot.time_s) for shot in opened]


# --- photos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("tag", "in_exif_ifd"), [(0x9003, True), (0x0132, False)])
def test_a_photo_was_taken_when_its_exif_says(
    tmp_path: Path, order: str, tag: int, in_exif_ifd: bool
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif(order, tag, "2020:02:03 04:05:06", in_exif_ifd=in_exif_ifd))
    assert taken_s(file) == 1580702706.0
    assert images.decode(file.read_bytes()).shape == (32, 32, 3)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday afternoon", "2020-02-03 04:05:06"])
def test_a_camera_that_does_not_know_its_time_falls_back_to_the_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(with_exif("<", 0x9003, text, in_exif_ifd=True))
    os.utime(file, (77.0, 77.0))
    assert taken_s(file) == 77.0


@given(st.binary(max_size=80))
def test_a_damaged_exif_block_never_raises(tail: bytes) -> None:
    for mark in (b"II*\0", b"MM\0*", b""):
        found = exif_time(b"\xff\xd8\xff\xe1\0\0Exif\0\0" + mark + tail)
        assert found is None or found.year


@given(st.integers(0, 120))
def test_an_exif_block_cut_anywhere_never_raises(length: int) -> None:
    exif_time(with_exif("<", 0x9003, "2020:02:03 04:05:06", in_exif_ifd=True)[:length])


def test_an_image_directory_that_points_to_itself_ends() -> None:
    looped = struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 0)
    assert exif_time(b"\xff\xd8Exif\0\0II*\0" + struct.pack("<I", 8) + looped) is None


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


@pytest.mark.parametrize("source", ["nowhere", "nowhere/film.mp4"])
def test_a_path_that_is_not_there_says_what_a_source_may_be(tmp_path: Path, source: str) -> None:
    with pytest.raises(Stop, match="give a path, a webcam's number or an rtsp:// URL"):
        shots(str(tmp_path / source))


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=sorted(PHOTO_SUFFIXES)[0]):
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
