"""Rooms and hours at the edge: windows answered by the real model, hours told to the cloud, over a real store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_messages import NOW_S, event, result

from agents.edge.room_windows import GRACE_S, HOUR_GRACE_S
from agents.edge.store import DAY_S, UPLINK
from pipeline import clock, ids, messages
from pipeline.clock import HOUR_S, hour_of
from pipeline.messages import Event, Kind, Levels, Privacy, Rank, Report, Result, Summary, Task, Tier
from pipeline.privacy.seal import unseal
from pipeline.settings.settings import RuleSettings, Settings, StreamSettings, UplinkSettings

ROOM = {"temperature": "Cel", "humidity": "%RH", "light": "lx", "co2": "ppm"}
START_S = hour_of(NOW_S) + HOUR_S
STEP_S = 3 * DAY_S
LEVELS = Levels(result=Privacy.EDGE_PRIVATE, reading=Privacy.EDGE_PRIVATE, summary=Privacy.PUBLIC)


def stream(unit: str, **changes: object) -> StreamSettings:
    fields: dict[str, object] = {
        "task": Task.OCCUPANCY,
        "wants": Rank.PATTERN,
        "room": "office",
        "unit": unit,
        "reading": Privacy.EDGE_PRIVATE,
        "summary": Privacy.PUBLIC,
    }
    return StreamSettings(**(fields | changes))  # type: ignore[arg-type]


def told(folder: Path, **changes: object) -> Settings:
    streams = {f"home/room1/{name}": stream(unit) for name, unit in ROOM.items()}
    return msgspec.structs.replace(Settings(data=str(folder), streams=streams), **changes)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path, told(tmp_path)) as opened:
        yield opened


def report(name: str, time_s: float, value: float, *, count: int = 1, room: str | None = "office") -> Event:
    unit = ROOM[name]
    state = result(
        ids.derived(time_s, name),
        time=clock.rfc3339(time_s),
        device="room1",
        stream=name,
        sighting=None,
        task=Task.OCCUPANCY,
        pending=None,
        rank=Rank.STATE,
        label="normal",
        path=("normal",),
        privacy=Privacy.EDGE_PRIVATE,
        value=value,
        unit=unit,
        room=room,
    )
    body = Report(value=value, unit=unit, count=count, total=count * value, low=value, high=value)
    return event(state, body=body, levels=LEVELS, room=room, wants=Rank.PATTERN)


def minute(time_s: float, *, busy: bool) -> list[Event]:
    values = (23.0, 27.0, 480.0, 950.0) if busy else (20.5, 24.0, 2.0, 430.0)
    return [report(name, time_s, value) for name, value in zip(ROOM, values, strict=True)]


def windows(edge: SampleEdge) -> list[Result]:
    return edge.rooms.answer_windows()


def summaries(edge: SampleEdge) -> list[Summary]:
    edge.rooms.send_hours()
    return [messages.decode(Summary, each.payload) for each in edge.take_up() if each.kind is Kind.SUMMARY]


# --- windows ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_room_is_occupied_or_vacant_as_its_streams_say(edge: SampleEdge) -> None:
    for at in range(121):
        edge.deliver(*minute(START_S + 60.0 * at, busy=at < 60))
    found = {answer.time: answer for answer in windows(edge)}
    assert len(found) == 24  # two hours of five minutes
    first = found[clock.rfc3339(START_S + HOUR_S)]
    assert (first.label, first.room, first.stream, first.tier, first.rank) == (
        "occupied",
        "office",
        "office",
        Tier.EDGE,
        Rank.ACTIVITY,
    )
    assert (first.privacy, first.pending, first.rule) == (Privacy.EDGE_PRIVATE, None, "window-answered")
    assert found[clock.rfc3339(START_S + 2 * HOUR_S)].label == "vacant"
    assert len({answer.event for answer in found.values()}) == len(found)
    published = [each for each in edge.take_results() if each.rank is Rank.ACTIVITY]
    assert len(published) == len(found)


def test_a_silent_stream_is_waited_for_and_then_answered_without(edge: SampleEdge) -> None:
    edge.deliver(*minute(START_S, busy=True))
    edge.deliver(report("light", START_S + 301, 490.0))
    assert windows(edge) == []
    edge.clock.turn(GRACE_S)
    assert [answer.time for answer in windows(edge)] == [clock.rfc3339(START_S + 300)]


def test_a_week_of_history_waits_for_a_silent_stream_once_and_not_a_window_at_a_time(
    edge: SampleEdge,
) -> None:
    edge.clock.turn(START_S + 6000 - NOW_S)
    for at in range(0, 6000, 600):
        edge.deliver(report("light", START_S + at, 400.0), report("co2", START_S + at, 800.0 + at / 100))
    assert windows(edge) == []
    edge.clock.turn(GRACE_S)
    assert len(windows(edge)) == 9


def test_windows_go_on_after_a_restart_where_they_were(tmp_path: Path) -> None:
    with sample_edge(tmp_path, told(tmp_path)) as before:
        for at in (0, 301, 602):
            before.deliver(*minute(START_S + at, busy=True))
        first = [answer.time for answer in windows(before)]
        before.deliver(*minute(START_S + 903, busy=True))
    with sample_edge(tmp_path, told(tmp_path)) as after:
        second = [answer.time for answer in windows(after)]
    assert first == [clock.rfc3339(START_S + at) for at in (300, 600)]
    assert second == [clock.rfc3339(START_S + 900)]


def test_warmth_alone_does_not_tell_and_the_answer_says_what_would(edge: SampleEdge) -> None:
    edge.deliver(report("temperature", START_S, 22.0), report("temperature", START_S + 301, 22.5))
    edge.clock.turn(GRACE_S)
    (answer,) = windows(edge)
    assert (answer.label, answer.path, answer.rule) == ("unknown", (), "window-too-thin")
    assert "occupancy needs lx" in answer.reason


def test_a_room_that_only_its_devices_know_of_is_answered_by_what_reported(tmp_path: Path) -> None:
    """The settings of an edge on another machine may name no stream of it."""
    with sample_edge(tmp_path, Settings(data=str(tmp_path))) as edge:
        edge.deliver(*minute(START_S, busy=True))
        edge.deliver(*minute(START_S + 301, busy=True))
        (answer,) = windows(edge)
    assert (answer.label, answer.device, answer.privacy) == ("occupied", "room1", Privacy.EDGE_PRIVATE)


def test_a_room_of_patterns_is_answered_by_the_streams_that_reported(tmp_path: Path) -> None:
    by_pattern = msgspec.structs.replace(
        told(tmp_path), streams={f"home/*/{name}": stream(unit) for name, unit in ROOM.items()}
    )
    with sample_edge(tmp_path, by_pattern) as edge:
        edge.deliver(*minute(START_S, busy=True))
        edge.deliver(*minute(START_S + 301, busy=True))
        (answer,) = windows(edge)
    assert (answer.label, answer.device) == ("occupied", "room1")


def test_a_sensor_outside_of_rooms_is_no_window(edge: SampleEdge) -> None:
    edge.deliver(report("light", START_S, 5.0, room=None), report("light", START_S + 9999, 5.0, room=None))
    edge.clock.turn(1000)
    assert windows(edge) == []


def test_a_window_is_as_private_as_any_report_that_it_was_made_of(tmp_path: Path) -> None:
    """Its devices may have had their reasons, of which this edge's settings say nothing."""
    open_ = {f"home/room1/{name}": stream(unit, result=Privacy.PUBLIC) for name, unit in ROOM.items()}
    public = msgspec.structs.replace(LEVELS, result=Privacy.PUBLIC)

    def at(time_s: float, *, private: bool) -> list[Event]:
        reports = minute(time_s, busy=True)
        levels = [LEVELS if private and n == 0 else public for n in range(len(reports))]
        return [msgspec.structs.replace(r, levels=lv) for r, lv in zip(reports, levels, strict=True)]

    with sample_edge(tmp_path, told(tmp_path, streams=open_)) as edge:
        edge.deliver(*at(START_S, private=False), *at(START_S + 301, private=True))
        edge.deliver(*at(START_S + 602, private=False))
        found = {answer.time: answer.privacy for answer in windows(edge)}
    assert found == {
        clock.rfc3339(START_S + 300): Privacy.PUBLIC,
        clock.rfc3339(START_S + 600): Privacy.EDGE_PRIVATE,
    }


