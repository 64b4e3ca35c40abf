"""The loop's benchmark tells what it compared, at any size."""

from __future__ import annotations

import pytest

from agents.bench import loop
from agents.cli.bench import ROWS


def test_a_head_is_measured_beside_reading_its_features() -> None:
    told = loop.head(3_000)
    assert told["features"] == 3_000
    assert told["ratio"]["records"] >= 1
    assert all(seconds >= 0 for seconds in told["seconds"].values())


@pytest.mark.slow
def test_one_round_of_sums_sends_a_tenth_of_what_averaging_sends() -> None:
    told = loop.federated()
    assert told["ratio"] <= loop.GOALS["round"]
    assert abs(told["accuracy"]["sums"] - told["accuracy"]["FedAvg"]) < 0.03


@pytest.mark.slow
def test_the_table_shows_each_figure_beside_its_goal() -> None:
    told = {
        "head": loop.head(1_000),
        "round": loop.federated(),
        "increment": {"held back": 20, "ms": {"median": 4.2, "most": 6.0}},
        "goals": loop.GOALS,
    }
    rows = ROWS["loop"](told)
    assert ("an edge's increment, 20 visits held back", "4.20 ms", "<= 5 ms") in rows
