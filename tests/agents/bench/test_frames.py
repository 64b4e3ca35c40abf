"""The benchmark of the whole road: its arithmetic, and one small run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.bench import frames
from agents.bench.frames import results
from agents.bench.meadow import devices, pictures, write_settings
from agents.bench.parts import Parts, camera
from agents.cli.bench import frames_rows
from models.answering.tier_chain import TierChain
from pipeline import messages
from pipeline.messages import Privacy, Rank, Tier
from pipeline.settings.settings import Settings


def test_processes_that_ran_at_once_add_their_rates_and_share_their_cost() -> None:
    one = Parts(10.0, 40.0, {"device": [1.0, 2.0], "edge": [5.0]})
    other = Parts(20.0, 60.0, {"device": [9.0], "cloud": []})
    told = Parts.together([one, other])
    assert (told.per_s, told.cpu_ms) == (30.0, 50.0)
    assert told.median_ms() == {"device": 2.0, "edge": 5.0}


@pytest.mark.slow
def test_every_frame_of_the_walk_differs_and_may_go_through_all_tiers(tmp_path: Path) -> None:
    settings = Settings.load(write_settings(tmp_path), {})
    for device in devices():
        stream = settings.streams[f"{settings.site}/{device}/garden"]
        assert (stream.wants, stream.feature, stream.result) == (Rank.SPECIES, Privacy.PUBLIC, Privacy.PUBLIC)
    walk = pictures(0)
    assert len(set(walk)) == len(walk)
    chain = TierChain.open(settings)
    assert all(set(chain.answer(jpeg, camera(0)).ms) == set(Tier) for jpeg in walk[:3])


def test_what_is_no_answer_is_not_counted() -> None:
    assert list(results([b"", b"{}", messages.encode(messages.Ack(ids=(), topic=""))])) == []


@pytest.mark.e2e
def test_a_small_run_measures_the_road_and_its_parts() -> None:
    told = frames.run(frames=8, parts_s=0.3)
    assert told["answered"] == {"device": 8, "edge": 8, "cloud": 8}
    assert told["road_per_s"] > 0
    assert told["ratio"] > 0
    assert set(told["parts_ms"]) == set(Tier)
    assert [row[2] for row in frames_rows(told)].count(">= 80%") == 1
