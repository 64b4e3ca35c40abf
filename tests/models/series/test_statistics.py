"""Readings: what is unusual, what is worth sending, which hour is usual, what comes next."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.series.statistics import (
    FORECAST_METHOD,
    HOUR_S,
    WARM_UP,
    DeadBand,
    Profile,
    Track,
    default_dead_band,
    forecast,
    hour_of_week,
    judge_hour,
    learn,
    observe,
    worth_sending,
)
from pipeline.errors import Rejected

MONDAY_S = 4 * 86400  # 1970-01-05, midnight UTC


def tracked(values: list[float], track: Track | None = None) -> tuple[Track, list[str]]:
    states = []
    for minute, value in enumerate(values):
        track, verdict = observe(track, value, minute * 60.0)
        states.append(verdict.state)
    assert track is not None
    return track, states


def quiet(count: int, seed: int = 0) -> list[float]:
    return (21 + np.random.default_rng(seed).normal(0, 0.05, count)).round(2).tolist()


def test_nothing_is_unusual_while_warming_up() -> None:
    track, states = tracked([*quiet(WARM_UP - 2), 500.0])
    assert set(states) == {"normal"}
    assert not observe(track, 21.0, 1e5)[1].warm


def test_a_jump_is_unusual_and_the_readings_around_it_are_not() -> None:
    track, before = tracked(quiet(200))
    _, verdict = observe(track, 24.0, 200 * 60.0)
    assert set(before[WARM_UP:]) == {"normal"}
    assert (verdict.state, verdict.warm) == ("unusual", True)
    assert verdict.scores.best[0] == "unusual"


def test_one_outlier_does_not_hide_the_next() -> None:
    track, _ = tracked([*quiet(200), 40.0, *quiet(20, 1), 40.0])
    _, states = tracked([40.0], track)
    assert states == ["unusual"]


def test_a_new_level_becomes_normal_in_time() -> None:
    _, states = tracked([*quiet(100), *(value + 3 for value in quiet(300, 1))])
    assert states[100] == "unusual"
    assert set(states[-50:]) == {"normal"}


def test_a_slow_drift_is_normal() -> None:
    drift = [value + minute * 0.01 for minute, value in enumerate(quiet(1000))]
    assert tracked(drift)[1].count("unusual") <= 2


def test_a_light_that_is_switched_every_day_ceases_to_surprise() -> None:
    days = [400.0 if 480 <= minute % 1440 < 1080 else 0.0 for minute in range(0, 30 * 1440, 10)]
    _, states = tracked(days)
    assert states[-144 * 7 :].count("unusual") <= 7


@pytest.mark.slow
@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=80), st.floats(0, 1e9))
def test_any_finite_readings_give_finite_answers(values: list[float], start_s: float) -> None:
    track = None
    for at, value in enumerate(values):
        track, verdict = observe(track, value, start_s + at)
        assert math.isfinite(verdict.score) and math.isfinite(track.level) and track.scale >= 0
        assert verdict.scores.probabilities.sum() == pytest.approx(1)


def test_a_track_survives_being_stored() -> None:
    for length in (3, 60):
        track, _ = tracked(quiet(length))
        assert msgspec.json.decode(msgspec.json.encode(track), type=Track) == track


@pytest.mark.parametrize(
    ("last", "value", "after_s", "worth", "rule"),
    [
        (None, 20.0, 0, True, "first"),
        (20.0, 20.05, 60, False, "within-dead-band"),
        (20.0, 20.2, 60, True, "changed"),
        (20.0, 20.0, 600, True, "heartbeat"),
    ],
)
def test_a_reading_is_sent_by_exception(
    last: float | None, value: float, after_s: float, worth: bool, rule: str
) -> None:
    band = default_dead_band("Cel")
    assert worth_sending(last, None if last is None else 0.0, value, after_s, band) == (worth, rule)


def test_the_wider_of_both_dead_bands_holds() -> None:
    band = DeadBand(absolute=5, relative=0.05, heartbeat_s=600)
    assert not worth_sending(1000, 0, 1040, 1, band)[0]
    assert worth_sending(1000, 0, 1060, 1, band)[0]
    assert not worth_sending(10, 0, 14, 1, band)[0]


def office(hour: int) -> float:
    """Warm on working days, cool at night and on weekends."""
    day, of_day = divmod(hour, 24)
    return 22.0 if day % 7 < 5 and 8 <= of_day < 18 else 18.0


def learned(hours: int, seed: int = 0) -> Profile:
    noise = np.random.default_rng(seed).normal(0, 0.2, hours).tolist()
    profile = Profile.empty()
    for hour in range(hours):
        profile = learn(profile, MONDAY_S + hour * HOUR_S, office(hour) + noise[hour])
    return profile


def test_hours_are_counted_from_monday_in_local_time() -> None:
    assert hour_of_week(MONDAY_S) == 0
    assert hour_of_week(MONDAY_S - 1) == 167
    assert hour_of_week(MONDAY_S + 23 * HOUR_S, utc_offset_s=3600) == 24


def test_little_data_gives_no_judgement() -> None:
    verdict = judge_hour(learned(48), MONDAY_S + 48 * HOUR_S, 30.0)
    assert verdict.pattern == "unknown"
    assert verdict.scores["unusual"] == 0.5


def test_a_cold_working_hour_is_unusual_and_a_cold_night_is_not() -> None:
    profile, monday = learned(4 * 168), MONDAY_S + 4 * 168 * HOUR_S
    assert judge_hour(profile, monday + 10 * HOUR_S, 17.5).pattern == "unusual"
    assert judge_hour(profile, monday + 10 * HOUR_S, 22.1).pattern == "usual"
    assert judge_hour(profile, monday + 2 * HOUR_S, 18.1).pattern == "usual"


def test_one_broken_hour_does_not_become_usual() -> None:
    profile, monday = learned(4 * 168), MONDAY_S + 4 * 168 * HOUR_S + 10 * HOUR_S
    broken = learn(profile, monday, 90.0)
    assert judge_hour(broken, monday + 168 * HOUR_S, 40.0).pattern == "unusual"


def test_the_next_day_is_forecast_within_its_band() -> None:
    start = 4 * 168
    ahead = forecast(learned(start), MONDAY_S + start * HOUR_S)
    truth = [office(start + hour) for hour in range(24)]
    assert (ahead.hours, ahead.method) == (24, FORECAST_METHOD)
    np.testing.assert_allclose(ahead.values, truth, atol=0.4)
    assert all(low < value < high for low, value, high in zip(ahead.low, truth, ahead.high, strict=True))


def test_a_forecast_needs_a_day() -> None:
    with pytest.raises(Rejected, match="needs a day") as refused:
        forecast(learned(23), MONDAY_S)
    assert refused.value.reason == "too-few-hours"
    assert len(forecast(learned(24), MONDAY_S + 24 * HOUR_S).values) == 24


def test_a_profile_survives_being_stored() -> None:
    profile = learned(30)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(profile), type=Profile) == profile
