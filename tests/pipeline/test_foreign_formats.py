"""What the messages of known kinds of sensors hold. The payloads are as those projects publish them."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import units
from pipeline.errors import Rejected
from pipeline.foreign import formats
from pipeline.settings import keys

ZIGBEE = {
    "battery": "100.00",
    "humidity": 44.72,
    "linkquality": 97,
    "temperature": 27.34,
    "voltage": 2985,
    "last_seen": "2026-11-30T20:00:00+01:00",
    "update": {"installed_version": 1, "state": "idle"},
}
TASMOTA = {
    "Time": "2026-11-30T20:00:00",
    "DS18B20-1": {"Id": "01131B123456", "Temperature": 19.2},
    "DS18B20-2": {"Id": "01131B654321", "Temperature": 66.0},
    "ENERGY": {"TotalStartTime": "2026-01-01T00:00:00", "Total": 1.185, "Power": [2, 3], "Voltage": 230},
    "TempUnit": "C",
}
SHELLY = {
    "src": "shellyplusht-b8d61a8b17cc",
    "dst": "shellyplusht-b8d61a8b17cc/events",
    "method": "NotifyFullStatus",
    "params": {
        "ts": 1680962879.62,
        "devicepower:0": {"id": 0, "battery": {"V": 5.43, "percent": 88}, "external": {"present": True}},
        "humidity:0": {"id": 0, "rh": 42.2},
        "temperature:0": {"id": 0, "tC": 19.8, "tF": 67.6},
        "sys": {"uptime": 3, "ram_free": 118784},
    },
}
CHIRPSTACK_4 = {
    "deduplicationId": "3ac7e3c4",
    "time": "2026-11-30T19:34:15.775023242+00:00",
    "deviceInfo": {"deviceName": "barn", "devEui": "0102030405060708"},
    "fCnt": 7,
    "object": {"temperatureSensor": {"1": 25.0}, "humidity": 61},
    "rxInfo": [{"rssi": -57, "snr": 9.5}],
}
CHIRPSTACK_3 = {"devEUI": "AQIDBAUGBwg=", "fCnt": 1, "objectJSON": '{"temperature": 4.5}', "rxInfo": [{"rssi": -57}]}
TTN = {
    "end_device_ids": {"device_id": "dev1"},
    "received_at": "2026-11-30T19:15:15Z",
    "uplink_message": {
        "f_port": 1,
        "decoded_payload": {"temperature": 1.5, "status": {"battery": 3.1}},
        "rx_metadata": [{"rssi": -35}],
        "received_at": "2026-11-30T19:15:14.7Z",
    },
}


def values(format: str, topic: str, message: object) -> dict[str, tuple[object, str | None]]:
    found = formats.read(format, topic, json.dumps(message).encode()).values
    return {value.name: (value.value, value.unit) for value in found}


@pytest.mark.parametrize(
    ("format", "topic", "message", "expected"),
    [
        (
            "zigbee2mqtt",
            "zigbee2mqtt/0x00158d",
            ZIGBEE,
            {
                "battery": (100.0, "%"),
                "humidity": (44.72, "%RH"),
                "temperature": (27.34, "Cel"),
                "voltage": (2985.0, "mV"),
            },
        ),
        ("zigbee2mqtt", "zigbee2mqtt/plug", {"voltage": 230, "power": 4}, {"voltage": (230.0, "V"), "power": (4.0, "W")}),
        (
            "tasmota",
            "tele/plug/SENSOR",
            TASMOTA,
            {
                "ds18b20-1-temperature": (19.2, "Cel"),
                "ds18b20-2-temperature": (66.0, "Cel"),
                "energy": (1.185, "kWh"),
                "power-0": (2.0, "W"),
                "power-1": (3.0, "W"),
                "voltage": (230.0, "V"),
            },
        ),
        (
            "tasmota",
            "stat/th/STATUS10",
            {"StatusSNS": {"Time": "2018.02.15 01:00:50", "DHT11": {"Temperature": 70}, "TempUnit": "F"}},
            {"temperature": (70.0, "degF")},
        ),
        (
            "shelly",
            "shellyplusht-b8d61a8b17cc/events/rpc",
            SHELLY,
            {
                "battery_voltage": (5.43, "V"),
                "battery": (88.0, "%"),
                "present": (True, None),
                "humidity": (42.2, "%RH"),
                "temperature": (19.8, "Cel"),
            },
        ),
        (
            "shelly",
            "shellyplus1pm-x/status/switch:0",
            {"id": 0, "output": True, "apower": 8.9, "aenergy": {"total": 11.6, "by_minute": [1, 2]}},
            {"output": (True, None), "power": (8.9, "W"), "energy": (11.6, "Wh")},
        ),
        ("shelly", "shellies/shellyht-1/sensor/temperature", 21.5, {"": (21.5, "Cel")}),
        ("esphome", "porch/sensor/outdoor_temperature/state", 21.5, {"": (21.5, "Cel")}),
        ("homie", "homie/porch/sensor/humidity", 40, {"": (40.0, "%RH")}),
        (
            "chirpstack",
            "application/a/device/0102030405060708/event/up",
            CHIRPSTACK_4,
            {"temperaturesensor-1": (25.0, None), "humidity": (61.0, None)},
        ),
        ("chirpstack", "application/1/device/0102/event/up", CHIRPSTACK_3, {"temperature": (4.5, None)}),
        ("ttn", "v3/app@ttn/devices/dev1/up", TTN, {"temperature": (1.5, None), "battery": (3.1, None)}),
        ("json", "rtl_433/a", {"ts": 1777636800, "t": 1}, {"t": (1.0, None)}),
        ("json", "rtl_433/a", {"a": [{"b": 1}, {"b": 2}], "c": None}, {"a-0-b": (1.0, None), "a-1-b": (2.0, None), "c": (None, None)}),
    ],
)  # fmt: skip
def test_a_preset_finds_the_values(
    format: str, topic: str, message: object, expected: dict[str, tuple[object, str | None]]
) -> None:
    assert values(format, topic, message) == expected


@pytest.mark.parametrize(
    ("format", "topic", "message", "time"),
    [
        ("zigbee2mqtt", "zigbee2mqtt/a", ZIGBEE, "2026-11-30T20:00:00+01:00"),
        ("tasmota", "tele/a/SENSOR", TASMOTA, "2026-11-30T20:00:00"),
        ("shelly", "a/events/rpc", SHELLY, 1680962879.62),
        ("chirpstack", "application/a/device/b/event/up", CHIRPSTACK_4, "2026-11-30T19:34:15.775023242+00:00"),
        ("ttn", "v3/a/devices/b/up", TTN, "2026-11-30T19:15:14.7Z"),
    ],
)
def test_a_preset_finds_the_time(format: str, topic: str, message: object, time: object) -> None:
    assert formats.read(format, topic, json.dumps(message).encode()).time == time


@pytest.mark.parametrize(
    ("format", "topic", "payload"),
    [
        ("zigbee2mqtt", "zigbee2mqtt/bridge/info", b'{"coordinator": {"x": 1}}'),
        ("zigbee2mqtt", "zigbee2mqtt/porch/availability", b'{"state": "online"}'),
        ("zigbee2mqtt", "zigbee2mqtt/porch/set", b'{"brightness": 20}'),
        ("homie", "homie/porch/$nodes", b"sensor"),
        ("homie", "homie/porch/lamp/power/set", b"1"),
        ("tasmota", "tele/a/LWT", b"Online"),
        ("chirpstack", "application/a/device/b/event/status", b'{"batteryLevel": 3}'),
        ("shelly", "a/events/rpc", b'{"method": "NotifyEvent", "params": {"events": [{"x": 1}]}}'),
        ("ttn", "v3/a/devices/b/up", b'{"uplink_message": []}'),
    ],
)  # fmt: skip
def test_other_messages_of_those_projects_have_no_values(format: str, topic: str, payload: bytes) -> None:
    content = formats.read(format, topic, payload)
    assert [value for value in content.values if isinstance(value.value, float)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("temperature", 21.5),
        ("$.temperature", 21.5),
        ('"a-b"."c.d"', 7.0),
        ("list[1].v", 2.0),
        ("text", 21.5),
        ("gone", None),
        ("gone.deeper", None),
        ("null", None),
        ("off", None),
        ("nan", None),
        ("contact", True),
        ("state", "ON"),
    ],
)
def test_a_path_leads_to_a_value(path: str, value: object) -> None:
    message = (
        '{"temperature": 21.5, "a-b": {"c.d": 7}, "list": [{"v": 1}, {"v": 2}], "text": " 21.5 ", "null": null,'
        ' "off": "unavailable", "nan": NaN, "contact": true, "state": "ON"}'
    )
    (found,) = formats.read("", "x", message.encode(), path).values
    assert found.value == value


@pytest.mark.parametrize(
    ("payload", "path", "reason"),
    [
        (b'{"a": [1]}', "a", "not-a-number"),
        (b'{"a": {}}', "a", "not-a-number"),
        (b'{"a": 1', "a", "not-json"),
        (b"\xff\xd8", "a", "not-text"),
        (b"[" * 200 + b"]" * 200, "a", "nested-too-deep"),
        (b'{"a": "%s"}' % (b"x" * 300_000), "a", "reading-too-large"),
        (b'{"a": "x"}', "abs(a)", "value-missing"),
    ],
)
def test_what_is_no_value_is_refused(payload: bytes, path: str, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        formats.read("", "x", payload, path)
    assert refused.value.reason == reason


def test_the_settings_know_every_preset() -> None:
    assert set(typing.get_args(keys.Format)) == {"", *formats.FORMATS}


def test_every_unit_of_a_preset_is_in_the_table() -> None:
    for preset in formats.FORMATS.values():
        for unit in preset.units.values():
            assert unit in ("TempUnit", "PressureUnit") or units.canonical(unit) == unit


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["uplink_message", "object", "objectJSON", "StatusSNS", "params", "method", "a"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(["", *formats.FORMATS]), JSON, st.sampled_from(["", "a", "a.b", "abs(a)", "a[0]"]))
def test_no_message_raises_anything_but_a_refusal(format: str, message: object, path: str) -> None:
    try:
        formats.read(format, "tele/a/SENSOR", json.dumps(message).encode(), path)
    except Rejected as error:
        assert error.reason
