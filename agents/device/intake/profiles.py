"""The names that cameras give their files: which part of them is the time of the capture.

A camera that writes no EXIF time puts it into the name of the file, or into the names of its folders. The time is the
camera's own clock, in the site's time zone::

    name_time("/2018-07-25/pic_001/09/52/21[M][0@0][1].jpg", zone)   # 25 July 2018, 09:52:21

Each profile was derived from names in public projects that receive such files, not from a manufacturer's word.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class NameProfile:
    """How cameras of a kind name their files. `pattern` has six groups, from the year to the second, or none."""

    name: str
    pattern: re.Pattern[str]
    example: str
    derived_from: str


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.ASCII)


PROFILES: Final = (
    NameProfile(
        "Dahua, Amcrest, Lorex",
        _pattern(r"(\d{4})-(\d\d)-(\d\d)/(?:.*/)?(\d\d)[./](\d\d)[./](\d\d)\[\w\]\["),
        "AMC0200KBE29V0X8B2/2017-10-16/001/jpg/21/06/24[M][0@0][0].jpg",
        "folders of four projects that sort such uploads",
    ),
    NameProfile(
        "Hikvision",
        _pattern(r"_\d\d_(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\d{3}_[A-Z_]+\.jpe?g$"),
        "192.168.1.64_01_20200730111229020_MOTION_DETECTION.jpg",
        "six projects that read such uploads",
    ),
    NameProfile(
        "Reolink",
        _pattern(r"_\d\d_(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\.jpe?g$"),
        "2022/03/07/K3TA_00_20220307125217.jpg",
        "the transfer log of a project that mirrors such uploads",
    ),
    NameProfile(
        "Foscam",
        _pattern(r"MDAlarm_(\d{4})(\d\d)(\d\d)[-_](\d\d)(\d\d)(\d\d)"),
        "snap/MDAlarm_20250103-153045.jpg",
        "five projects that sort such uploads",
    ),
    NameProfile(
        "any with date and time in the name (ACTi, GeoVision, Vivotek, ESP32-CAM)",
        _pattern(r"(?<!\d)(20\d\d)[-_]?(\d\d)[-_]?(\d\d)[-_T@ ]*(\d\d)[-_:.]?(\d\d)[-_:.]?(\d\d)(?=\D|\d{3}\D)"),
        "Entrance-2009-06-05@225030.jpg",
        "the manuals' naming rules: Entrance-%YYYY-%MM-%DD@%hh%mm%ss, <prefix>_20050107175903.jpg",
    ),
    NameProfile(
        "trail cameras that count (Willfine, BST886 and many more)",
        _pattern(r"(?:IMAG|IMG_|DSCF|SYFW|PICT|WCAM)\d{4}\.jpe?g$"),
        "IMAG0001.JPG",
        "mails of a BST886; the name has no time, the EXIF data have it",
    ),
)
"""In the order in which they are tried."""


def name_time(path: str, zone: dt.tzinfo) -> float | None:
    """Return the time in the name of a file with its folders, in seconds since the epoch; None if there is none."""
    for profile in PROFILES:
        found = profile.pattern.search(path)
        if found is None or not found.groups():
            continue
        try:
            return dt.datetime(*map(int, found.groups()), tzinfo=zone).timestamp()  # type: ignore[misc,arg-type]
        except (ValueError, OverflowError):  # digits that are no time
            continue
    return None


def table() -> str:
    """Return the profiles as a Markdown table."""
    rows = ["| cameras | example | derived from |", "| --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {p.name} | `{p.example}` | {p.derived_from} |" for p in PROFILES)])