def test_a_window_that_begins_in_a_private_hour_is_private(tmp_path: Path) -> None:
    streams = {f"home/room1/{name}": stream(unit, result=Privacy.PUBLIC) for name, unit in ROOM.items()}
    at = dt.datetime.fromtimestamp(START_S, dt.UTC)
    night = RuleSettings(
        name="until-full-hour",
        hours=f"{at.hour - 1:02}:00-{at.hour:02}:00",
        raise_={Kind.RESULT: Privacy.EDGE_PRIVATE},
        reason="ours",
    )
    public = msgspec.structs.replace(LEVELS, result=Privacy.PUBLIC)
    with sample_edge(tmp_path, told(tmp_path, streams=streams, rules=(night,), timezone="UTC")) as edge:
        for time_s in (START_S - 300, START_S, START_S + 301):
            edge.deliver(*(msgspec.structs.replace(r, levels=public) for r in minute(time_s, busy=True)))
        found = {answer.time: answer.privacy for answer in windows(edge)}
    assert found == {
        clock.rfc3339(START_S): Privacy.EDGE_PRIVATE,
        clock.rfc3339(START_S + 300): Privacy.PUBLIC,
    }


# --- hours -----------------------------------------------------------------------------------------------------


def test_an_hour_is_told_when_its_stream_went_on_with_all_readings_in_it(edge: SampleEdge) -> None:
    edge.deliver(report("light", START_S, 4.0, count=3), report("light", START_S + 1800, 10.0))
    assert summaries(edge) == []
    edge.deliver(report("light", START_S + HOUR_S, 7.0))
    assert summaries(edge) == [
        Summary(
            hour=clock.rfc3339(START_S),
            task=Task.OCCUPANCY,
            unit="lx",
            count=4,
            total=22.0,
            low=4.0,
            high=10.0,
            revision=1,
            room="office",
        )
    ]
    assert summaries(edge) == []


