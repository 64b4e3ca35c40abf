"""Videos that a camera recorded: one event each, which the best frame stands for.

A camera trap records a clip because something moved. So a clip is one event, also where nothing moves in it. The
frame with the most in front of the still background is the one to look at; otherwise the middle one::

    clip ──two frames a second──> median = background ──motion.look──> best frame ──> JPEG with its time in EXIF

The time of a clip is in its container: `mvhd` (MP4, MOV), `IDIT` (AVI) or `DateUTC` (Matroska). Sources: ISO 14496-12
section 8.2.2, exiftool's RIFF tags, RFC 9559 section 5.1.2.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import cv2
import numpy as np

from models.vision import images, motion
from models.vision.capture_time import EARLIEST_S, ExifTags, exif_tags_of, wall_time_s, with_exif_time
from models.vision.photo_files import CLIP_SUFFIXES, read_photo
from pipeline.errors import Rejected

FRAMES_PER_S: Final = 2.0
"""Frames a second of a clip that are looked at, at most: an animal stays for seconds."""

SAMPLES_MAX: Final = 256
"""Frames of a clip in memory, shrunk to some 15 kB. In a longer clip the samples lie further apart."""

JPEG_QUALITY: Final = 90

HEAD_BYTES: Final = 1 << 16
"""An AVI or Matroska file has its time within so many bytes."""

_MP4_EPOCH, _MKV_EPOCH = dt.datetime(1904, 1, 1, tzinfo=dt.UTC), dt.datetime(2001, 1, 1, tzinfo=dt.UTC)


def is_clip(file: Path) -> bool:
    """Return whether a file's name says that it is a video."""
    return file.suffix.lower() in CLIP_SUFFIXES


def read_picture(file: Path) -> bytes:
    """Return the bytes of a photo, or the best frame of a clip as a JPEG. The time of the capture is in its EXIF data.

    Raises
    ------
    OSError
        The file cannot be read.
    Rejected
        ``unreadable``: the clip does not open, or no frame of it decodes.
    """
    return best_frame(file) if is_clip(file) else read_photo(file)


def file_tags(file: Path) -> ExifTags:
    """Return the time that a photo's or clip's bytes hold; empty if they hold none, or the file cannot be read."""
    return clip_tags(file) if is_clip(file) else exif_tags_of(file)


def digest_of(file: Path) -> bytes:
    """Return the SHA-256 of a file of any size. Raises `OSError`."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


# --- the best frame --------------------------------------------------------------------------------------------


def best_frame(clip: Path, goes_on: Callable[[], bool] = lambda: True) -> bytes:
    """Return the best frame as a JPEG with the clip's time. Raises as `read_picture`, also if it does not go on."""
    with clip.open("rb"):  # names the reason, where OpenCV only does not open it
        pass
    samples = _samples(clip, goes_on)
    if not samples:
        raise Rejected("unreadable", "it does not open as a video, or holds no picture: save it as MP4 with H.264")
    frame = _frame(clip, best_sample(samples))
    return with_exif_time(images.encode_jpeg(frame, JPEG_QUALITY), file_time_tags(clip))


