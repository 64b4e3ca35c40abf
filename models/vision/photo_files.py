"""Find photo files in folders, and read the capture time from EXIF."""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def photos_of(path: Path) -> list[Path]:
    """Return the photos of a folder and its subfolders by name, or the given file."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())


def taken_s(file: Path) -> float:
    """Return when a photo was taken, in UTC seconds: EXIF's DateTimeOriginal, else the file's time.

    EXIF's local time is taken as UTC.
    """
    with file.open("rb") as stream:
        text = exif_time(stream.read(64 << 10))
    if text is None:
        return file.stat().st_mtime
    return text.timestamp()


_DATE_TIME, _DATE_TIME_ORIGINAL, _EXIF_IFD = 0x0132, 0x9003, 0x8769


def exif_time(head: bytes) -> dt.datetime | None:
    """Return DateTimeOriginal, or DateTime, of a JPEG's EXIF block (CIPA DC-008) in the file's first 64 KiB."""
    start = head.find(b"Exif\0\0")
    if head[:2] != b"\xff\xd8" or start < 0:
        return None
    tiff = head[start + 6 :]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        found = _ascii_tags(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
        text = found.get(_DATE_TIME_ORIGINAL) or found.get(_DATE_TIME)
        return (
            None if text is None else dt.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=dt.UTC)
        )
    except (struct.error, ValueError):
        return None


def _ascii_tags(tiff: bytes, order: str, ifd: int) -> dict[int, str]:
    """Return the date tags of an image file directory and of the EXIF directory in it."""
    found: dict[int, str] = {}
    for index in range(struct.unpack_from(order + "H", tiff, ifd)[0]):
        tag, _, count, value = struct.unpack_from(order + "HHII", tiff, ifd + 2 + 12 * index)
        if tag == _EXIF_IFD and value != ifd:
            found |= {t: s for t, s in _ascii_tags(tiff, order, value).items() if t != _EXIF_IFD}
        elif tag in (_DATE_TIME, _DATE_TIME_ORIGINAL) and count == 20:
            found[tag] = tiff[value : value + 19].decode("ascii")
    return found
