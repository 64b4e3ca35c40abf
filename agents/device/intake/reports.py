r"""Read the daily reports of trail cameras: battery, temperature, signal and card, as readings of the camera's device.

Such a camera uploads or mails a text with a value a line::

    >>> report = "Battery:60%\nTemp:24 C\nCSQ:31\nSD:59405M/59628M\nDate:05/12/2025 15:46:47"
    >>> [(value.stream, value.value, value.unit) for value in values_of(report)]
    [('battery', 60.0, '%'), ('temperature', 24.0, 'Cel'), ('signal', -51.0, 'dBm'), ('card', 99.6, '%')]

Keys and forms are those of Willfine cameras, as AddaxAI Connect reads them, with the usual spellings of others. Signal
quality (CSQ, 0 to 31) becomes dBm by 3GPP TS 27.007, 8.5.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

REPORT_MAX_BYTES: Final = 64 * 1024


class ReportValue(NamedTuple):
    """One value of a report, and the stream of the camera's device that it belongs to."""

    stream: str
    value: float
    unit: str


class ReportField(NamedTuple):
    """A kind of value: the keys that cameras write before it, its form, and what it becomes."""

    stream: str
    keys: str
    form: str
    unit: str
    value: Callable[[re.Match[str]], float] = lambda found: float(found[1])


_NUMBER: Final = r"(-?\d+(?:\.\d+)?)"
_SIZES: Final = {"K": 1e-3, "M": 1.0, "G": 1e3, "T": 1e6}


def _used(found: re.Match[str]) -> float:
    whole = float(found[3]) * _SIZES[found[4].upper()]
    return round(100 * float(found[1]) * _SIZES[found[2].upper()] / whole, 1) if whole else 0.0


def _dbm(found: re.Match[str]) -> float:
    return -113.0 + 2.0 * float(found[1])


FIELDS: Final = (
    ReportField("battery", r"batt?(?:ery)?(?: level| status)?|power", _NUMBER + r"\s*%", "%"),
    ReportField("voltage", r"batt?(?:ery)?(?: voltage)?|voltage|power", _NUMBER + r"\s*V", "V"),
    ReportField("temperature", r"temp(?:erature)?", _NUMBER + r"\s*(?:°|º|deg)?\s*[C℃]?", "Cel"),
    ReportField(
        "temperature",
        r"temp(?:erature)?",
        _NUMBER + r"\s*(?:°|º|deg)?\s*[F℉]",
        "Cel",
        lambda f: round((float(f[1]) - 32) / 1.8, 1),
    ),
    ReportField("signal", r"csq", r"(\d|[12]\d|3[01])", "dBm", _dbm),
    ReportField("signal", r"signal(?: strength| quality)?|rssi|csq", _NUMBER + r"\s*dBm", "dBm"),
    ReportField("reception", r"signal(?: strength| quality)?", _NUMBER + r"\s*%", "%"),
    ReportField(
        "card",
        r"sd(?: ?card)?|card|storage",
        r"(\d+(?:\.\d+)?)\s*([KMGT])B?\s*/\s*(\d+(?:\.\d+)?)\s*([KMGT])B?",
        "%",
        _used,
    ),
    ReportField("card", r"(?:sd ?card|card|sd)(?: used)?", _NUMBER + r"\s*%", "%"),
)
"""Tried in this order for each line; the first that fits counts."""

_FORMS: Final = tuple((field, re.compile(rf"(?:{field.form})(?![\w/%°º℃℉]|\.\d).*", re.IGNORECASE)) for field in FIELDS)
_KEYS: Final = tuple(re.compile(field.keys, re.IGNORECASE) for field in FIELDS)
_DATES: Final = ("%d/%m/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M")


def values_of(report: str) -> list[ReportValue]:
    """Return the values of a report; none if the text is no report. A stream has one value, the first."""
    values: dict[str, ReportValue] = {}
    for key, text in _lines(report):
        for (field, form), keys in zip(_FORMS, _KEYS, strict=True):
            if keys.fullmatch(key) and (found := form.fullmatch(text)):
                values.setdefault(field.stream, ReportValue(field.stream, field.value(found), field.unit))
                break
    return list(values.values())


def time_of(report: str, zone: dt.tzinfo) -> float | None:
    """Return the time that a report states, in the site's zone (seconds since the epoch); None without one."""
    for key, text in _lines(report):
        if key.casefold() in ("date", "time", "datetime", "date time"):
            for form in _DATES:
                try:
                    return dt.datetime.strptime(text, form).replace(tzinfo=zone).timestamp()
                except (ValueError, OverflowError):
                    continue
    return None


def _lines(report: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each line, as ``Battery: 60%`` or ``Battery=60%``."""
    for line in report.splitlines():
        key, mark, text = line.replace("=", ":", 1).partition(":") if ":" not in line else line.partition(":")
        if mark:
            yield key.strip(" \t*-•"), text.strip()
