"""Hours of the day and of the week, in a site's own time: when a rule of the policy holds.

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
    """From a minute of the day until before another; the end may lie in the next day."""

    start_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read ``22:00-06:00``; ``24:00`` ends a day. ValueError says what is wrong."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'"{text}" is no span of hours; write "22:00-06:00"')
        start_h, start_m, end_h, end_m = map(int, found.groups())
        start_min, end_min = start_h * 60 + start_m, end_h * 60 + end_m
        if max(start_m, end_m) > 59 or start_min >= DAY_MIN or end_min > DAY_MIN:
            raise ValueError(f'"{text}": hours go from 00:00 to 24:00')
        if start_min == end_min:
            raise ValueError(f'"{text}" is empty; for the whole day leave the hours out')
        return cls(start_min, end_min)


ALL_DAY: Final = Hours(0, DAY_MIN)


def holds(hours: Hours, weekdays: Collection[Weekday], moment: dt.datetime) -> bool:
    """Whether a local time lies in these hours of these weekdays (none named: every day).

    Hours past midnight belong to the day on which they began: ``fri 22:00-06:00`` holds on Saturday at 02:00.
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
