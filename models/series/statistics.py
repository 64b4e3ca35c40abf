"""Online, robust statistics of readings: is a value normal, is it worth sending, is an hour usual, what comes next.

Pure functions over small frozen states that an agent keeps for each stream and can store (msgspec structs)::

    reading --observe--> normal | unusual          (device: robust exponential smoothing)
            --worth_sending--> changed | heartbeat  (device: report by exception)
    hour's mean --judge_hour--> usual | unusual     (cloud: profile of the week's 168 hours)
                --forecast--> the next day, with a band

Example::

    track, verdict = observe(None, 21.5, time_s=0.0)   # verdict.state "normal", verdict.warm False
    track, verdict = observe(track, 21.6, time_s=60.0)

Sources: `observe` is Gelper, Fried & Croux 2010 (robust exponential smoothing: bounded innovations, biweight scale).
`judge_hour` and `forecast` shrink an hour of the week towards its hour of the day and that towards the level of all
hours (empirical Bayes, Efron & Morris 1975); the forecast adds the last hour's deviation, decaying as an AR(1) error
does (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., ch. 10).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.labels.scores import Scores
from pipeline.errors import Rejected

# --- is this reading normal? ---------------------------------------------------------------------------------------

# The first readings are never unusual; their median and spread start the track.
WARM_UP = 20
# The weight of the newest reading: the level follows a drift with a lag of about four readings.
LEVEL_RATE = 0.25
SCALE_RATE = 0.04
# Innovations are cut at this number of scales; 2 keeps 95% of a Gaussian's information (Gelper et al., section 2).
BOUND = 2.0
# Makes the biweight's expectation 1 for a Gaussian at a bound of 2 (same section).
BIWEIGHT = 2.52
# A reading six scales from the expected value is unusual, but at most about one reading in 200: a light switch is no
# surprise in a room that people use, even after a quiet night. So the track also follows a quantile of past surprises,
# which grows by a fifth when it is exceeded and shrinks 199 times slower (Robbins & Monro 1951).
UNUSUAL_SCORE = 6.0
USUAL_SHARE = 0.995
QUANTILE_RATE = 0.2
# The scale never falls below half of a sensor's own step, nor below this share of the level.
LEAST_RELATIVE_SCALE = 1e-4
# During a gap the level may have drifted: the score is divided by the gap's root, up to this factor.
LARGEST_EASE = 8.0
# A Gaussian's standard deviation is its median absolute deviation times this.
MAD_TO_SIGMA = 1.4826

State = Literal["normal", "unusual"]


class Track(msgspec.Struct, frozen=True):
    """The state of a stream: `warm_up` holds the first readings; level, scale and surprise are in the stream's unit."""

    count: int
    last_value: float
    last_time_s: float
    step: float
    interval_s: float
    level: float
    scale: float
    surprise: float = 0.0
    warm_up: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StateVerdict:
    """The result for a reading. `score` is its distance from the expected value, in scales; normal until `warm`."""

    state: State
    score: float
    warm: bool

    @property
    def scores(self) -> Scores:
        """Scores over `normal` and `unusual`. They order readings but are not calibrated, since there are no labels."""
        unusual = 1 / (1 + math.exp(min(50.0, UNUSUAL_SCORE - self.score))) if self.warm else 0.0
        return Scores("state", ("normal", "unusual"), np.array([1 - unusual, unusual], np.float32))


