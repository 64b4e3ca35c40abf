"""The demo's figures and its scenes: what is counted is what any client of the site could see."""

from __future__ import annotations

import hashlib
import itertools
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_messages import event, event_id, result

from agents.demo import sensors
from agents.demo.run import DemoRequest, settings_for
from agents.demo.scenes import FRAME_PX, SCENES, jpegs
from agents.demo.tally import Percentiles, TrafficTally, percentiles
from models.vision import images
from pipeline import messages, topics
from pipeline.messages import Ack, Crop, Privacy, Report, Tier
from pipeline.readings import parse
from pipeline.settings.settings import Settings

FRAME = topics.frame("home", "cam1", "garden")


def sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def acknowledge(tally: TrafficTally, payload: bytes, *events: str) -> None:
    ack = Ack(ids=events, topic=FRAME, sha256=sha256(payload))
    tally.take(topics.ack("home", "cam1"), messages.encode(ack))


def hear(tally: TrafficTally, told: messages.Result) -> object:
    return tally.take(topics.result("home", "cam1", told.tier, told.privacy), messages.encode(told))


# --- the tally -------------------------------------------------------------------------------------------------


def test_an_event_is_lost_until_it_is_answered() -> None:
    tally = TrafficTally()
    tally.publish(sha256(b"a"), "cam1/garden")
    assert (tally.unacknowledged, tally.unanswered, tally.is_settled) == (1, 0, False)
    acknowledge(tally, b"a", event_id(1))
    assert (tally.unacknowledged, tally.unanswered, tally.is_settled) == (0, 1, False)
    hear(tally, result(event_id(1)))
    assert (tally.unanswered, tally.is_settled) == (0, False)  # the edge is still asked
    hear(tally, result(event_id(1), tier=Tier.EDGE, revision=2, pending=None))
    assert tally.is_settled


def test_one_payload_that_became_two_events_is_a_duplicate() -> None:
    tally = TrafficTally()
    tally.publish(sha256(b"a"), "cam1/garden")
    acknowledge(tally, b"a", event_id(1))
    acknowledge(tally, b"a", event_id(1))
    assert tally.duplicated() == 0
    acknowledge(tally, b"a", event_id(2))
    assert tally.duplicated() == 1


def test_only_a_newer_answer_of_a_tier_is_news() -> None:
    tally = TrafficTally()
    edge = result(event_id(1), tier=Tier.EDGE, revision=3)
    assert hear(tally, edge) == edge
    assert hear(tally, edge) is None
    assert hear(tally, msgspec.structs.replace(edge, revision=2)) is None
    newer = msgspec.structs.replace(edge, revision=4)
    assert hear(tally, newer) == newer
    assert tally.answers(event_id(1)) == [newer]
    assert tally.answered() == {"device": 0, "edge": 1, "cloud": 0}


def test_pictures_and_vectors_that_left_are_counted_and_readings_are_not() -> None:
    tally = TrafficTally()
    told = result(event_id(1))
    topic = topics.event("home", "cam1", "garden")
    crop = Crop(jpeg=b"x", box=(0, 0, 1, 1))
    report = Report(value=1.0, unit="W", count=1, total=1.0, low=1.0, high=1.0)
    for body in (None, report, crop):
        tally.take(topic, messages.encode(event(told, body=body)))
    assert tally.bodies_of(frozenset({"cam1/garden"})) == 1


@given(st.binary(max_size=32), st.sampled_from(("ack", "event", "status", "frame")))
def test_whatever_is_published_at_the_site_is_survived(payload: bytes, channel: str) -> None:
    assert TrafficTally().take(f"{topics.ROOT}/home/cam1/{channel}", payload) is None
    assert TrafficTally().take(f"{topics.ROOT}/home/cam1/result/edge", payload) is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_that_were_measured(values: list[float]) -> None:
    found = percentiles(values)
    assert found.p50 in values
    assert found.p99 in values
    assert found.p50 <= found.p99
    assert sum(value <= found.p50 for value in values) * 2 >= len(values)


def test_no_measurement_is_zero() -> None:
    assert percentiles([]) == Percentiles(0.0, 0.0)


# --- what it publishes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.stream)
def test_no_two_frames_of_a_scene_are_the_same_and_each_is_a_picture(scene: object) -> None:
    frames = [*jpegs(scene, 4), *jpegs(scene, 4, start=4)]  # type: ignore[arg-type]
    assert len(set(frames)) == 8
    assert images.decode(frames[0]).shape == (FRAME_PX[1], FRAME_PX[0], 3)


def test_a_simulated_week_is_the_same_for_the_same_seed_and_in_the_order_of_time() -> None:
    now_s = 1_700_000_000.0
    week = list(sensors.past(now_s, seed=3))
    assert week == list(sensors.past(now_s, seed=3))
    assert all(earlier.time_s <= later.time_s for earlier, later in itertools.pairwise(week))
    assert week[0].time_s == now_s - sensors.DAYS * 86_400
    assert week[-1].time_s < now_s


def test_simulated_readings_are_taken_as_readings() -> None:
    now_s = time.time()
    for sample in itertools.islice(sensors.past(now_s), 50):
        (reading,) = parse(msgspec.json.encode({"value": sample.value, "unit": sample.unit}), received_s=now_s)
        assert reading.value == pytest.approx(sample.value)


def test_the_demos_settings_are_the_starters_with_two_more_cameras(tmp_path: Path) -> None:
    told = Settings.load(settings_for(DemoRequest(tmp_path / "demo", None, "")), {})
    assert {f"home/{scene.stream}" for scene in SCENES} <= set(told.streams)
    assert told.uplink.sealed == (Privacy.EDGE_PRIVATE, Privacy.USER_PRIVATE)
    assert told.mqtt.is_embedded
    assert told.kafka.is_embedded


def test_the_demos_camera_may_be_the_users_own(tmp_path: Path) -> None:
    source = 'rtsp://cam/"live"'
    told = Settings.load(settings_for(DemoRequest(tmp_path / "demo", None, source)), {})
    assert told.streams["home/cam1/garden"].source == source