def test_an_hour_that_nothing_came_after_is_told_by_the_clock(edge: SampleEdge) -> None:
    edge.deliver(report("light", START_S, 4.0))
    edge.clock.turn(HOUR_S)
    assert summaries(edge) == []
    edge.clock.turn(HOUR_GRACE_S)
    assert [summary.count for summary in summaries(edge)] == [1]


def test_a_late_report_tells_the_hour_again_with_a_higher_revision(edge: SampleEdge) -> None:
    edge.deliver(report("light", START_S, 4.0), report("light", START_S + HOUR_S, 7.0))
    assert [(each.revision, each.count) for each in summaries(edge)] == [(1, 1)]
    edge.deliver(report("light", START_S + 60, 6.0, count=2))
    (again,) = summaries(edge)
    assert (again.revision, again.count, again.total) == (2, 3, 16.0)


def test_a_repeated_report_counts_once(edge: SampleEdge) -> None:
    for _ in range(3):
        edge.deliver(report("light", START_S, 4.0))
    edge.deliver(report("light", START_S + HOUR_S, 7.0))
    assert [each.count for each in summaries(edge)] == [1]


def test_an_hours_envelope_is_the_same_event_whatever_its_revision(edge: SampleEdge) -> None:
    edge.deliver(report("light", START_S, 4.0), report("light", START_S + HOUR_S, 7.0))
    edge.rooms.send_hours()
    (first,) = edge.take_up()
    edge.deliver(report("light", START_S + 60, 6.0))
    edge.rooms.send_hours()
    (second,) = edge.take_up()
    assert first.event == second.event
    assert (first.revision, second.revision) == (1, 2)
    assert (first.key, first.source) == ("home/room1", "home/room1/light")


