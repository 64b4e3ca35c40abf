"""Read when a photo was taken from its EXIF data.

EXIF writes local time without a zone. The zone is the photo's own offset where it has one, else the site's `timezone`::

    JPEG ──exif_tags──> ExifTags ──capture_time(zone)──> CaptureTime(time_s, source, trusted)

A time that cannot be right keeps the event and is flagged: `trusted` is False.

Sources: CIPA DC-008 (EXIF 2.32), tags OffsetTimeOriginal and SubSecTimeOriginal. Pillow reads the tags.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
import warnings
from pathlib import Path
from typing import IO, Literal, NamedTuple

from PIL import Image

from pipeline.readings import FUTURE_MAX_S

# Pillow warns about damaged EXIF data on stderr. The tags that are left are used.
warnings.filterwarnings("ignore", module=r"PIL\.")

_EXIF_DIRECTORY = 0x8769
_ORIENTATION = 0x0112
# Tags of date, offset and part of a second: DateTimeOriginal in the EXIF directory, else DateTime in the first one.
_ORIGINAL, _CHANGED = (0x9003, 0x9011, 0x9291), (0x0132, 0x9010, 0x9290)

EARLIEST_S = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp()
"""No digital camera took a photo before. Clocks that were never set start in 1904, 1970 or 1980."""

# Some programs write parts of a second and the offset into the date itself, as in ISO 8601.
_DATE = re.compile(
    r"(\d{4})[:/-](\d\d)[:/-](\d\d)(?:[ T]([ \d]\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)? ?(Z|[+-]\d\d:?\d\d)?)?"
)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")

TimeSource = Literal["exif-offset", "exif-timezone", "received"]


class ExifTags(NamedTuple):
    """The tags that date a photo, as the camera wrote them; empty where it wrote none."""

    date: str = ""
    offset: str = ""
    subsecond: str = ""


class CaptureTime(NamedTuple):
    """When a photo was taken: UTC seconds, the zone that was used, and whether the camera's clock can be right."""

    time_s: float
    source: TimeSource
    trusted: bool


class _WallTime(NamedTuple):
    moment: dt.datetime
    """Without a zone."""
    exact: bool
    """False of a date without a time, of hour 24 and of second 60."""
    subsecond: str = ""
    offset: str = ""


def exif_tags_of(file: Path) -> ExifTags:
    """Return the tags that date a photo's file; empty ones if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return exif_tags(stream)
    except OSError:
        return ExifTags()


def exif_tags(photo: IO[bytes]) -> ExifTags:
    """Return the tags that date a JPEG; empty ones for any other file, and for damaged EXIF data. Never raises."""
    try:
        with Image.open(photo, formats=("JPEG",)) as opened:
            first = opened.getexif()
            exif = first.get_ifd(_EXIF_DIRECTORY)
    except Exception:  # Pillow lists no errors that hostile bytes may cause; without tags, the photo is still good
        return ExifTags()
    if date := _text(exif.get(_ORIGINAL[0])):
        return ExifTags(date, *(_text(exif.get(tag)) for tag in _ORIGINAL[1:]))
    return ExifTags(_text(first.get(_CHANGED[0])), *(_text(exif.get(tag)) for tag in _CHANGED[1:]))


def with_exif_time(jpeg: bytes, tags: ExifTags) -> bytes:
    """Return a JPEG without EXIF data with these tags as its time."""
    exif = Image.Exif()
    own = exif.get_ifd(_EXIF_DIRECTORY)
    own.update({tag: text for tag, text in zip(_ORIGINAL, tags, strict=True) if text})
    body = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def orientation(photo: IO[bytes]) -> int:
    """Return a JPEG's EXIF orientation, 1 to 8; 1 (upright) if it has none. Never raises."""
    try:
        with Image.open(photo, formats=("JPEG",)) as opened:
            return int(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # as above
        return 1


def capture_time(tags: ExifTags, zone: dt.tzinfo, received_s: float) -> CaptureTime:
    """Return when a photo was taken, in the zone of its offset or else in `zone`.

    Of an hour that a clock change repeats, the first is meant; a time that a clock change skips is moved forward. A
    clock that was never set (before 1990) or runs ahead of `received_s` gives the time of receipt, not trusted.
    Without a date, that is the time too, and nothing is wrong with it.

    >>> capture_time(ExifTags("2026:05:06 20:30:00", "-04:00"), dt.UTC, 1.8e9)
    CaptureTime(time_s=1778113800.0, source='exif-offset', trusted=True)
    """
    if not tags.date.strip(" :"):
        return CaptureTime(received_s, "received", True)
    if (wall := _wall_time(tags.date)) is None:
        return CaptureTime(received_s, "received", False)
    own = _zone(tags.offset) or _zone(wall.offset)
    subsecond = tags.subsecond or wall.subsecond
    fraction_s = float(f"0.{subsecond}") if re.fullmatch("[0-9]{1,9}", subsecond) else 0.0
    try:
        time_s = wall.moment.replace(tzinfo=own or zone, fold=0).timestamp() + fraction_s
    except OverflowError:  # in the year 1 or 9999, with an offset that leads out of it
        return CaptureTime(received_s, "received", False)
    if not EARLIEST_S <= time_s <= received_s + FUTURE_MAX_S:
        return CaptureTime(received_s, "received", False)
    return CaptureTime(time_s, "exif-offset" if own else "exif-timezone", wall.exact)


def wall_time_s(tags: ExifTags) -> float | None:
    """Return the camera's own time as if it were UTC, for order and identity; None if it wrote none that can be read.

    It does not depend on the settings, and a clock that was never set still orders the photos of one card.
    """
    wall = _wall_time(tags.date)
    return None if wall is None else wall.moment.replace(tzinfo=dt.UTC).timestamp()


def _wall_time(date: str) -> _WallTime | None:
    if (found := _DATE.fullmatch(date)) is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if hour > 24 or minute > 59 or second > 60:
        return None
    try:
        moment = dt.datetime(year, month, day) + dt.timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):
        return None
    return _WallTime(moment, found[4] is not None and hour < 24 and second < 60, *found.groups("")[6:])


def _zone(offset: str) -> dt.timezone | None:
    if (found := _OFFSET.fullmatch(offset)) is None or int(found[2]) > 14 or int(found[3]) > 59:
        return dt.UTC if offset == "Z" else None
    ahead = dt.timedelta(hours=int(found[2]), minutes=int(found[3]))
    return dt.timezone(-ahead if found[1] == "-" else ahead)


def _text(value: object) -> str:
    """Return a tag's text; empty for a value of another type."""
    return value.strip("\0 \n\r\t") if isinstance(value, str) else ""