def best_sample(samples: dict[int, images.Picture]) -> int:
    """Return the number of the frame that shows most in front of the background; the middle one if nothing moved."""
    small = list(samples.values())
    background, _ = motion.look(None, np.median(np.stack(small), axis=0).astype(np.uint8))
    moved = {number: motion.look(background, picture)[1] for number, picture in samples.items()}
    for rule in ("moved", "scene-changed"):  # an animal right before the lens, if nothing else
        if shares := {number: each.share for number, each in moved.items() if each.rule == rule}:
            return max(shares, key=shares.__getitem__)
    return list(samples)[len(samples) // 2]


def _samples(clip: Path, goes_on: Callable[[], bool]) -> dict[int, images.Picture]:
    """Return small frames by their numbers, spread over the clip."""
    samples: dict[int, images.Picture] = {}
    capture = cv2.VideoCapture(str(clip.resolve()), cv2.CAP_FFMPEG)
    try:
        step = max(1, round((capture.get(cv2.CAP_PROP_FPS) or 25.0) / FRAMES_PER_S))
        number = 0
        while goes_on() and capture.grab():
            if number % step == 0:
                ok, frame = capture.retrieve()
                if ok:
                    samples[number] = motion.small(np.asarray(frame, np.uint8))
                if len(samples) == SAMPLES_MAX:
                    step *= 2
                    samples = {each: picture for each, picture in samples.items() if each % step == 0}
            number += 1
    finally:
        capture.release()
    return {each: picture for each, picture in samples.items() if picture.shape == samples[min(samples)].shape}


def _frame(clip: Path, number: int) -> images.Picture:
    """Return a frame in full size. It is stepped to, since seeking is not exact in every container."""
    capture = cv2.VideoCapture(str(clip.resolve()), cv2.CAP_FFMPEG)
    try:
        steps = sum(capture.grab() for _ in range(number + 1))
        ok, frame = capture.retrieve() if steps == number + 1 else (False, None)
    finally:
        capture.release()
    if not ok or frame is None or min(frame.shape[:2]) < images.MIN_SIDE_PX:
        raise Rejected("unreadable", "the video changed while it was read, or its pictures are tiny")
    return np.asarray(frame, np.uint8)


# --- its time --------------------------------------------------------------------------------------------------


def file_time_tags(clip: Path) -> ExifTags:
    """Return the time of a clip: that of its container, or else that of the file."""
    tags = clip_tags(clip)
    if (wall_time_s(tags) or 0.0) >= EARLIEST_S:
        return tags
    return _tags(dt.datetime.fromtimestamp(clip.stat().st_mtime, dt.UTC))


def clip_tags(clip: Path) -> ExifTags:
    """Return the time in a clip's container, as EXIF would write it; empty without a plausible one. Never raises."""
    try:
        with clip.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            if head[:4] == b"RIFF":
                return _avi_time(head)
            if head[:4] == b"\x1aE\xdf\xa3":
                return _mkv_time(head)
            return _mp4_time(stream)
    except (OSError, struct.error, OverflowError, ValueError):
        return ExifTags()


def _mp4_time(stream: IO[bytes]) -> ExifTags:
    """Read the creation time of `mvhd` in `moov`, before or behind the pictures. Zero stands for a clock never set."""
    at, end = 0, stream.seek(0, io.SEEK_END)
    while at + 8 <= end:
        stream.seek(at)
        size, kind = struct.unpack(">I4s", stream.read(8))
        inside = at + 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            inside += 8
        if kind == b"mvhd":
            version = stream.read(4)[0]
            (seconds,) = struct.unpack(">Q", stream.read(8)) if version else struct.unpack(">I", stream.read(4))
            return _tags(_MP4_EPOCH + dt.timedelta(seconds=seconds)) if seconds else ExifTags()
        if kind == b"moov":
            at = inside
        elif size < 8:
            break
        else:
            at += size
    return ExifTags()


def _avi_time(head: bytes) -> ExifTags:
    """Read `IDIT`: the camera's local time, as ``Mon Mar 10 15:04:43 2003`` or in numbers."""
    found = re.search(rb"IDIT.{4}([^\n\0]{10,40})", head, re.DOTALL)
    text = found[1].decode("ascii", "replace").strip() if found else ""
    if named := re.fullmatch(r"\w{3} (\w{3}) +(\d+) +(\d\d:\d\d:\d\d) (\d{4})", text):
        moment = dt.datetime.strptime(f"{named[1].title()} {named[2]} {named[4]} {named[3]}", "%b %d %Y %H:%M:%S")
        return ExifTags(moment.strftime("%Y:%m:%d %H:%M:%S"))
    if re.match(r"\d{4}[:/-]\d\d[:/-]\d\d", text):
        return ExifTags(re.sub("[/-]", ":", text[:10]) + text[10:19])
    return ExifTags()


def _mkv_time(head: bytes) -> ExifTags:
    """Read `DateUTC`: nanoseconds since 2001."""
    at = head.find(b"\x44\x61\x88")
    if at < 0:
        return ExifTags()
    (nanoseconds,) = struct.unpack_from(">q", head, at + 3)
    return _tags(_MKV_EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)) if nanoseconds else ExifTags()


def _tags(moment: dt.datetime) -> ExifTags:
    return ExifTags(moment.strftime("%Y:%m:%d %H:%M:%S"), "+00:00")
