"""Hours of the day and days of the week, in the site's own time, during which a rule of the policy holds.

>>> night = Hours.parse("22:00-06:00")
>>> night.start_min, night.end_min
(1320, 360)
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, get_args

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)
DAY_MIN: Final = 24 * 60
_FORM: Final = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Hours:
    """A span from one minute of the day to before another; the end may be on the next day."""

    start_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read ``22:00-06:00``; ``24:00`` ends a day. Raises `ValueError` with an explanation."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'"{text}" is no span of hours; write it as "22:00-06:00"')
        start_h, start_m, end_h, end_m = map(int, found.groups())
        start_min, end_min = start_h * 60 + start_m, end_h * 60 + end_m
        if max(start_m, end_m) > 59 or start_min >= DAY_MIN or end_min > DAY_MIN:
            raise ValueError(f'"{text}": hours go from 00:00 to 24:00')
        if start_min == end_min:
            raise ValueError(f'"{text}" is an empty span; leave the hours out for the whole day')
        return cls(start_min, end_min)


ALL_DAY: Final = Hours(0, DAY_MIN)


def holds(hours: Hours, weekdays: Collection[Weekday], moment: dt.datetime) -> bool:
    """Return whether a local time is within these hours of these weekdays (every day, if none is named).

    Hours after midnight belong to the day on which the span began: ``fri 22:00-06:00`` holds on Saturday at 02:00.
    """
    minute = moment.hour * 60 + moment.minute
    today = moment.weekday()
    if hours.start_min < hours.end_min:
        begun = today if hours.start_min <= minute < hours.end_min else None
    elif minute >= hours.start_min:
        begun = today
    else:
        begun = (today - 1) % 7 if minute < hours.end_min else None
    return begun is not None and (not weekdays or WEEKDAYS[begun] in weekdays)
