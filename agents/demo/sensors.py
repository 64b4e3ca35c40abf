"""The demo's sensors, which are simulated: an office with people in it on weekdays, and a power meter.

Pure: a seed and a moment give a value, so that each demo shows the same week.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

DAYS: Final = 8
"""Days of past readings: a pattern is judged from its fourth day on."""

PAST_STEP_S: Final = 1800.0
RECENT_S: Final = 2 * 3600.0
RECENT_STEP_S: Final = 60.0
"""The room's windows need a reading every minute in the last two hours."""

OFFICE_HOURS: Final = (8, 17)


class Sample(NamedTuple):
    """One simulated reading."""

    stream: str
    unit: str
    value: float
    time_s: float


def past(now_s: float, seed: int = 7) -> Iterator[Sample]:
    """Yield all readings of the last days, in the order of time."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    time_s = now_s - DAYS * 86_400.0
    while time_s < now_s:
        yield from at(time_s, chance)
        time_s += RECENT_STEP_S if now_s - time_s <= RECENT_S else PAST_STEP_S


def at(time_s: float, chance: random.Random) -> Iterator[Sample]:
    """Yield one reading of each sensor at this moment (UTC seconds)."""
    moment = dt.datetime.fromtimestamp(time_s, dt.UTC)
    hour = moment.hour + moment.minute / 60
    inside = moment.weekday() < 5 and OFFICE_HOURS[0] <= hour < OFFICE_HOURS[1]
    day = math.sin((hour - 9) / 24 * 2 * math.pi)
    noise = chance.gauss
    yield Sample("room1/temperature", "Cel", 20.5 + (1.4 if inside else 0.0) + 0.6 * day + noise(0, 0.08), time_s)
    yield Sample("room1/humidity", "%RH", 31.0 + (3.0 if inside else 0.0) - 2.0 * day + noise(0, 0.3), time_s)
    yield Sample("room1/light", "lx", max(0.0, (430.0 if inside else 4.0) + noise(0, 12 if inside else 1)), time_s)
    yield Sample("room1/co2", "ppm", (820.0 if inside else 440.0) + noise(0, 20), time_s)
    yield Sample("meter/power", "W", 180.0 + (260.0 if 17 <= hour < 22 else 40.0) + abs(noise(0, 25)), time_s)