def observe(track: Track | None, value: float, time_s: float) -> tuple[Track, StateVerdict]:
    """Judge a reading (finite, any unit) by its stream's past, then learn from it."""
    if track is None:
        return Track(1, value, time_s, 0.0, 0.0, value, 0.0, 0.0, (value,)), StateVerdict("normal", 0.0, False)
    change, gap_s = abs(value - track.last_value), max(0.0, time_s - track.last_time_s)
    step = min(track.step, change) if track.step and change else track.step or change
    interval_s = gap_s if track.count == 1 else track.interval_s + LEVEL_RATE * (gap_s - track.interval_s)
    if track.count < WARM_UP:
        seen = (*track.warm_up, value)
        level = statistics.median(seen)
        spread = MAD_TO_SIGMA * statistics.median(abs(each - level) for each in seen)
        scale = max(spread, _least_scale(step, level))
        warm_up = seen if track.count + 1 < WARM_UP else ()
        # A drifting stream has its newest level, not that of the middle of the warm-up.
        level = level if warm_up else statistics.median(seen[-3:])
        after = Track(track.count + 1, value, time_s, step, interval_s, level, scale, UNUSUAL_SCORE * scale, warm_up)
        return after, StateVerdict("normal", 0.0, False)
    ease = min(LARGEST_EASE, max(1.0, math.sqrt(gap_s / track.interval_s) if track.interval_s else 1.0))
    scale = max(track.scale, _least_scale(step, track.level))
    innovation = (value - track.level) / (scale * ease)
    bounded = min(max(innovation, -BOUND), BOUND)
    biweight = 1 - (1 - min(1.0, (innovation / BOUND) ** 2)) ** 3
    learned = scale * math.sqrt(SCALE_RATE * BIWEIGHT * biweight + 1 - SCALE_RATE)
    # An outlier moves the level by at most the bound, so that a new level is learned within minutes, not at once.
    level = track.level + LEVEL_RATE * bounded * scale * ease
    surprise = abs(value - track.level) / ease
    score = surprise / max(scale, track.surprise / UNUSUAL_SCORE)
    passed = USUAL_SHARE if surprise > track.surprise else USUAL_SHARE - 1
    quantile = max(track.surprise * math.exp(QUANTILE_RATE * passed), scale)
    after = Track(track.count + 1, value, time_s, step, interval_s, level, learned, quantile)
    return after, StateVerdict("unusual" if score > UNUSUAL_SCORE else "normal", score, True)


def distance(track: Track | None, value: float, least_scale: float) -> float:
    """Return how many scales a value is above what the track expects, below if negative; 0 until it is warm."""
    if track is None or track.count < WARM_UP:
        return 0.0
    return (value - track.level) / max(track.scale, track.surprise / UNUSUAL_SCORE, least_scale)


def _least_scale(step: float, level: float) -> float:
    return max(step / 2, LEAST_RELATIVE_SCALE * abs(level), 1e-9)


# --- is it worth sending? ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadBand:
    """A reading is sent if it differs from the last sent one by more than `absolute` (stream's unit) and `relative`.

    After `heartbeat_s` it is sent anyway, since silence must not look like a dead sensor.
    """

    absolute: float
    relative: float
    heartbeat_s: float


HEARTBEAT_S = 600.0
# Slightly above the noise of each kind of sensor (SHT3x, BH1750, SCD30, household meters; by their data sheets).
DEAD_BANDS = MappingProxyType(
    {
        "Cel": DeadBand(0.1, 0.0, HEARTBEAT_S),
        "%RH": DeadBand(0.5, 0.0, HEARTBEAT_S),
        "lx": DeadBand(5.0, 0.05, HEARTBEAT_S),
        "ppm": DeadBand(10.0, 0.02, HEARTBEAT_S),
        "W": DeadBand(3.0, 0.02, HEARTBEAT_S),
    }
)
ANY_UNIT = DeadBand(0.0, 0.01, HEARTBEAT_S)

Worth = Literal["first", "changed", "heartbeat", "within-dead-band"]


def default_dead_band(unit: str) -> DeadBand:
    """Return the dead band of a SenML unit; 1% of the value for unknown units."""
    return DEAD_BANDS.get(unit, ANY_UNIT)


def worth_sending(
    last_value: float | None, last_time_s: float | None, value: float, time_s: float, band: DeadBand
) -> tuple[bool, Worth]:
    """Return whether to send a reading, and the rule that decides. `last_*` belong to the last sent reading."""
    if last_value is None or last_time_s is None:
        return True, "first"
    if abs(value - last_value) > max(band.absolute, band.relative * abs(last_value)):
        return True, "changed"
    if abs(time_s - last_time_s) >= band.heartbeat_s:  # the sensor's clock may have been set back
        return True, "heartbeat"
    return False, "within-dead-band"


# --- is this hour usual, and what comes next? ----------------------------------------------------------------------

