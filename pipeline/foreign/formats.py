"""What the messages of known kinds of sensors hold: their values, with names, units and time. Pure.

Each preset is a row of `FORMATS`; what a row does not say is done for all alike: the values of an object are found at
any depth, text that is a number counts as one, and null, NaN or "unavailable" is no value.

    >>> content = read("zigbee2mqtt", "zigbee2mqtt/porch", b'{"temperature":21.5,"linkquality":90,"humidity":null}')
    >>> [(value.name, value.value, value.unit) for value in content.values]
    [('temperature', 21.5, 'Cel'), ('humidity', None, '%RH')]
    >>> content = read("tasmota", "tele/th/SENSOR", b'{"AM2301":{"Temperature":68},"TempUnit":"F"}')
    >>> [(value.name, value.path, value.unit) for value in content.values]
    [('temperature', 'AM2301.Temperature', 'degF')]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError

from pipeline import readings, units
from pipeline.errors import Rejected
from pipeline.foreign.filters import as_name

PAYLOAD_MAX_BYTES: Final = 256 << 10
VALUES_MAX: Final = 200
"""A message with more values has no sensor behind it: the rest is left out."""
STATE_MAX_CHARS: Final = 64

NOTHING: Final = frozenset({"", "unavailable", "unknown", "none", "null", "nan", "n/a", "undefined"})
"""Texts that say that there is no value, whatever their case."""

VALUE: Final = "value"
"""The path of the value in a message of our own form; a plain number has no path and counts, too."""

Scalar = float | bool | str


class Value(NamedTuple):
    """One value of a message. `value` is None where the message says that it has none."""

    path: str
    name: str
    """Name of a stream for it: the last word of its path, or all of them where that is not unique in the message."""
    value: Scalar | None
    unit: str | None


class SensorMessage(NamedTuple):
    """The values of a message, and the time as the message states it."""

    values: tuple[Value, ...]
    time: object = None
    single: bool = False
    """The payload is one plain value: the topic names its stream."""


class Format(NamedTuple):
    """A preset."""

    title: str
    example: str
    """A topic of it, for the docs."""
    body: Callable[[dict[str, Any]], object] = lambda message: message
    """Where in a message its values are."""
    time: tuple[str, ...] = ()
    """Paths to the time; the first that is there counts."""
    units: Mapping[str, str] = {}
    """Unit by the last word of a value's path, in lower case."""
    names: Mapping[str, str] = {}
    """Better names for the last word of a value's path."""
    left_out: frozenset[str] = frozenset()
    """Words of a path that make it no value of the sensor."""
    not_values: frozenset[str] = frozenset()
    """Last levels of topics that carry no values."""
    not_levels: frozenset[str] = frozenset()
    """Levels anywhere in topics that carry no values."""


_CLIMATE: Final = {
    "temperature": "Cel", "humidity": "%RH", "pressure": "hPa", "illuminance": "lx", "illuminance_lux": "lx",
    "co2": "ppm", "pm25": "ug/m3", "pm10": "ug/m3", "power": "W", "energy": "kWh", "voltage": "V", "current": "A",
    "battery": "%", "soil_moisture": "%", "device_temperature": "Cel", "local_temperature": "Cel",
}  # fmt: skip
_TASMOTA: Final = {
    "temperature": "TempUnit", "dewpoint": "TempUnit", "humidity": "%RH", "pressure": "PressureUnit",
    "seapressure": "PressureUnit", "illuminance": "lx", "carbondioxide": "ppm", "eco2": "ppm", "tvoc": "ppb",
    "pm2.5": "ug/m3", "pm10": "ug/m3", "power": "W", "apparentpower": "VA", "reactivepower": "var", "voltage": "V",
    "current": "A", "total": "kWh", "today": "kWh", "yesterday": "kWh", "distance": "cm",
}  # fmt: skip
"""Units of Tasmota; ``TempUnit`` and ``PressureUnit`` are fields of the message."""
_UNIT_FIELDS: Final = {"TempUnit": "Cel", "PressureUnit": "hPa"}
_SHELLY: Final = {
    "tc": "Cel", "rh": "%RH", "apower": "W", "act_power": "W", "aprt_power": "VA", "voltage": "V", "current": "A",
    "freq": "Hz", "total": "Wh", "lux": "lx", "percent": "%", "temperature": "Cel", "humidity": "%RH", "power": "W",
    "battery": "%", "v": "V",
}  # fmt: skip


