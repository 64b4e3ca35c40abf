"""What is known of each camera: away since, last frame, drops, refusals."""

from __future__ import annotations

import pytest
from sample_messages import settings

from agents.device.camera_states import REPEATED_EVERY_S, CameraStates
from agents.role.telemetry import Metrics
from pipeline.clock import HandClock, rfc3339
from pipeline.messages import CameraState
from pipeline.settings.settings import DeviceSettings, StreamSettings

OWN, OTHER = "home/cam1/garden", "home/cam2/gate"
START_S = 1_700_000_000.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock(START_S)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def states(clock: HandClock, metrics: Metrics) -> CameraStates:
    streams = {OWN: StreamSettings(source="0"), OTHER: StreamSettings(off_delay_s=60)}
    return CameraStates(settings(streams=streams), metrics, clock)


def test_an_own_camera_is_away_from_its_failure_to_its_next_frame(
    states: CameraStates, clock: HandClock, metrics: Metrics
) -> None:
    states.seen(OWN)
    clock.turn(10)
    states.away(OWN, "the camera does not answer")
    clock.turn(5)
    states.away(OWN, "the camera does not answer")
    assert states.current()[OWN] == CameraState(
        state="away",
        since=rfc3339(START_S + 10),
        last_frame=rfc3339(START_S),
        reason="the camera does not answer",
    )
    assert metrics.value("tierwise_camera_away", stream=OWN) == 1
    states.seen(OWN)
    assert states.current()[OWN].state == "online"
    assert states.current()[OWN].since == rfc3339(START_S + 15)
    assert metrics.value("tierwise_camera_away", stream=OWN) == 0


def test_a_camera_that_publishes_is_away_after_its_off_delay(states: CameraStates, clock: HandClock) -> None:
    clock.turn(50)
    states.seen(OTHER)
    clock.turn(60)
    assert states.current()[OTHER].state == "online"
    clock.turn(1)
    assert states.current()[OTHER].state == "away"
    assert states.current()[OTHER].reason == "no frame for 60 s"
    states.seen(OTHER)
    assert states.current()[OTHER].state == "online"


def test_an_own_camera_that_sees_nothing_move_is_not_away(states: CameraStates, clock: HandClock) -> None:
    assert states.current()[OWN].reason == "it was not opened yet"
    states.opened(OWN)
    clock.turn(86400)
    assert states.current()[OWN].state == "online"


def test_drops_and_refusals_are_counted_by_stream(states: CameraStates, metrics: Metrics) -> None:
    states.seen(OWN)
    metrics.dropped(OWN)
    metrics.dropped(OWN)
    metrics.frame_refused(OWN)
    assert (states.current()[OWN].dropped, states.current()[OWN].refused) == (2, 1)
    assert "last frame 0 s ago, 2 dropped, 1 refused" in states.text()


def test_health_shows_own_cameras_and_those_that_were_heard_of(states: CameraStates) -> None:
    assert OWN in states.text()
    assert OTHER not in states.text()
    states.seen(OTHER)
    states.seen("home/cam9/unnamed")
    assert [line.partition(": ")[0] for line in states.text().split("; ")] == [OWN, OTHER, "home/cam9/unnamed"]
    assert "blurred" in states.text(lambda source: "blurred" if source == OWN else "")


def test_the_status_is_published_at_changes_and_now_and_then(states: CameraStates, clock: HandClock) -> None:
    states.seen(OWN)
    assert states.changed()
    states.seen(OWN)
    assert not states.changed()
    states.away(OWN, "gone")
    assert states.changed()
    assert not states.changed()
    clock.turn(REPEATED_EVERY_S)
    assert states.changed()


def test_cameras_of_another_agent_are_none_of_this_one(metrics: Metrics, clock: HandClock) -> None:
    streams = {OWN: StreamSettings(source="0"), OTHER: StreamSettings()}
    configured = settings(streams=streams, device=DeviceSettings(names=("cam2",)))
    assert list(CameraStates(configured, metrics, clock).current()) == [OTHER]
