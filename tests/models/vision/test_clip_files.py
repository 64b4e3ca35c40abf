"""A clip's best frame, and the time in its container."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from clip_samples import film, scene, walk

from models.vision import clip_files, images
from models.vision.capture_time import ExifTags, exif_tags
from models.vision.clip_files import best_frame, clip_tags, digest_of, file_tags, read_picture
from pipeline.errors import Rejected

MP4_1904_TO_1970_S = 2_082_844_800


def mp4(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"isom" + bytes(4)) + b"".join(boxes)


def box(kind: bytes, body: bytes, long: bool = False) -> bytes:
    if long:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, kind) + body


def mvhd(seconds: int, version: int = 0) -> bytes:
    created = struct.pack(">Q" if version else ">I", seconds)
    return box(b"moov", box(b"mvhd", bytes([version, 0, 0, 0]) + created + bytes(80)))


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mov", "a.mkv"])
def test_the_frame_with_the_most_in_front_of_the_background_stands_for_a_clip(tmp_path: Path, name: str) -> None:
    clip = walk(tmp_path / name)
    assert images.decode(best_frame(clip)).max() > 200
    assert images.decode(read_picture(clip)).shape == (120, 160, 3)


def test_an_animal_that_is_there_from_the_first_frame_is_seen(tmp_path: Path) -> None:
    frames = [scene(at if at < 10 else None) for at in range(80)]
    assert images.decode(best_frame(film(tmp_path / "a.mp4", frames))).max() > 200


def test_of_a_clip_in_which_nothing_moves_the_middle_frame_is_taken() -> None:
    assert clip_files.best_sample({number: scene() for number in (0, 5, 10, 15, 20)}) == 10


def test_an_animal_right_before_the_lens_is_taken_if_nothing_else_moves() -> None:
    close = scene()
    close[:, 40:] = np.random.default_rng(1).integers(0, 256, (120, 120, 3))  # of one colour, it would be light
    samples = {number: close if number == 40 else scene() for number in range(0, 60, 5)}
    assert clip_files.best_sample(samples) == 40
    assert clip_files.best_sample(samples | {5: scene(3)}) == 5


def test_a_long_clip_takes_no_more_memory_than_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_files, "SAMPLES_MAX", 6)
    clip = walk(tmp_path / "a.avi")
    assert len(clip_files._samples(clip, lambda: True)) < 6
    assert images.decode(best_frame(clip)).shape == (120, 160, 3)


@pytest.mark.parametrize("data", [b"", b"no video", mp4(), mp4(box(b"mdat", bytes(64)))])
def test_what_does_not_open_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(Rejected, match="video"):
        best_frame(tmp_path / "a.mp4")
    with pytest.raises(OSError, match="No such file"):
        best_frame(tmp_path / "b.mp4")


def test_a_clip_is_not_read_on_when_the_agent_stops(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        best_frame(walk(tmp_path / "a.avi"), lambda: False)


@pytest.mark.parametrize(
    ("data", "tags"),
    [
        (mp4(mvhd(1_778_099_400 + MP4_1904_TO_1970_S)), ("2026:05:06 20:30:00", "+00:00")),
        (mp4(box(b"mdat", bytes(9)), mvhd(1_778_099_400 + MP4_1904_TO_1970_S, 1)), ("2026:05:06 20:30:00", "+00:00")),
        (mp4(box(b"mdat", bytes(9), long=True), mvhd(MP4_1904_TO_1970_S)), ("1970:01:01 00:00:00", "+00:00")),
        (mp4(mvhd(0)), ("", "")),
        (mp4(mvhd(2**63, 1)), ("", "")),
        (mp4(mvhd(7))[:-90], ("", "")),
        (b"RIFF....AVI LIST" + b"IDIT\x1a\0\0\0Wed May 06 20:30:00 2026\n\0", ("2026:05:06 20:30:00", "")),
        (b"RIFF....AVI LIST" + b"IDIT\x1a\0\0\0WED MAY  6 20:30:00 2026\n\0", ("2026:05:06 20:30:00", "")),
        (b"RIFF....AVI LIST" + b"IDIT\x14\0\0\0" + b"2026-05-06 20:30:00\0", ("2026:05:06 20:30:00", "")),
        (b"RIFF....AVI LIST" + b"IDIT\x1a\0\0\0Sie Foo 99 20:30:00 2026\n\0", ("", "")),
        (b"\x1aE\xdf\xa3...\x44\x61\x88" + struct.pack(">q", 799_792_200 * 10**9), ("2026:05:06 20:30:00", "+00:00")),
        (b"\x1aE\xdf\xa3...\x44\x61\x88", ("", "")),
        (b"\0\0\0\x04free", ("", "")),
        (b"", ("", "")),
    ],
)
def test_the_time_of_a_clip_is_in_its_container(tmp_path: Path, data: bytes, tags: tuple[str, str]) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    assert clip_tags(tmp_path / "a.mp4")[:2] == tags


def test_the_picture_of_a_clip_carries_its_time(tmp_path: Path) -> None:
    clip = walk(tmp_path / "a.avi")
    os.utime(clip, (1_778_099_400.0, 1_778_099_400.0))
    assert file_tags(clip) == ExifTags()
    assert exif_tags(io.BytesIO(read_picture(clip))) == ExifTags("2026:05:06 20:30:00", "+00:00", "")
    with clip.open("ab") as file:
        file.write(mvhd(1))  # a clock that was never set; players skip what stands behind the end
    assert exif_tags(io.BytesIO(read_picture(clip))).date > "2026:05:06"


def test_the_digest_of_a_file_is_its_sha_256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_of(tmp_path / "a").hex().startswith("ba7816bf")
