"""The Page-Hinkley test tells a change of the mean, when and where the well-known implementation does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.site_learning.page_hinkley import LEAST, PageHinkley

OF_RIVER = {
    (0, 18.0, 0.25): [619, 1015],
    (1, 18.0, 0.25): [570, 646, 1014],
    (2, 18.0, 0.25): [620, 1017],
    (3, 18.0, 0.25): [616, 1013],
    (0, 8.0, 0.1): [143, 341, 514, 572, 602, 678, 778, 1006, 1137, 1220, 1328, 1386, 1452, 1516, 1550],
    (1, 30.0, 0.5): [652, 1037],
    (3, 30.0, 0.5): [648, 1033],
}
"""Where ``river.drift.PageHinkley(min_instances=30, mode="both")`` of river 0.26.1 alarms on `values`, by seed,
threshold, delta."""


def values(seed: int) -> list[float]:
    """Noise whose mean rises by one after 600 values and falls by one and a half after 1,000."""
    rng = random.Random(seed)
    return [rng.gauss(0, 1) + (1.0 if i >= 600 else 0.0) - (1.5 if i >= 1000 else 0.0) for i in range(1600)]


@pytest.mark.parametrize(("seed", "threshold", "allowance"), OF_RIVER)
def test_it_alarms_at_the_values_at_which_river_does(seed: int, threshold: float, allowance: float) -> None:
    test, alarms = PageHinkley(), []
    for number, value in enumerate(values(seed)):
        test = test.take(value, allowance=allowance)
        if test.change(threshold=threshold):
            alarms.append(number)
            test = PageHinkley()

    assert alarms == OF_RIVER[seed, threshold, allowance]


def test_it_says_which_way_the_mean_went() -> None:
    rose = fell = PageHinkley()
    for value in [0.0] * 50 + [1.0] * 50:
        rose, fell = rose.take(value, allowance=0.1), fell.take(-value, allowance=0.1)

    assert (rose.change(threshold=5.0), fell.change(threshold=5.0)) == ("rose", "fell")


def test_a_few_values_prove_nothing() -> None:
    test = PageHinkley()
    for value in [0.0, 100.0] * (LEAST // 2 - 1):
        test = test.take(value, allowance=0.0)

    assert test.change(threshold=1.0) is None


@given(st.floats(-1e6, 1e6), st.integers(1, 200))
def test_what_never_changes_is_never_told(value: float, count: int) -> None:
    test = PageHinkley()
    for _ in range(count):
        test = test.take(value, allowance=0.25)

    assert test.change(threshold=1.0) is None
