"""Parses what sensors send: a number as text, a JSON object, or a SenML pack (RFC 8428).

A reading passes here first: the device agent parses a payload before it commits it, so that bad input is refused with a
reason and the rest of the stream is not affected.

    >>> parse(b"21.5", received_s=1e9)
    [Reading(value=21.5, unit=None, time_s=1000000000.0, id=None, name=None, flags=(), state=None)]
    >>> [warm] = parse(b'[{"bn":"room1/","n":"t","u":"Cel","v":21.5,"t":-60}]', received_s=1e9)
    >>> warm.name, warm.unit, warm.time_s
    ('room1/t', 'Cel', 999999940.0)
    >>> check(parse(b'{"value": 68, "unit": "F"}', received_s=1e9)[0], "Cel").value
    20.0
    >>> check(parse(b"ON", received_s=1e9)[0], None).state
    'on'

`parse` and `check` raise only `Rejected`, and its message repeats nothing of the payload. The reasons are
``reading-empty``, ``reading-too-large``, ``not-text``, ``not-a-number``, ``not-finite``, ``out-of-range``,
``not-json``, ``nested-too-deep``, ``value-missing``, ``unit-invalid``, ``time-invalid``, ``id-invalid``,
``wrong-unit``, ``unknown-state``, ``senml-empty``, ``senml-invalid``, ``senml-version``, ``senml-unknown-field``,
``senml-sum`` and ``senml-data-value``. A SenML pack is read record by record (`records`): what is wrong with one record
refuses that one alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from pipeline import clock, ids, states, units
from pipeline.errors import Rejected
from pipeline.messages import READING_MAX_BYTES

FUTURE_MAX_S: Final = 5 * 60
"""Clocks of sensors differ by seconds, rarely by minutes."""
PAST_MAX_S: Final = 30 * 24 * 3600
"""A sensor that was offline sends stored readings. A time older than a month comes from a clock that was never set."""
TIME_IMPLAUSIBLE: Final = "time-implausible"
VALUE_MAX: Final = 1e15
"""No measured value is larger, and the sums of squares of smaller values stay finite."""
UNIT_MAX_CHARS: Final = 32
DEPTH_MAX: Final = 100
"""Far more than a reading needs. A limit of our own, since the one of Python's parser differs from release to
release."""

SENML_VERSION: Final = 10
SENML_RELATIVE_BELOW_S: Final = 2**28
"""RFC 8428, 4.5.3: a smaller time is relative to now."""

NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""A number as text."""
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[][{}]', re.DOTALL)
_SENML_BASE: Final = ("bn", "bt", "bu", "bv")
_SENML_VALUES: Final = frozenset({"v", "vb", "vs", "vd", "s"})
_SENML_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value."""

    value: float
    unit: str | None
    """The unit as sent; `check_unit` converts the reading to the stream's unit."""
    time_s: float
    """Seconds since the epoch, UTC; the time of receipt if the sensor sent no time or an impossible one."""
    id: str | None = None
    """The publisher's own event id, a UUID."""
    name: str | None = None
    """The SenML name, base name included."""
    flags: tuple[str, ...] = ()
    state: str | None = None
    """Text or boolean as sent (`ON`, `true`); `check` makes it a state of the stream, and `value` its number."""


class PackRecord(NamedTuple):
    """One record of a payload: its bytes as JSON, and the reading in it, or why there is none."""

    sent: bytes
    found: Reading | Rejected
    name: str | None = None
    """The SenML name, base name included."""


def parse(payload: bytes, *, received_s: float) -> list[Reading]:
    """Return the readings of one payload, at least one; `received_s` is the time of receipt, seconds since the epoch.

    Raises
    ------
    Rejected
        With one of the reasons above; then no reading of the payload is taken.
    """
    found = [record.found for record in records(payload, received_s=received_s)]
    for each in found:
        if isinstance(each, Rejected):
            raise each
    return [each for each in found if isinstance(each, Reading)]


def records(payload: bytes, *, received_s: float) -> list[PackRecord]:
    """Return the records of one payload, at least one. Raises `Rejected` if the payload as a whole cannot be read."""
    text = _text(payload)
    if text[0] not in "{[":
        return [PackRecord(payload, _plain(text, received_s))]
    content = _json(text)
    if isinstance(content, dict):
        return [PackRecord(payload, _object(content, received_s))]
    found = list(_senml(content, received_s))
    if not found:
        raise Rejected("senml-empty", "the pack has no record with a value (v, vb or vs)")
    return found


PACKED: Final = b"\0"
"""The first byte of an agent's own form of readings. A sensor's payload with it is refused, since it is no text."""


def packed(readings: Sequence[Reading]) -> bytes:
    """Return readings in an agent's own form, for `unpacked`: a part of a pack, checked already."""
    return PACKED + msgspec.msgpack.encode(readings)


def unpacked(payload: bytes, *, received_s: float) -> list[Reading]:
    """Return the readings of a stored payload: a part of a pack, or what a sensor sent. Raises `Rejected`."""
    if payload.startswith(PACKED):
        return msgspec.msgpack.decode(payload[1:], type=list[Reading])
    return parse(payload, received_s=received_s)


