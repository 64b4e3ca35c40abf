"""What sensors send: numbers, objects, SenML; and what is refused of it, by which reason."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import Rejected
from pipeline.messages import READING_MAX_BYTES
from pipeline.readings import TIME_IMPLAUSIBLE, VALUE_MAX, Reading, check, check_unit, parse, records
from pipeline.units import UNITS, canonical

NOW_S = 1_780_000_000.0
AN_ID = "01937f3e-7b1c-7c3a-8f00-0123456789ab"


def read(payload: bytes | str) -> list[Reading]:
    return parse(payload.encode() if isinstance(payload, str) else payload, received_s=NOW_S)


def reason(payload: bytes | str) -> str:
    with pytest.raises(Rejected) as refused:
        for reading in read(payload):
            check(reading, None)
    return refused.value.reason


# --- numbers and objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "value"),
    [("21.5", 21.5), (" 21.5\n", 21.5), ("-3", -3.0), ("+.5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0", 0.0)],
)
def test_a_number_as_text_is_a_reading_at_its_receipt(payload: str, value: float) -> None:
    assert read(payload) == [Reading(value, None, NOW_S)]


def test_an_object_tells_value_unit_time_and_id() -> None:
    [reading] = read(f'{{"value": 21.5, "unit": "C", "time": "2026-05-28T20:26:00Z", "id": "{AN_ID}", "battery": 80}}')
    assert reading == Reading(21.5, "C", 1779999960.0, AN_ID)


def test_a_time_may_be_seconds_since_the_epoch() -> None:
    assert read(f'{{"value": 1, "time": {NOW_S - 60}}}')[0].time_s == NOW_S - 60


@pytest.mark.parametrize(
    ("time_s", "plausible"),
    [
        (0, True),
        (299, True),
        (301, False),
        (-29 * 86400, True),
        (-31 * 86400, False),
        (NOW_S * 999, False),
        (-NOW_S, False),
    ],
)
def test_an_implausible_time_keeps_the_event_with_the_time_of_receipt_and_a_flag(
    time_s: float, plausible: bool
) -> None:
    [reading] = read(json.dumps({"value": 1, "time": NOW_S + time_s}))
    assert reading.time_s == (NOW_S + time_s if plausible else NOW_S)
    assert reading.flags == (() if plausible else (TIME_IMPLAUSIBLE,))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "reading-empty"),
        (b" \n", "reading-empty"),
        (b"1" * (READING_MAX_BYTES + 1), "reading-too-large"),
        (b"\xff\xd8\xff", "not-text"),
        ("warm", "not-a-number"),
        ("21,5", "not-a-number"),
        ("1_000", "not-a-number"),
        ("٣", "not-a-number"),
        ("null", "not-a-number"),
        ('"21.5"', "not-a-number"),
        ("NaN", "not-finite"),
        ("-inf", "not-finite"),
        ("Infinity", "not-finite"),
        ("1e400", "not-finite"),
        ("1e16", "out-of-range"),
        ('{"value": NaN}', "not-finite"),
        ('{"value": 1e400}', "not-finite"),
        ('{"value": -1e99}', "out-of-range"),
        ('{"value": 1' + "0" * 400 + "}", "not-finite"),
        ('{"value": "21.5"}', "not-a-number"),
        ('{"value": null}', "not-a-number"),
        ('{"value": [1]}', "not-a-number"),
        ('{"temperature": 21.5}', "value-missing"),
        ('{"n": "t", "v": 21.5}', "value-missing"),
        ('{"value": 1, "unit": 3}', "unit-invalid"),
        ('{"value": 1, "unit": ""}', "unit-invalid"),
        ('{"value": 1, "unit": "' + "m" * 33 + '"}', "unit-invalid"),
        ('{"value": 1, "unit": "\\ud800"}', "unit-invalid"),
        ('{"value": 1, "time": "yesterday"}', "time-invalid"),
        ('{"value": 1, "time": [1]}', "time-invalid"),
        ('{"value": 1, "time": NaN}', "not-finite"),
        ('{"value": 1, "id": "mine"}', "id-invalid"),
        ('{"value": 1, "id": 7}', "id-invalid"),
        ("{", "not-json"),
        ('{"value": 1} {"value": 2}', "not-json"),
        ("[" * 30_000, "nested-too-deep"),
        ('{"value":' * 7_000, "nested-too-deep"),
        ("[" * 101, "nested-too-deep"),
        ("[" * 100, "not-json"),
        ('{"' + "[" * 101 + '": 1}', "value-missing"),
        ('["\\"' + "[" * 101, "not-json"),
        ("[]", "senml-empty"),
        ("[1, 2]", "senml-invalid"),
        ('[{"n": "t"}]', "senml-empty"),
        ('[{"n": "t", "s": 5}]', "senml-sum"),
        ('[{"n": "t", "vs": "warm"}]', "not-a-number"),
        ('[{"n": "t", "vs": 5}]', "senml-invalid"),
        ('[{"bver": true, "v": 1}]', "senml-version"),
        ('[{"bver": 10.5, "v": 1}]', "senml-version"),
        ('"' + "o" * 65 + '"', "not-a-number"),
        ('"on', "not-json"),
        ("unavailable", "not-a-number"),
        ('[{"n": "t", "vd": "AA"}]', "senml-data-value"),
        ('[{"n": "t", "v": "21.5"}]', "not-a-number"),
        ('[{"n": "t", "vb": 1}]', "senml-invalid"),
        ('[{"n": "t t", "v": 1}]', "senml-invalid"),
        ('[{"n": 5, "v": 1}]', "senml-invalid"),
        ('[{"bn": "-x", "v": 1}]', "senml-invalid"),
        ('[{"bver": 11, "v": 1}]', "senml-version"),
        ('[{"bver": "5", "v": 1}]', "senml-version"),
        ('[{"v": 1, "weight_": 2}]', "senml-unknown-field"),
        ('[{"v": 1, "t": "now"}]', "not-a-number"),
        ('[{"v": 9e14, "bv": 9e14}]', "out-of-range"),
    ],
)
def test_bad_input_is_refused_with_its_reason(payload: bytes | str, expected: str) -> None:
    assert reason(payload) == expected


def test_a_refusal_repeats_nothing_of_the_payload() -> None:
    for payload in (
        "CANARY",
        '{"CANARY": 1}',
        '[{"CANARY_": 1, "v": 1}]',
        '{"value": "CANARY"}',
        "{CANARY",
        '[{"bver": "CANARY"}]',
    ):
        with pytest.raises(Rejected) as refused:
            check(read(payload)[0], None)
        assert "CANARY" not in str(refused.value)
    with pytest.raises(Rejected) as refused:
        check_unit(Reading(1.0, "CANARY", NOW_S), "Cel")
    assert "CANARY" not in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "value",
        "unit",
        "time",
        "id",
        "n",
        "u",
        "v",
        "vb",
        "vs",
        "t",
        "s",
        "ut",
        "bn",
        "bt",
        "bu",
        "bv",
        "bver",
        "x_",
    ]
)
objects = st.dictionaries(fields, json_values, max_size=6)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_the_bytes_parse_answers_or_rejects(payload: bytes) -> None:
    answers_or_rejects(payload)


@pytest.mark.slow
@given(objects | st.lists(objects, max_size=4))
@example({"value": 1, "time": "0001-01-01T00:00:00+23:59"})
@example([{"bt": 1.7e308, "t": 1.7e308, "v": 1}])
def test_whatever_the_fields_parse_answers_or_rejects(content: object) -> None:
    answers_or_rejects(json.dumps(content).encode())


def answers_or_rejects(payload: bytes) -> None:
    try:
        readings = parse(payload, received_s=NOW_S)
    except Rejected as refused:
        str(refused).encode()
        assert refused.reason == refused.reason.lower().replace("_", "-")
        return
    assert readings
    for reading in readings:
        assert math.isfinite(reading.value)
        assert abs(reading.value) <= VALUE_MAX
        assert abs(reading.time_s - NOW_S) <= 30 * 86400


# --- SenML -----------------------------------------------------------------------------------------------------


def test_base_fields_hold_for_their_record_and_all_that_follow() -> None:
    pack = [
        {"bn": "room1/", "bt": NOW_S, "bu": "Cel", "n": "t", "v": 21.5},
        {"n": "h", "u": "%RH", "v": 40, "t": -5},
        {"bn": "room2/", "bv": 20, "n": "t", "v": 1.5},
    ]
    assert read(json.dumps(pack)) == [
        Reading(21.5, "Cel", NOW_S, None, "room1/t"),
        Reading(40.0, "%RH", NOW_S - 5, None, "room1/h"),
        Reading(21.5, "Cel", NOW_S, None, "room2/t"),
    ]


def test_a_record_of_base_fields_alone_measures_nothing() -> None:
    assert read('[{"bn": "a", "bu": "W"}, {"v": 5}]') == [Reading(5.0, "W", NOW_S, None, "a")]


def test_small_times_are_relative_to_now_and_large_ones_are_not() -> None:
    readings = read(json.dumps([{"v": 1, "t": -10}, {"v": 1, "t": NOW_S - 10}, {"v": 1}]))
    assert [reading.time_s for reading in readings] == [NOW_S - 10, NOW_S - 10, NOW_S]


def test_a_version_may_be_written_as_a_float() -> None:
    assert read('[{"bver": 10.0, "v": 1}]')[0].value == 1.0


def test_one_record_is_read_though_another_cannot_be() -> None:
    pack = [
        {"bn": "room1/", "bt": NOW_S, "n": "t", "v": 21},
        {"bu": "%RH", "n": "note", "vd": "AA"},
        5,
        {"n": "h", "v": 4},
    ]
    found = records(json.dumps(pack).encode(), received_s=NOW_S)
    assert [isinstance(each.found, Rejected) for each in found] == [False, True, True, False]
    assert found[3].found == Reading(4.0, "%RH", NOW_S, None, "room1/h"), "base fields of a refused record hold"
    assert [each.name for each in found] == ["room1/t", "room1/note", None, "room1/h"]


# --- states ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "named", "state", "value"),
    [
        ("ON", (), "on", 1.0),
        ("off", (), "off", 0.0),
        ("true", (), "on", 1.0),
        ('"OPEN"', (), "open", 1.0),
        ('{"value": false}', (), "off", 0.0),
        ('{"value": "Motion"}', (), "motion", 1.0),
        ('[{"n": "a", "vb": true}]', (), "on", 1.0),
        ('[{"n": "a", "vs": "wet"}]', (), "wet", 1.0),
        ("true", ("closed", "open"), "open", 1.0),
        ("0", ("closed", "open"), "closed", 0.0),
        ("opened", ("open", "closed"), "open", 0.0),
        ("BOOST", ("off", "eco", "boost"), "boost", 2.0),
        ("2", ("off", "eco", "boost"), "boost", 2.0),
        ("No-Motion", (), "no_motion", 0.0),
    ],
)
def test_a_word_is_a_state_in_any_usual_spelling(
    payload: str, named: tuple[str, ...], state: str, value: float
) -> None:
    reading = check(read(payload)[0], None, named)
    assert (reading.state, reading.value, reading.unit) == (state, value, None)


@pytest.mark.parametrize("payload", ["ajar", "2", "0.5", "-1", "on", "٣", '{"value": 7}'])
def test_a_stream_with_states_takes_no_other(payload: str) -> None:
    named = ("closed", "open", "tilted") if payload == "on" else ("closed", "open")
    with pytest.raises(Rejected, match="closed, open") as refused:
        check(read(payload)[0], None, named)
    assert refused.value.reason == "unknown-state"


@pytest.mark.parametrize("payload", ["ON", "true", '"21.5"'])
def test_a_stream_with_a_unit_takes_no_state(payload: str) -> None:
    with pytest.raises(Rejected) as refused:
        check(read(payload)[0], "Cel")
    assert refused.value.reason == "not-a-number"


# --- units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "expected", "converted"),
    [
        (21.5, "°C", "Cel", 21.5),
        (68.0, "F", "Cel", 20.0),
        (293.15, "K", "Cel", 20.0),
        (40.0, "%", "%RH", 40.0),
        (300.0, "lux", "lx", 300.0),
        (1.2, "kW", "W", 1200.0),
        (1200.0, "W", "kW", 1.2),
        (0.5, "kWh", "Wh", 500.0),
        (3600.0, "J", "Wh", 1.0),
        (20.0, "Cel", "F", 68.0),
        (7.0, "dB", "dB", 7.0),
        (2950.0, "mV", "V", 2.95),
        (68.0, "degF", "celsius", 20.0),
        (29.92, "inHg", "mbar", 1013.2),
    ],
)
def test_a_related_unit_is_converted(value: float, unit: str, expected: str, converted: float) -> None:
    reading = check_unit(Reading(value, unit, NOW_S), expected)
    assert reading.value == pytest.approx(converted, rel=1e-4)
    assert reading.unit == canonical(expected)


def test_a_reading_without_a_unit_has_its_streams() -> None:
    assert check_unit(Reading(1.0, None, NOW_S), "lx").unit == "lx"


def test_a_stream_without_a_unit_takes_the_base_unit_of_what_is_sent() -> None:
    assert check_unit(Reading(1.2, "kW", NOW_S), None) == Reading(1200.0, "W", NOW_S)
    assert check_unit(Reading(1.2, "dB", NOW_S), None) == Reading(1.2, "dB", NOW_S)
    assert check_unit(Reading(1.2, None, NOW_S), None).unit is None


@pytest.mark.parametrize(("unit", "expected"), [("W", "Wh"), ("Cel", "%RH"), ("dB", "lx"), ("furlong", "Cel")])
def test_another_measure_is_refused(unit: str, expected: str) -> None:
    with pytest.raises(Rejected, match="the settings give this stream") as refused:
        check_unit(Reading(1.0, unit, NOW_S), expected)
    assert refused.value.reason == "wrong-unit"


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6))
def test_converting_there_and_back_changes_nothing(first: str, second: str, value: float) -> None:
    if UNITS[first].base != UNITS[second].base:
        return
    there = check_unit(Reading(value, first, NOW_S), second)
    assert check_unit(there, first).value == pytest.approx(value, rel=1e-6, abs=1e-5)
