"""Readings on the device: every one is answered, few are reported, and the reports add up hour by hour."""

from __future__ import annotations

import math
from collections import defaultdict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_messages import NOW_S, event_id

from agents.device.readings import MODEL, STATES_MODEL, Meter, ReadingAnswer, Readings
from pipeline import clock, messages
from pipeline.clock import hour_of
from pipeline.messages import Event, Kind, Privacy, Rank, Report, Task, Tier
from pipeline.privacy.policy import Policy
from pipeline.readings import Reading
from pipeline.settings.settings import RuleSettings, Settings, StreamSettings
from pipeline.topics import Parsed

TEMPERATURE = Parsed("home", "room1", "reading", "temperature")
NAMED = Settings(
    streams={
        "home/room1/temperature": StreamSettings(
            task=Task.OCCUPANCY,
            wants=Rank.PATTERN,
            reading=Privacy.EDGE_PRIVATE,
            summary=Privacy.PUBLIC,
            result=Privacy.EDGE_PRIVATE,
            room="office",
            unit="Cel",
            deadband=0.5,
        )
    }
)


class Sensor:
    """One stream's readings, answered one after the other."""

    def __init__(self, configured: Settings = NAMED, origin: Parsed = TEMPERATURE) -> None:
        self._readings = Readings(configured, Policy(configured))
        self._origin = origin
        self._number = 0
        self.meter = Meter()
        self.events: list[Event] = []

    def read(self, value: float, time_s: float, unit: str | None = "Cel", state: str | None = None) -> ReadingAnswer:
        self._number += 1
        answer = self._readings.answer(
            event_id(self._number, time_s),
            self._origin,
            Reading(value, unit, time_s, state=state),
            received_s=time_s,
            now=lambda: time_s + 0.002,
            order=(1, self._number),
            meter=self.meter,
        )
        self.meter = answer.meter
        self.events += answer.events
        return answer


def report(event: Event) -> Report:
    assert isinstance(event.body, Report)
    return event.body


def test_a_reading_is_answered_with_its_state_value_and_room() -> None:
    answer = Sensor().read(21.5, NOW_S).result
    assert (answer.rank, answer.label, answer.path, answer.tier) == (
        Rank.STATE,
        "normal",
        ("normal",),
        Tier.DEVICE,
    )
    assert (answer.revision, answer.pending, answer.sighting, answer.room) == (1, None, None, "office")
    assert (answer.privacy, answer.model, answer.latency_ms) == (Privacy.EDGE_PRIVATE, MODEL, 2.0)


def test_only_the_first_reading_a_change_and_a_heartbeat_are_reported() -> None:
    sensor = Sensor()
    rules = [
        sensor.read(value, NOW_S + after_s).result.rule
        for value, after_s in ((21.0, 0), (21.2, 60), (21.4, 120), (21.6, 180), (21.5, 240), (21.5, 780))
    ]
    assert rules == [
        "first",
        "within-dead-band",
        "within-dead-band",
        "changed",
        "within-dead-band",
        "heartbeat",
    ]
    assert [(report(event).value, report(event).count) for event in sensor.events] == [
        (21.0, 1),
        (21.6, 3),
        (21.5, 2),
    ]


def test_a_report_carries_what_was_read_since_the_last_one() -> None:
    sensor = Sensor()
    for value, after_s in ((21.0, 0), (21.25, 1), (20.75, 2), (22.0, 3)):
        sensor.read(value, NOW_S + after_s)
    assert report(sensor.events[-1]) == Report(value=22.0, unit="Cel", count=3, total=64.0, low=20.75, high=22.0)


