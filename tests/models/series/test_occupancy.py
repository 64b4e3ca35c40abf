"""Occupancy from a room's readings: missing and stale streams, report by exception, clear refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.series.occupancy import UNITS, VALUES_PER_STREAM, TooLittle, features
from models.shipped import load_zoo

NOW_S = 1e9
MODEL = load_zoo().occupancy()


def steady(**values: float) -> dict[str, list[tuple[float, float]]]:
    """Half an hour of equal readings, one in five minutes."""
    names = {"cel": "Cel", "rh": "%RH", "lx": "lx", "ppm": "ppm"}
    return {names[name]: [(NOW_S - 60 * ago, value) for ago in range(0, 35, 5)] for name, value in values.items()}


def test_a_lit_room_with_used_air_is_occupied_and_a_dark_one_vacant() -> None:
    assert MODEL.predict(steady(cel=22.5, rh=27, lx=450, ppm=900), NOW_S).best[0] == "occupied"
    assert MODEL.predict(steady(cel=20.5, rh=27, lx=0, ppm=450), NOW_S).best[0] == "vacant"


def test_light_alone_answers() -> None:
    scores = MODEL.predict(steady(lx=450), NOW_S)
    assert (scores.rank, scores.labels) == ("activity", ("vacant", "occupied"))
    assert scores.best[0] == "occupied"


def test_a_window_without_telling_streams_is_refused_with_what_it_needs() -> None:
    with pytest.raises(TooLittle, match=r"Cel, ppm .* needs lx") as refused:
        MODEL.predict(steady(cel=22, ppm=900), NOW_S)
    assert refused.value.reason == "window-too-thin"
    with pytest.raises(TooLittle, match="with nothing"):
        MODEL.predict({}, NOW_S)


def test_stale_and_future_readings_and_unknown_units_do_not_count() -> None:
    window = {"lx": [(NOW_S - 7200, 450.0), (NOW_S + 60, 450.0)], "V": [(NOW_S, 3.3)]}
    assert not features(window, NOW_S).any()


def test_a_reported_stream_means_the_same_as_a_full_one() -> None:
    every_minute = {"lx": [(NOW_S - 60 * ago, 0.0 if ago > 12 else 400.0) for ago in range(40)]}
    changes = {"lx": [(NOW_S - 39 * 60, 0.0), (NOW_S - 12 * 60, 400.0)]}
    np.testing.assert_allclose(features(changes, NOW_S), features(every_minute, NOW_S), atol=1e-5)


def test_readings_in_any_order_are_the_same_window() -> None:
    window = steady(lx=300, ppm=800)
    backwards = {unit: readings[::-1] for unit, readings in window.items()}
    np.testing.assert_array_equal(features(window, NOW_S), features(backwards, NOW_S))


def test_one_reading_is_a_window() -> None:
    x = features({"lx": [(NOW_S, 100.0)]}, NOW_S).reshape(len(UNITS), VALUES_PER_STREAM)
    present, rise, change, level = x[UNITS.index("lx")]
    assert (present, rise, change) == (1.0, 0.0, 0.0)
    assert level == pytest.approx((math.log1p(100.0) - 3) / 3)


def test_the_level_of_used_air_is_the_rooms_own_and_does_not_count() -> None:
    np.testing.assert_array_equal(features(steady(ppm=450), NOW_S), features(steady(ppm=900), NOW_S))
