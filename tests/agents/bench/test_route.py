"""The routing benchmark: its arithmetic, and one small run of the contestants that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.bench import route
from pipeline.errors import Retry, Stop


def test_a_ratio_says_how_many_times_a_peers_rate_ours_is() -> None:
    assert route.ratios({"tierwise": 60.0, "faust": 3.0, "aiokafka": 80.0}) == {
        "faust": 20.0,
        "aiokafka": 0.75,
    }


def test_each_goal_is_about_a_contestant() -> None:
    assert route.GOALS.keys() <= route.SHARES.keys()


@pytest.mark.parametrize("address", ["no where:9092", "host:port", ":9092", "kafka://host:9092"])
def test_what_is_no_address_of_kafka_is_named(address: str) -> None:
    with pytest.raises(Stop, match="is no address of a Kafka broker"):
        route.run(10, address)


def test_a_kafka_that_is_away_is_one_error_for_main() -> None:
    with pytest.raises(Retry, match=r"Kafka at 127\.0\.0\.1:1"):
        route.run(10, "127.0.0.1:1")


@pytest.mark.e2e
def test_a_python_of_peers_that_is_not_there_is_skipped() -> None:
    found = route.run(records=400, peers_python=Path("/nowhere/python"))["contestants"]
    assert found["quixstreams"] == {"skipped": "/nowhere/python: No such file or directory"}


@pytest.mark.e2e
def test_a_small_run_measures_every_contestant_that_is_installed() -> None:
    found = route.run(records=400)["contestants"]
    assert found.keys() == route.SHARES.keys()
    assert all("skipped" in one or one["records_per_s"] > 0 for one in found.values())
    assert "skipped" not in found["tierwise"]