def _plain(text: str, received_s: float) -> Reading:
    if NUMBER.fullmatch(text):
        return Reading(_finite(float(text)), None, received_s)
    if _NOT_FINITE.fullmatch(text):
        _refuse_not_finite(text)
    word = text
    if text.startswith('"'):
        word = _json(text)
        if not isinstance(word, str):
            raise Rejected("not-json", "the text in quotes does not end")
    return Reading(0.0, None, received_s, state=_word(word))


def _text(payload: bytes) -> str:
    if len(payload) > READING_MAX_BYTES:
        raise Rejected("reading-too-large", f"{len(payload)} bytes; a reading has at most {READING_MAX_BYTES}")
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise Rejected("not-text", f"the payload is not UTF-8 at byte {error.start}") from None
    if not text:
        raise Rejected("reading-empty", "the payload has no content")
    return text


def _json(text: str) -> Any:
    return decoded(text, _refuse_not_finite)


def decoded(text: str, constant: Callable[[str], object]) -> Any:
    """Return what a JSON text holds; `constant` gives the value for NaN and Infinity. Raises `Rejected`."""
    if _depth(text) > DEPTH_MAX:
        raise Rejected("nested-too-deep", "a reading is one object or one list of objects")
    try:
        return json.loads(text, parse_constant=constant)
    except ValueError as error:
        raise Rejected("not-json", f"neither a number nor JSON: {error}") from None


def _depth(text: str) -> int:
    """Return the depth to which objects and lists nest in a JSON text."""
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        deepest = max(deepest, depth)
    return deepest


def _refuse_not_finite(text: str) -> NoReturn:
    raise Rejected("not-finite", f"{text} is not a value; send nothing if nothing was measured")


# --- a JSON object ---------------------------------------------------------------------------------------------


def _object(fields: Mapping[str, Any], received_s: float) -> Reading:
    if "value" not in fields:
        raise Rejected(
            "value-missing", 'the object has no "value"; a SenML record stands in a list: [{"n": …, "v": …}]'
        )
    own_id = fields.get("id")
    if own_id is not None and not (isinstance(own_id, str) and ids.is_event_id(own_id)):
        raise Rejected("id-invalid", "an id is a UUID in its canonical spelling; leave it out to get one")
    time_s, flags = _plausible(_time(fields.get("time"), received_s), received_s)
    value, state = _value(fields["value"], "value")
    return Reading(value, _unit(fields.get("unit")), time_s, own_id, None, flags, state)


def _value(value: object, field: str) -> tuple[float, str | None]:
    """Return a number, or a text or boolean as a state."""
    if isinstance(value, bool):
        return 0.0, str(value).lower()
    if isinstance(value, str):
        return 0.0, _word(value)
    return _number(value, field), None


def _word(text: str) -> str:
    if not 0 < len(text) <= states.MAX_CHARS or not text.isprintable():
        raise Rejected(
            "not-a-number",
            f"send a number, a state of at most {states.MAX_CHARS} characters, a JSON object with a value, or a SenML pack",
        )
    return text


def _time(time: object, received_s: float) -> float:
    if time is None:
        return received_s
    try:
        return clock.seconds(time) if isinstance(time, str) else _number(time, "time", limit=math.inf)
    except (ValueError, OverflowError, Rejected):
        raise Rejected("time-invalid", "a time is RFC 3339 text or seconds since the epoch, UTC") from None


# --- SenML -----------------------------------------------------------------------------------------------------


def _senml(pack: list[Any], received_s: float) -> Iterator[PackRecord]:
    """Resolve a pack (RFC 8428, 4.6): base fields apply to their own record and to all records after it."""
    _check_senml_fields(pack)
    base: dict[str, Any] = {}
    for record in pack:
        if isinstance(record, dict):
            base.update((key, record[key]) for key in _SENML_BASE if key in record)
            if not _SENML_VALUES.intersection(record):
                continue
        name: str | None = None
        try:
            if not isinstance(record, dict):
                raise Rejected("senml-invalid", "a SenML pack is a list of objects")
            name = _senml_name(record, base)
            found: Reading | Rejected = _senml_reading(record, base, name, received_s)
        except Rejected as error:
            found = error
        yield PackRecord(json.dumps(record).encode(), found, name)


def _senml_reading(record: Mapping[str, Any], base: Mapping[str, Any], name: str | None, received_s: float) -> Reading:
    relative_s = sum(_number(part.get(key, 0), key, limit=math.inf) for part, key in ((base, "bt"), (record, "t")))
    absolute_s = relative_s + received_s if relative_s < SENML_RELATIVE_BELOW_S else relative_s
    time_s, flags = _plausible(absolute_s, received_s)
    value, state = _senml_value(record, base)
    return Reading(value, _unit(record.get("u", base.get("bu"))), time_s, None, name, flags, state)


