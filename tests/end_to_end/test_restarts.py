"""Nothing acknowledged is lost, whatever is killed; a tier that is away delays nobody; a role ends when it is asked
to."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from kafka_brokers import eventually
from stack import (
    CANDIDATES,
    EACH_FRAME_COUNTS,
    GARDEN,
    PATIENCE_S,
    SITE,
    Capture,
    Stack,
    Stage,
    cats,
)

from agents.up.plan import ROLE_NAMES
from pipeline import clock, ids, topics
from pipeline.messages import Result, SightingReport, Tier, decode
from pipeline.records import HourlySummary
from pipeline.stream.counts import totals

pytestmark = pytest.mark.e2e

HOUR_S = 3600.0
FRAMES_A_KILL, READINGS_A_KILL = 6, 40
"""Enough that each kill hits records on every hop; few enough for two cores."""


def meter(start_s: float, count: int) -> list[Capture]:
    """A meter's readings over three hours, whole watts, so that sums are exact in any order."""
    found = []
    for at in range(count):
        time_s = start_s + at * 3 * HOUR_S / count
        event = ids.event_id(time_s)
        payload = {"value": 200 + at * 37 % 90, "time": clock.rfc3339(time_s), "id": event}
        found.append(Capture(topics.reading(SITE, "meter", "power"), json.dumps(payload).encode(), event))
    return found


def answers_kept(stack: Stack) -> dict[str, Result]:
    """The edge's last word on each event that it knows."""
    told = [decode(Result, blob) for (blob,) in stack.rows("edge", "SELECT told FROM edge_answers")]
    return {result.event: result for result in told}


def test_every_acknowledged_event_is_answered_once_whatever_is_killed(stage: Stage) -> None:
    stack = stage.fresh(TIERWISE_EDGE__CLOUD_DEADLINE_S="2", **EACH_FRAME_COUNTS)
    stack.start()
    start_s = math.floor(time.time() / HOUR_S - 5) * HOUR_S
    frames = [Capture(GARDEN, frame) for frame in cats(FRAMES_A_KILL * len(CANDIDATES))]
    readings = meter(start_s, READINGS_A_KILL * len(CANDIDATES))
    with stack.listen() as listener:
        for at, victim in enumerate(CANDIDATES):
            load: list[Capture] = [
                *frames[at * FRAMES_A_KILL : (at + 1) * FRAMES_A_KILL],
                *readings[at * READINGS_A_KILL : (at + 1) * READINGS_A_KILL],
            ]
            for capture in load:
                listener.publish(capture.topic, capture.payload)
            killed = stack.kill_part(victim)
            listener.capture_all(load)
            stack.wait_ready(victim, other_than=killed)
        after = Capture(topics.reading(SITE, "meter", "power"), later(start_s + 4 * HOUR_S))
        listener.capture_all([after])
        acknowledged = {event for frame in frames for event in listener.acknowledged[frame.sha256]}

    # Every frame that was acknowledged is at the edge, and whatever the cloud was asked about it answered.
    eventually(lambda: not stack.rows("edge", "SELECT 1 FROM inbox LIMIT 1"), PATIENCE_S)
    eventually(lambda: acknowledged <= answers_kept(stack).keys(), PATIENCE_S)

    def unanswered() -> set[str]:
        asked = {event for (event,) in stack.rows("edge", "SELECT asked FROM edge_sightings WHERE asked IS NOT NULL")}
        kept = answers_kept(stack)
        return {event for event in asked if kept[event].tier is not Tier.CLOUD or kept[event].pending}

    eventually(lambda: not unanswered(), PATIENCE_S)
    kept = {event: result for event, result in answers_kept(stack).items() if result.stream == "garden"}
    assert len(kept) >= len(frames)
    # Frames committed together share a sighting, about which the cloud is asked once.
    assert Counter(result.tier for result in kept.values())[Tier.CLOUD] >= len(CANDIDATES)

    # The cloud may have answered some twice, and a sighting is asked about again where the cloud was away too
    # long; each time it said the same.
    from_cloud: dict[str, set[tuple[str, ...]]] = {}
    for record in stack.records(topics.RESULTS):
        if "tier" in (fields := json.loads(record.value)) and fields["stream"] == "garden":
            from_cloud.setdefault(fields["event"], set()).add(tuple(fields["path"]))
    asked = {event for (event,) in stack.rows("edge", "SELECT asked FROM edge_sightings WHERE asked IS NOT NULL")}
    assert from_cloud.keys() >= asked
    assert all(len(paths) == 1 for paths in from_cloud.values())

    # Counted once each: what the site says of its sightings is what the counts say.
    def sightings() -> Counter[str]:
        told = stack.rows("edge", "SELECT told FROM edge_sightings WHERE told IS NOT NULL")
        reports = [decode(SightingReport, blob) for (blob,) in told]
        assert all(report.closed for report in reports)
        return Counter(report.label for report in reports)

    def counted() -> Counter[str]:
        found: Counter[str] = Counter()
        for total in totals(stack.table(topics.COUNTS).values()):
            found[total.label] += total.sightings
        return found

    def agree() -> bool:
        assert counted() == sightings()
        return True

    eventually(agree, PATIENCE_S)

    # Every reading is in its hour, once.
    hours: dict[float, list[int]] = {}
    for capture in readings:
        fields = json.loads(capture.payload)
        hours.setdefault(math.floor(clock.seconds(fields["time"]) / HOUR_S) * HOUR_S, []).append(fields["value"])

    def summed() -> bool:
        told = [decode(HourlySummary, value) for value in stack.table(topics.SUMMARIES).values()]
        sums = {clock.seconds(t.hour): (t.count, t.total) for t in told if t.source == f"{SITE}/meter/power"}
        assert {hour_s: sums.get(hour_s) for hour_s in hours} == {
            hour_s: (len(values), sum(values)) for hour_s, values in hours.items()
        }
        return True

    eventually(summed, PATIENCE_S)