@pytest.mark.parametrize("sealed", [(), (Privacy.EDGE_PRIVATE,)])
def test_a_private_hour_stays_or_leaves_sealed_as_the_settings_ask(tmp_path: Path, sealed: tuple[Privacy, ...]) -> None:
    private = msgspec.structs.replace(LEVELS, summary=Privacy.EDGE_PRIVATE)
    with sample_edge(tmp_path, told(tmp_path, uplink=UplinkSettings(sealed=sealed))) as edge:
        for at in (0.0, HOUR_S):
            edge.deliver(msgspec.structs.replace(report("light", START_S + at, 4.0), levels=private))
        edge.rooms.send_hours()
        envelopes = edge.take_up()
        assert len(envelopes) == len(sealed)
        for envelope in envelopes:
            assert envelope.sealed_by
            assert messages.decode(Summary, unseal(envelope, edge.keyring)).count == 1
        assert edge.spool.backlog(UPLINK) == 0


# --- wrong clocks ----------------------------------------------------------------------------------------------


def test_a_report_from_the_future_does_not_silence_its_room(edge: SampleEdge) -> None:
    edge.deliver(*minute(START_S, busy=True))
    edge.forge(report("light", START_S + STEP_S, 490.0))
    edge.deliver(*minute(START_S + 301, busy=True), *minute(START_S + 602, busy=True))
    assert [answer.time for answer in windows(edge)] == [clock.rfc3339(START_S + at) for at in (300, 600)]
    edge.deliver(report("light", START_S + HOUR_S, 7.0))
    (hour,) = [each for each in summaries(edge) if each.unit == "lx"]
    assert (hour.hour, hour.count) == (clock.rfc3339(START_S), 4), "the forged report counts at its receipt"


@pytest.mark.parametrize("restart", [False, True])
def test_rooms_go_on_after_the_clock_was_set_back(tmp_path: Path, restart: bool) -> None:
    with sample_edge(tmp_path, told(tmp_path)) as edge:
        edge.deliver(*minute(START_S + STEP_S, busy=True), *minute(START_S + STEP_S + 301, busy=True))
        assert len(windows(edge)) == 1
        edge.clock.set_wall(-STEP_S)
        if not restart:
            assert_windows_go_on(edge)
    if restart:
        with sample_edge(tmp_path, told(tmp_path)) as edge:
            edge.clock.turn(START_S + 301 - edge.clock.now())
            assert_windows_go_on(edge)


def assert_windows_go_on(edge: SampleEdge) -> None:
    for at in (600, 901, 1202):
        edge.deliver(*minute(START_S + at, busy=False))
    assert [answer.time for answer in windows(edge)] == [clock.rfc3339(START_S + at) for at in (900, 1200)]


def test_a_published_hour_of_stored_readings_is_kept_by_its_arrival(edge: SampleEdge) -> None:
    long_ago_s = START_S - 25 * DAY_S
    edge.deliver(report("light", long_ago_s, 4.0), report("light", START_S, 7.0))
    assert [each.revision for each in summaries(edge)] == [1]
    edge.store.forget(edge.clock.now() - 7 * DAY_S)
    edge.deliver(report("light", long_ago_s + 60, 6.0))
    assert [(each.revision, each.count) for each in summaries(edge)] == [(2, 2)]
    edge.store.forget(edge.clock.now() + 1)
    edge.deliver(report("light", long_ago_s + 120, 6.0))
    assert [(each.revision, each.count) for each in summaries(edge)] == [(1, 1)]