def _check_senml_fields(pack: list[Any]) -> None:
    """Check what refuses a whole pack: its version, and a field that must be understood."""
    for record in pack:
        if not isinstance(record, dict):
            continue
        version = record.get("bver", SENML_VERSION)
        if isinstance(version, bool) or not isinstance(version, int | float) or not version <= SENML_VERSION:
            raise Rejected("senml-version", f"this release reads SenML up to version {SENML_VERSION}")
        if any(key.endswith("_") for key in record):
            raise Rejected(
                "senml-unknown-field", "a field whose name ends in _ (RFC 8428, 4.4) is not known to this release"
            )


def _senml_value(record: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[float, str | None]:
    if "v" in record:
        return _finite(_number(record["v"], "v") + _number(base.get("bv", 0), "bv")), None
    if "vb" in record and not isinstance(record["vb"], bool):
        raise Rejected("senml-invalid", "vb is true or false")
    if "vs" in record and not isinstance(record["vs"], str):
        raise Rejected("senml-invalid", "vs is a text")
    if "vb" in record or "vs" in record:
        return _value(record.get("vb", record.get("vs")), "v")
    if "vd" in record:
        raise Rejected("senml-data-value", "data (vd) is not a reading; send a number, a boolean or a state")
    raise Rejected("senml-sum", "a sum (s) alone is not a reading; send its value (v), too")


def _senml_name(record: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """Return None for a record without a name: then the topic names the stream."""
    parts = (base.get("bn", ""), record.get("n", ""))
    name = "".join(part for part in parts if isinstance(part, str))
    if not all(isinstance(part, str) for part in parts) or (name and not _SENML_NAME.fullmatch(name)):
        raise Rejected(
            "senml-invalid",
            "a name consists of letters, digits and - : . / _ and starts with a letter or digit",
        )
    return name or None


# --- fields ----------------------------------------------------------------------------------------------------


def _number(value: object, field: str, limit: float = VALUE_MAX) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected("not-a-number", f'"{field}" is a {type(value).__name__}, not a number')
    try:
        return _finite(float(value), limit)
    except OverflowError:
        raise Rejected("not-finite", f'"{field}" is larger than any number') from None


def _finite(value: float, limit: float = VALUE_MAX) -> float:
    if not math.isfinite(value):
        raise Rejected("not-finite", "the value is larger than any number")
    if abs(value) > limit:
        raise Rejected("out-of-range", f"the value is beyond ±{limit:g}")
    return value


def _unit(unit: object) -> str | None:
    if unit is None:
        return None
    if not isinstance(unit, str) or not 0 < len(unit) <= UNIT_MAX_CHARS or not unit.isprintable():
        raise Rejected(
            "unit-invalid", f"a unit is a text of at most {UNIT_MAX_CHARS} characters, for example Cel or %RH"
        )
    return unit


def _plausible(time_s: float, received_s: float) -> tuple[float, tuple[str, ...]]:
    """Return the time, or the time of receipt and a flag: a wrong clock loses no event."""
    if received_s - PAST_MAX_S <= time_s <= received_s + FUTURE_MAX_S:
        return time_s, ()
    return received_s, (TIME_IMPLAUSIBLE,)


# --- units -----------------------------------------------------------------------------------------------------


def check(reading: Reading, unit: str | None, named: Sequence[str] = ()) -> Reading:
    """Return a reading as its stream has it: in its unit, or as one of its states, `named` by the settings.

    A number of a stream with states is the number of its state, from 0 on. A stream without unit and states takes the
    usual words for two states (`states.PAIRS`).

    Raises
    ------
    Rejected
        ``unknown-state``, ``not-a-number``, or a reason of `check_unit`.
    """
    if reading.state is None and not named:
        return check_unit(reading, unit)
    text = f"{reading.value:g}" if reading.state is None else reading.state
    place = None if unit and not named else states.place(text, named)
    if place is not None:
        return replace(reading, value=float(place.number), state=place.name, unit=None)
    if named:
        raise Rejected("unknown-state", f"the settings give this stream the states {', '.join(named)}")
    hint = "the settings give this stream a unit" if unit else 'name the words of the stream: states = ["…", "…"]'
    raise Rejected("not-a-number", f"send a number, a JSON object with a value, or a SenML pack ({hint})")


def check_unit(reading: Reading, expected: str | None) -> Reading:
    """Convert a reading to the stream's unit, or to its own base unit if the settings name no unit.

    A reading without a unit counts as measured in the stream's unit.

    Raises
    ------
    Rejected
        ``wrong-unit``: the reading measures another quantity. ``out-of-range``: the converted value is too large.
    """
    wanted = expected and (units.canonical(expected) or expected)
    if reading.unit is None:
        return replace(reading, unit=wanted)
    known = units.find(reading.unit)
    if wanted is None:
        wanted = reading.unit if known is None else known.base if known.converts else known.name
    value = units.convert(reading.value, reading.unit, wanted)
    if value is None:
        sent = f'"{reading.unit}"' if known else "an unknown unit"
        raise Rejected("wrong-unit", f'the reading is in {sent}; the settings give this stream "{wanted}"')
    return replace(reading, value=_finite(value), unit=wanted)