HOUR_S = 3600
HOURS_OF_DAY, HOURS_OF_WEEK = 24, 168
# The epoch was a Thursday; hour 0 of the profile is Monday, midnight.
EPOCH_HOUR_OF_WEEK = 3 * HOURS_OF_DAY
# A slot remembers about two months: habits change with the seasons.
MEMORY_WEEKS = 8
# The weight of the next coarser level in observations: one week of a slot weighs as much as its hour of the day.
PRIOR_WEIGHT = 1.0
# An hour of the day is judged after three days.
JUDGED_FROM_DAYS = 3
# In spreads: one hour in two thousand for a Gaussian; about four a year with the heavier tails of sensors.
UNUSUAL_HOUR = 3.5
# The learning rate for the persistence of deviations: a day or two.
DEVIATION_RATE = 0.05
LARGEST_PERSISTENCE = 0.98
BAND = 1.64  # 90% of a Gaussian

FORECAST_METHOD = "hour-of-week mean, shrunk to hour of day, with decaying last deviation"

Pattern = Literal["usual", "unusual", "unknown"]


class Profile(msgspec.Struct, frozen=True):
    """Observations (at most `MEMORY_WEEKS`), mean and variance of each hour of the week, from Monday 0:00.

    `deviation` is the difference of the last learned hour from its expected value; `square` and `product` are running
    means of its square and of its product with the previous deviation.
    """

    weight: tuple[float, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    deviation: float = 0.0
    square: float = 0.0
    product: float = 0.0
    last_hour_s: int = 0

    @classmethod
    def empty(cls) -> Profile:
        """Return the profile before the first hour."""
        zeros = (0.0,) * HOURS_OF_WEEK
        return cls(zeros, zeros, zeros)


@dataclass(frozen=True, slots=True)
class PatternVerdict:
    """The result for an hour. `low` to `high` is usual; `weeks` is how often this hour of the week was observed."""

    pattern: Pattern
    score: float
    expected: float
    low: float
    high: float
    weeks: float

    @property
    def scores(self) -> Scores:
        """Scores over `usual` and `unusual`; even while nothing is known yet."""
        unusual = 0.5 if self.pattern == "unknown" else 1 / (1 + math.exp(min(50.0, UNUSUAL_HOUR - self.score)))
        return Scores("pattern", ("usual", "unusual"), np.array([1 - unusual, unusual], np.float32))


@dataclass(frozen=True, slots=True)
class HourlyForecast:
    """Future hourly means from `start_s` (UTC seconds, a full hour), with a 90% band, in the stream's unit."""

    start_s: int
    hours: int
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """Expected mean, spread and observed days of each hour of the week; all (168,)."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    days: NDArray[np.float64]


def hour_of_week(hour_start_s: int, utc_offset_s: int = 0) -> int:
    """Return 0 (Monday, midnight to one) to 167, in local time."""
    return ((hour_start_s + utc_offset_s) // HOUR_S + EPOCH_HOUR_OF_WEEK) % HOURS_OF_WEEK


def learn(profile: Profile, hour_start_s: int, mean: float, utc_offset_s: int = 0) -> Profile:
    """Add an hour's mean. An unusual hour counts as one at the edge of the usual band."""
    slot = hour_of_week(hour_start_s, utc_offset_s)
    verdict = judge_hour(profile, hour_start_s, mean, utc_offset_s)
    taken = mean if verdict.pattern == "unknown" else min(max(mean, verdict.low), verdict.high)
    weight = min(profile.weight[slot] + 1, MEMORY_WEEKS)
    delta = taken - profile.mean[slot]
    new_mean = profile.mean[slot] + delta / weight
    new_variance = profile.variance[slot] + (delta * (taken - new_mean) - profile.variance[slot]) / weight
    # The first day has no expected values.
    deviation = taken - verdict.expected if sum(profile.weight) >= HOURS_OF_DAY else 0.0
    return Profile(
        _replaced(profile.weight, slot, weight),
        _replaced(profile.mean, slot, new_mean),
        _replaced(profile.variance, slot, max(0.0, new_variance)),
        deviation,
        profile.square + DEVIATION_RATE * (deviation**2 - profile.square),
        profile.product + DEVIATION_RATE * (deviation * profile.deviation - profile.product),
        hour_start_s,
    )


def judge_hour(profile: Profile, hour_start_s: int, mean: float, utc_offset_s: int = 0) -> PatternVerdict:
    """Judge whether an hour's mean is usual for its hour and weekday; `unknown` before three days."""
    slot = hour_of_week(hour_start_s, utc_offset_s)
    expected = _expected(profile)
    centre, spread = float(expected.mean[slot]), float(expected.spread[slot])
    score = abs(mean - centre) / spread if spread else 0.0
    known = expected.days[slot] >= JUDGED_FROM_DAYS
    pattern: Pattern = "unknown" if not known else "unusual" if score > UNUSUAL_HOUR else "usual"
    edge = UNUSUAL_HOUR * spread
    return PatternVerdict(pattern, score, centre, centre - edge, centre + edge, profile.weight[slot])


def forecast(profile: Profile, next_hour_start_s: int, hours: int = 24, utc_offset_s: int = 0) -> HourlyForecast:
    """Forecast hourly means with a 90% band. Raises `Rejected` (reason `too-few-hours`) before the first day."""
    if sum(profile.weight) < HOURS_OF_DAY:
        raise Rejected("too-few-hours", f"{sum(profile.weight):.0f} hours seen; a forecast needs a day of them")
    expected = _expected(profile)
    persistence = min(max(profile.product / profile.square, 0.0), LARGEST_PERSISTENCE) if profile.square else 0.0
    values, low, high = [], [], []
    for ahead in range(hours):
        start_s = next_hour_start_s + ahead * HOUR_S
        slot = hour_of_week(start_s, utc_offset_s)
        lag = max(1, (start_s - profile.last_hour_s) // HOUR_S)
        carried = persistence**lag
        value = float(expected.mean[slot]) + carried * profile.deviation
        # The variance of an AR(1) error grows to that of the slot while the last deviation is forgotten.
        width = BAND * max(float(expected.spread[slot]), math.sqrt(profile.square)) * math.sqrt(1 - carried**2)
        values.append(value)
        low.append(value - width)
        high.append(value + width)
    return HourlyForecast(next_hour_start_s, hours, tuple(values), tuple(low), tuple(high), FORECAST_METHOD)


def _replaced(values: tuple[float, ...], at: int, value: float) -> tuple[float, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _expected(profile: Profile) -> _Expected:
    """Shrink slots towards their hour of the day, and hours of the day towards the mean of all hours."""
    weight, mean, variance = (np.array(part) for part in (profile.weight, profile.mean, profile.variance))
    by_day = [part.reshape(-1, HOURS_OF_DAY) for part in (weight, mean, variance)]
    days = by_day[0].sum(0)
    total = float(days.sum())
    overall = float((weight * mean).sum()) / total if total else 0.0
    of_day = ((by_day[0] * by_day[1]).sum(0) + PRIOR_WEIGHT * overall) / (days + PRIOR_WEIGHT)
    prior = np.tile(of_day, HOURS_OF_WEEK // HOURS_OF_DAY)
    shrunk = (weight * mean + PRIOR_WEIGHT * prior) / (weight + PRIOR_WEIGHT)
    # The spread within a slot, and between the days of an hour: a slot seen once has only the latter.
    between = (by_day[0] * (by_day[1] - of_day) ** 2).sum(0) / np.maximum(days, 1)
    within = (weight * variance + PRIOR_WEIGHT * np.tile(between, 7)) / (weight + PRIOR_WEIGHT)
    seen_days = np.tile(days, 7)
    pooled = float((weight * (mean - prior) ** 2).sum()) / total if total else 0.0
    # A few days show too little spread: a share of all hours' spread replaces the missing days.
    spread = np.sqrt(within * (1 + 1 / np.maximum(weight, 1)) + pooled / np.maximum(seen_days, 1))
    least = max(LEAST_RELATIVE_SCALE * abs(overall), 1e-9)
    return _Expected(shrunk, np.maximum(spread, least), seen_days)
