"""The routing benchmark: its arithmetic, and one small run of the contestants that are installed."""

from __future__ import annotations

import pytest

from agents.bench import route


def test_a_ratio_says_how_many_times_a_peers_rate_ours_is() -> None:
    assert route.ratios({"tierwise": 60.0, "faust": 3.0, "aiokafka": 80.0}) == {
        "faust": 20.0,
        "aiokafka": 0.75,
    }


def test_each_goal_is_about_a_contestant() -> None:
    assert route.GOALS.keys() <= route.SHARES.keys()


@pytest.mark.e2e
def test_a_small_run_measures_every_contestant_that_is_installed() -> None:
    found = route.run(records=400)["contestants"]
    assert found.keys() == route.SHARES.keys()
    assert all("skipped" in one or one["records_per_s"] > 0 for one in found.values())
    assert "skipped" not in found["tierwise"]
