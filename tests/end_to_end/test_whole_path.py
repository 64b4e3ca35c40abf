"""The real processes, from the publisher's MQTT message to the cloud's answer and the counts, and back."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import pytest
from kafka_brokers import eventually
from stack import GARDEN, PATIENCE_S, SITE, Capture, Listener, Stack, cat

from pipeline import clock, ids, topics
from pipeline.messages import UNKNOWN, Rank, Tier, decode
from pipeline.records import HourlySummary
from pipeline.stream.counts import totals

pytestmark = pytest.mark.e2e

MINUTE_S, HOUR_S = 60.0, 3600.0


def test_a_cat_is_answered_by_three_tiers_under_one_event_and_counted(shared: Stack, listener: Listener) -> None:
    event = listener.capture(GARDEN, cat())
    listener.last_word(event, Tier.CLOUD)
    answers = listener.answers(event)
    assert [(a.tier, a.revision, a.pending) for a in answers] == [
        (Tier.DEVICE, 1, Tier.EDGE),
        (Tier.EDGE, 2, Tier.CLOUD),
        (Tier.CLOUD, 3, None),
    ]
    device, edge, cloud = answers
    assert device.path == ("animal",)
    assert edge.path == ("animal", "Felidae")
    assert cloud.path[:2] == edge.path
    assert all(a.model and a.rule and a.reason and a.sighting == event for a in answers)
    closed = listener.wait(
        lambda: next((s for s in listener.sightings if s.sighting == event and s.closed), None),
        "the closed sighting",
    )
    assert (closed.path, closed.frames, closed.agree) == (cloud.path, 1, 1)

    def counted() -> bool:
        published = [total for total in totals(shared.table(topics.COUNTS).values()) if total.label == cloud.label]
        return any(total.site == SITE and total.devices == ("cam1",) for total in published)

    eventually(counted, PATIENCE_S)
    told_up = [decode_sighting(record.value) for record in shared.records(topics.RESULTS)]
    assert event in told_up


def decode_sighting(value: bytes) -> str:
    """The sighting of an edge's report; empty of a cloud's answer."""
    fields = json.loads(value)
    return str(fields["sighting"]) if "closed" in fields else ""


def room(start_s: float) -> Iterator[tuple[str, float, float]]:
    """Stream, time and value of a simulated room: an hour with people and light, then an hour without; each value
    leaves its dead-band, so that every one is reported. Two minutes more, so that both hours are over."""
    for minute in range(122):
        time_s = start_s + minute * MINUTE_S
        sign = 1 if minute % 2 else -1
        busy = minute < 60
        yield "temperature", time_s, (23.0 if busy else 20.0) + sign
        yield "humidity", time_s, (27.0 if busy else 24.0) + sign
        yield "light", time_s, 450.0 + 40 * sign if busy else 8.0 + 6 * sign
        yield "co2", time_s, (1000.0 if busy else 440.0) + 30 * sign


def test_readings_of_a_room_lead_to_state_activity_summaries_and_pattern(shared: Stack, listener: Listener) -> None:
    start_s = math.floor(time.time() / HOUR_S - 4) * HOUR_S
    values = list(room(start_s))
    captures = [reading(stream, time_s, value) for stream, time_s, value in values]
    acknowledged = listener.capture_all(captures)
    assert acknowledged == [capture.id for capture in captures]

    events = set(acknowledged)  # an answer may come twice: delivery is at least once
    states = listener.wait(
        lambda: (
            len(found := {r.event: r for r in listener.results if r.rank is Rank.STATE and r.event in events})
            == len(captures)
            and found
        ),
        "a state for each reading",
    )
    assert {state.label for state in states.values()} <= {"normal", "unusual"}

    window_ends = [clock.rfc3339(start_s + at_s) for at_s in (HOUR_S, 2 * HOUR_S)]
    activities = listener.wait(
        lambda: (
            len(found := [r for r in listener.results if r.rank is Rank.ACTIVITY and r.time in window_ends]) == 2
            and sorted(found, key=lambda result: result.time)
        ),
        "the activity of both hours",
    )
    assert [activity.label for activity in activities] == ["occupied", "vacant"]
    assert {(activity.room, activity.tier) for activity in activities} == {("office", Tier.EDGE)}

    patterns = listener.wait(
        lambda: len(found := {(r.stream, r.time) for r in listener.results if r.rank is Rank.PATTERN}) >= 8 and found,
        "a pattern for both hours of all four streams",
    )
    assert {stream for stream, _ in patterns} == {"temperature", "humidity", "light", "co2"}
    first = next(r for r in listener.results if r.rank is Rank.PATTERN)
    assert (first.label, first.rule) == (UNKNOWN, "too-few-weeks")

    def summaries() -> dict[tuple[str, float], HourlySummary]:
        records = [decode(HourlySummary, value) for value in shared.table(topics.SUMMARIES).values()]
        return {(summary.source, clock.seconds(summary.hour)): summary for summary in records}

    for stream in ("temperature", "humidity", "light", "co2"):
        for hour_s in (start_s, start_s + HOUR_S):
            key = (f"{SITE}/room1/{stream}", hour_s)
            hour = [value for name, time_s, value in values if name == stream and 0 <= time_s - hour_s < HOUR_S]
            summary = eventually(lambda key=key: (last := summaries()[key]).count >= 60 and last, PATIENCE_S)
            assert (summary.count, summary.low, summary.high) == (60, min(hour), max(hour))
            assert summary.total == pytest.approx(sum(hour))


def reading(stream: str, time_s: float, value: float) -> Capture:
    event = ids.event_id(time_s)
    payload = {"value": value, "time": clock.rfc3339(time_s), "id": event}
    return Capture(topics.reading(SITE, "room1", stream), json.dumps(payload).encode(), event)