def later(time_s: float) -> bytes:
    """A reading far from all others in time and value, which brings the rest of its stream's last hour with it."""
    return json.dumps({"value": 5000, "time": clock.rfc3339(time_s), "id": ids.event_id(time_s)}).encode()


# --- a tier that is away, and the end --------------------------------------------------------------------------

RETAINED = topics.frame(SITE, "cam1", "retained")


@pytest.fixture(scope="module")
def loose(stage: Stage) -> Iterator[tuple[Stack, dict[str, subprocess.Popen[bytes]]]]:
    """The roles without a supervisor, beside brokers that `tierwise up` keeps; deadlines of one second."""
    stack = stage.fresh(TIERWISE_DEVICE__EDGE_DEADLINE_S="1", TIERWISE_EDGE__CLOUD_DEADLINE_S="1", **EACH_FRAME_COUNTS)
    stack.start("mqtt", "kafka")
    with stack.listen() as listener:
        listener.publish(RETAINED, cats(9)[8], retain=True).wait_for_publish(PATIENCE_S)
    roles = {name: stack.run(name, "--settings", str(stack.file)) for name in ROLE_NAMES}
    for name in roles:
        stack.wait_ready(name)
    yield stack, roles
    for process in roles.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("late", [Tier.EDGE, Tier.CLOUD])
def test_a_tier_that_is_away_is_named_at_the_deadline_and_its_late_answer_supersedes(
    late: Tier, loose: tuple[Stack, dict[str, subprocess.Popen[bytes]]]
) -> None:
    stack, _ = loose
    before = {Tier.EDGE: Tier.DEVICE, Tier.CLOUD: Tier.EDGE}[late]
    with stack.listen() as listener:
        with stack.halted(late.value):
            event = listener.capture(GARDEN, cats(8)[6 + before.depth])
            gave_up = listener.last_word(event, before)
        superseding = listener.wait(
            lambda: next(
                (r for r in listener.answers(event) if r.tier is late and r.revision > gave_up.revision), None
            ),
            f"the {late}'s late answer",
        )
        waiting = next(r for r in listener.answers(event) if r.tier is before)
    assert (waiting.pending, waiting.revision) == (late, gave_up.revision - 1)
    assert gave_up.rule == "deadline"
    assert f"{late} out of reach" in gave_up.reason
    assert len(superseding.path) >= len(gave_up.path) == len(waiting.path)


def test_a_retained_frame_is_refused_when_it_comes_at_a_connect(
    loose: tuple[Stack, dict[str, subprocess.Popen[bytes]]],
) -> None:
    stack, _ = loose
    assert stack.metric("device", "tierwise_refused_total", reason="retained") == 1


def test_every_role_ends_by_itself_in_time_when_its_brokers_are_dead(
    loose: tuple[Stack, dict[str, subprocess.Popen[bytes]]],
) -> None:
    stack, roles = loose
    with stack.listen() as listener:
        event = listener.capture(GARDEN, cats(10)[9])
        listener.last_word(event, Tier.CLOUD)
    stack.kill()
    eventually(lambda: not any(map(stack.pid, ("mqtt", "kafka"))), PATIENCE_S)
    asked_s = time.monotonic()
    for process in roles.values():
        process.send_signal(signal.SIGTERM)
    codes = {name: process.wait(PATIENCE_S) for name, process in roles.items()}
    assert codes == dict.fromkeys(roles, 0)
    assert time.monotonic() - asked_s < 5