def _inner(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = message.get(key)
    return found if isinstance(found, dict) else {}


def _object(message: dict[str, Any]) -> object:
    """Return what ChirpStack's codec made of an uplink: `object`, or `objectJSON` in version 3."""
    if isinstance(text := message.get("objectJSON"), str) and text:
        return _json(text)
    return message.get("object")


def _shelly(message: dict[str, Any]) -> object:
    """Return the status of components: of a status topic itself, or of a notification."""
    if "method" not in message:
        return message
    return message.get("params") if message["method"] in ("NotifyStatus", "NotifyFullStatus") else None


FORMATS: Final[Mapping[str, Format]] = {
    "json": Format(
        "any JSON object", "rtl_433/+/devices/+/+", time=("time", "timestamp", "ts"),
        left_out=frozenset({"time", "timestamp", "ts"}),
    ),
    "zigbee2mqtt": Format(
        "Zigbee2MQTT", "zigbee2mqtt/+", time=("last_seen",), units=_CLIMATE,
        left_out=frozenset({"linkquality", "last_seen", "elapsed", "update", "update_available", "device"}),
        not_values=frozenset({"availability", "set", "get"}), not_levels=frozenset({"bridge"}),
    ),
    "tasmota": Format(
        "Tasmota", "tele/+/SENSOR", body=lambda message: message.get("StatusSNS", message),
        time=("Time", "StatusSNS.Time"), units=_TASMOTA, names={"total": "energy"},
        left_out=frozenset({"Time", "TempUnit", "PressureUnit", "SpeedUnit", "Id", "TotalStartTime"}),
        not_values=frozenset({"LWT", "INFO1", "INFO2", "INFO3"}),
    ),
    "shelly": Format(
        "Shelly, both generations", "shellies/+/sensor/+", body=_shelly, time=("params.ts",), units=_SHELLY,
        names={"tc": "temperature", "rh": "humidity", "apower": "power", "act_power": "power", "total": "energy",
               "percent": "battery", "v": "battery_voltage", "lux": "illuminance"},
        left_out=frozenset({"id", "ts", "tf", "tF", "source", "sys", "wifi", "cloud", "mqtt", "ble", "ws", "by_minute",
                            "minute_ts", "ht_ui"}),
        not_values=frozenset({"online", "announce", "info", "command"}),
    ),
    "esphome": Format("ESPHome", "+/sensor/+/state", units=_CLIMATE, not_values=frozenset({"status", "debug"})),
    "homie": Format("Homie 3 to 5", "homie/+/+/+", units=_CLIMATE, not_values=frozenset({"set"})),
    "chirpstack": Format(
        "ChirpStack 3 and 4", "application/APPLICATION/device/+/event/up", body=_object,
        time=("time", "publishedAt", "rxInfo[0].time"),
        not_values=frozenset({"status", "join", "ack", "txack", "log", "location", "error"}),
    ),
    "ttn": Format(
        "The Things Stack 3", "v3/APPLICATION@TENANT/devices/+/up", time=("uplink_message.received_at", "received_at"),
        body=lambda message: _inner(message, "uplink_message").get("decoded_payload"),
    ),
    "frigate": Format("Frigate: snapshots and counts", "frigate/+/+/snapshot"),
}  # fmt: skip
"""The presets by name. Paths in `time` are JMESPath."""

BATTERY_MV_FROM: Final = 1000
"""Zigbee2MQTT gives the voltage of a battery in mV, that of a socket in V: none has a kilovolt."""


def compiled(path: str) -> Any:
    """Return the compiled JMESPath; a leading ``$.`` of JSONPath is accepted. Raises `ValueError` if it is none."""
    try:
        return jmespath.compile(path.removeprefix("$."))
    except JMESPathError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def read(format: str, topic: str, payload: bytes, path: str = "", time_path: str = "") -> SensorMessage:
    """Return the values of a message, or of the one value that `path` names.

    Parameters
    ----------
    format
        A preset, or empty.
    path, time_path
        JMESPath of the value and of its time; empty for what the preset finds.

    Raises
    ------
    Rejected
        The payload is neither a plain value nor JSON, or the path leads to something that is no value.
    """
    preset = FORMATS.get(format, Format("", ""))
    levels = topic.split("/")
    if levels[-1] in preset.not_values or not preset.not_levels.isdisjoint(levels):
        return SensorMessage(())
    if format == "homie" and any(level.startswith("$") for level in levels):
        return SensorMessage(())
    message = _message(payload)
    if not isinstance(message, dict | list):
        word = levels[-2] if levels[-1] == "state" and len(levels) > 1 else levels[-1]
        value = Value("", "", _scalar(message), _unit(preset, word.casefold(), {}))
        return SensorMessage((value,) if path in ("", VALUE) else (), single=True)
    time = _time(message, (time_path,) if time_path else preset.time)
    found = _named(list(_leaves(preset, message)), preset, message) if format else []
    if not path:
        return SensorMessage(tuple(found), time)
    dotted = path.removeprefix("$.").replace('"', "")
    known = next((value for value in found if value.path == dotted), None)
    return SensorMessage((known or Value(path, "", _scalar(_search(path, message)), None),), time, single=True)


def _message(payload: bytes) -> Any:
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise Rejected("reading-too-large", f"{len(payload)} bytes; a message has at most {PAYLOAD_MAX_BYTES}")
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise Rejected("not-text", f"the payload is not UTF-8 at byte {error.start}") from None
    if text[:1] in ("{", "["):
        return _json(text)
    return text.removeprefix('"').removesuffix('"')


def _json(text: str) -> Any:
    return readings.decoded(text, lambda _: None)


def _search(path: str, message: object) -> object:
    try:
        return compiled(path).search(message)
    except (JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Rejected("value-missing", f"the path {path} cannot be followed: {type(error).__name__}") from None


def _time(message: object, paths: tuple[str, ...]) -> object:
    return next((time for path in paths if (time := _search(path, message)) is not None), None)


def _scalar(value: object) -> Scalar | None:
    """Return a number, a boolean or a short text; None for no value. Raises `Rejected` for lists and objects."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) <= readings.VALUE_MAX else math.inf
    if isinstance(value, str) and len(value) <= STATE_MAX_CHARS:
        text = value.strip()
        if text.casefold() in NOTHING:
            return None
        return _scalar(float(text)) if readings.NUMBER.fullmatch(text) else text
    kind = {"list": "a list: name one element, as values[0]", "dict": "an object: name one value in it"}
    raise Rejected("not-a-number", f"the value is {kind.get(type(value).__name__, 'a long text')}")


def _leaves(preset: Format, message: object) -> Iterator[tuple[tuple[str, ...], Scalar | None]]:
    """Yield path and value of every scalar; a value that cannot be one is left out."""
    start = preset.body(message) if isinstance(message, dict) else message
    waiting: list[tuple[tuple[str, ...], object]] = [((), start)]
    found = 0
    while waiting and found < VALUES_MAX:
        path, node = waiting.pop()
        if isinstance(node, dict):
            inner = [((*path, str(key)), part) for key, part in node.items() if str(key) not in preset.left_out]
            waiting += reversed(inner)
        elif isinstance(node, list):
            waiting += reversed([((*path, str(at)), part) for at, part in enumerate(node)])
        elif path:
            try:
                value = _scalar(node)
            except Rejected:
                continue
            found += 1
            yield path, value


def _named(leaves: list[tuple[tuple[str, ...], Scalar | None]], preset: Format, message: object) -> list[Value]:
    """Give each value its name and unit."""
    context = message if isinstance(message, dict) else {}
    words = [_words(path, preset) for path, _ in leaves]
    count = Counter(name for _, name in words)
    values = []
    for (path, value), (word, name) in zip(leaves, words, strict=True):
        unit = _unit(preset, word, context)
        if preset is FORMATS["zigbee2mqtt"] and unit == "V" and isinstance(value, float) and value >= BATTERY_MV_FROM:
            unit = "mV"
        unique = name if count[name] == 1 else "-".join((*path[:-1], name))
        values.append(Value(".".join(path), as_name(unique), value, unit))
    return values


def _words(path: tuple[str, ...], preset: Format) -> tuple[str, str]:
    """Return the last word of a path, which decides the unit, and the name made of it: of a list with the number."""
    at = len(path) - 1
    while at and path[at].isdecimal():
        at -= 1
    word = path[at].casefold()
    return word, "-".join((preset.names.get(word, word), *path[at + 1 :]))


def _unit(preset: Format, word: str, message: Mapping[str, Any]) -> str | None:
    """Return the unit by the word itself or by its ending: an ``outdoor_temperature`` is a temperature."""
    ending = word.replace("-", "_").rpartition("_")[2]
    unit = preset.units.get(word, preset.units.get(ending))
    if unit not in _UNIT_FIELDS:
        return unit
    sent = (_inner(message, "StatusSNS") or message).get(unit, _UNIT_FIELDS[unit])
    return units.canonical(sent) if isinstance(sent, str) else None