steps = st.lists(
    st.tuples(st.integers(-40, 40).map(lambda n: n / 8), st.sampled_from((1.0, 30.0, 600.0, 1800.0, 4000.0))),
    min_size=1,
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(steps)
def test_reports_add_up_hour_by_hour_to_all_readings_but_the_ones_that_still_wait(
    history: list[tuple[float, float]],
) -> None:
    sensor, time_s = Sensor(), NOW_S
    read: dict[float, list[float]] = defaultdict(list)
    for value, later_s in history:
        time_s += later_s
        read[hour_of(time_s)].append(value)
        sensor.read(value, time_s)
    reported: dict[float, list[Report]] = defaultdict(list)
    for event in sensor.events:
        reported[hour_of(clock.seconds(event.result.time))].append(report(event))
    if sensor.meter.unsent is not None:
        reported[hour_of(time_s)].append(sensor.meter.unsent)
    assert reported.keys() == read.keys()
    for hour_s, values in read.items():
        of_hour = reported[hour_s]
        assert sum(each.count for each in of_hour) == len(values)
        assert math.fsum(each.total for each in of_hour) == math.fsum(values)
        assert min(each.low for each in of_hour) == min(values)
        assert max(each.high for each in of_hour) == max(values)


@settings(max_examples=30)
@given(steps)
def test_no_event_is_reported_twice(history: list[tuple[float, float]]) -> None:
    sensor, time_s = Sensor(), NOW_S
    for value, later_s in history:
        time_s += later_s
        sensor.read(value, time_s)
    names = [(event.result.event, event.result.revision) for event in sensor.events]
    assert len(set(names)) == len(names)
    orders = [(event.boot, event.sequence) for event in sensor.events]
    assert orders == sorted(orders)


def test_what_is_unusual_is_told_so() -> None:
    sensor = Sensor()
    for number in range(60):
        sensor.read(21.0 + 0.1 * (number % 3), NOW_S + 60 * number)
    answer = sensor.read(60.0, NOW_S + 3600).result
    assert (answer.label, answer.path) == ("unusual", ("unusual",))
    assert "deviations from the usual" in answer.reason


def test_readings_of_a_stream_that_is_not_named_stay_on_the_device_and_say_how_to_name_it() -> None:
    sensor = Sensor(Settings())
    answer = sensor.read(21.5, NOW_S)
    assert answer.events == ()
    assert (answer.result.rule, answer.result.task) == ("policy-keeps-reading", Task.METER)
    assert '[streams."room1/temperature"]' in answer.result.reason
    assert answer.result.value is None  # the answer may be seen at the site, the reading not
    assert answer.meter.unsent is None


def test_a_private_reading_is_no_part_of_an_answer_that_travels_further() -> None:
    answer = Sensor().read(21.5, NOW_S).result
    assert answer.value == 21.5  # both edge-private
    open_results = Settings(
        streams={"home/room1/temperature": StreamSettings(reading=Privacy.EDGE_PRIVATE, result=Privacy.PUBLIC)}
    )
    assert Sensor(open_results).read(21.5, NOW_S).result.value is None


@pytest.mark.parametrize(
    "levels", [(Privacy.USER_PRIVATE, Privacy.EDGE_PRIVATE), (Privacy.EDGE_PRIVATE, Privacy.PUBLIC)]
)
def test_an_answer_below_its_reading_says_no_more_than_normal_or_unusual(levels: tuple[Privacy, Privacy]) -> None:
    """Two homes with other readings and one verdict: nothing that leaves tells them apart."""
    reading, result = levels
    stream = StreamSettings(
        task=Task.METER, wants=Rank.PATTERN, reading=reading, result=result, summary=Privacy.USER_PRIVATE
    )

    def seen(values: list[float], states: list[str] | None = None) -> tuple[list[bytes], list[str]]:
        sensor = Sensor(Settings(streams={"home/room1/temperature": stream}))
        words = states or [None] * len(values)  # type: ignore[list-item]
        answers = [
            sensor.read(value, NOW_S + 60 * number, None if word else "Cel", word).result
            for number, (value, word) in enumerate(zip(values, words, strict=True))
        ]
        events = [
            messages.encode(msgspec.structs.replace(event, body=None))
            for event in sensor.events
            if reading is Privacy.USER_PRIVATE
        ]
        plain = [msgspec.structs.replace(answer, model="") for answer in answers]
        return [messages.encode(answer) for answer in plain] + events, [answer.label for answer in answers]

    usual = [20.0 + number % 3 for number in range(40)]
    quiet, quiet_labels = seen([*usual, 60.0, 21.0])
    loud, loud_labels = seen([*(300 + 7 * value for value in usual), 1500.0, 447.0])
    assert quiet_labels == loud_labels and set(quiet_labels) == {"normal", "unusual"}
    assert quiet == loud
    opened, labels = seen([0.0, 1.0] * 3, ["closed", "open"] * 3)
    shut, _ = seen([0.0] * 6, ["closed"] * 6)
    assert set(labels) == {"normal"} and opened == shut


# --- states ------------------------------------------------------------------------------------------------------


def test_a_state_is_the_answer_under_its_verdict_and_only_changes_are_reported() -> None:
    sensor = Sensor()
    answers = [
        sensor.read(float(state == "open"), NOW_S + after_s, None, state).result
        for state, after_s in (("closed", 0), ("closed", 60), ("open", 120), ("open", 180), ("open", 780))
    ]
    assert [(each.label, each.path, each.value, each.unit) for each in answers[1:3]] == [
        ("closed", ("normal", "closed"), 0.0, None),
        ("open", ("normal", "open"), 1.0, None),
    ]
    assert [each.rule for each in answers] == ["first", "within-dead-band", "changed", "within-dead-band", "heartbeat"]
    assert answers[1].reason == "still closed: not reported"
    assert {each.model for each in answers} == {STATES_MODEL}
    assert [report(event).value for event in sensor.events] == [0.0, 1.0, 1.0]


def test_a_rule_may_name_a_state() -> None:
    rule = RuleSettings(name="home", label="open", raise_={Kind.RESULT: Privacy.USER_PRIVATE}, reason="we are in")
    sensor = Sensor(msgspec.structs.replace(NAMED, rules=(rule,)))
    assert sensor.read(0.0, NOW_S, None, "closed").result.privacy is Privacy.EDGE_PRIVATE
    assert sensor.read(1.0, NOW_S + 9, None, "open").result.privacy is Privacy.USER_PRIVATE


def test_a_meter_without_a_unit_counts_in_one() -> None:
    assert Sensor(Settings(streams={"home/room1/temperature": StreamSettings(reading=Privacy.EDGE_PRIVATE)})).read(
        3.0, NOW_S, None
    ).events[0].body == Report(value=3.0, unit="1", count=1, total=3.0, low=3.0, high=3.0)


def test_a_report_never_mixes_levels_the_private_hour_stays_private() -> None:
    rule = RuleSettings(
        name="dinner",
        hours="19:00-20:00",
        raise_={Kind.SUMMARY: Privacy.USER_PRIVATE},
        reason="we are at table",
    )
    sensor = Sensor(msgspec.structs.replace(NAMED, rules=(rule,)))
    seven_s = clock.seconds("2026-05-01T19:00:00Z")
    for second, value in ((0.0, 20.0), (60.0, 20.1), (120.0, 20.2), (3610.0, 20.3)):
        sensor.read(value, seven_s + second)
    published = [
        (event.body.count, event.levels.summary, clock.seconds(event.result.time) < seven_s + 3600)
        for event in sensor.events
        if isinstance(event.body, Report)
    ]
    assert published[0] == (1, Privacy.USER_PRIVATE, True)
    assert published[1] == (2, Privacy.USER_PRIVATE, True)
    assert all(level is Privacy.PUBLIC for _, level, private_hour in published if not private_hour)
