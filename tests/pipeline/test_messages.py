"""Every message, found by itself, survives its wire form; nothing else is taken for one; levels are a lattice."""

from __future__ import annotations

import enum
import functools
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import messages, records
from pipeline.messages import (
    LEVELLED,
    VERSION,
    Ack,
    Event,
    EventAck,
    JsonMessage,
    Kind,
    Levels,
    Malformed,
    MsgpackMessage,
    Privacy,
    Rank,
    Result,
    Task,
    Tier,
    decode,
    downlink_id,
    encode,
)


def offspring(base: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    return {kind for child in base.__subclasses__() for kind in (child, *offspring(child))}


MESSAGES = sorted(
    {
        kind
        for kind in offspring(msgspec.Struct)
        if kind.__module__ in (messages.__name__, records.__name__) and kind not in (JsonMessage, MsgpackMessage)
    },
    key=lambda kind: kind.__name__,
)
"""Found by subclassing, so that a new one cannot be forgotten here."""

VERSIONED = [kind for kind in MESSAGES if "v" in kind.__struct_fields__]

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=8)


@functools.cache
def values(annotation: Any) -> st.SearchStrategy[Any]:
    """What a field of this type may hold."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=2)
    if origin is tuple:
        return st.tuples(*map(values, inner))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from(list(annotation))
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return instances(annotation)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: WORDS,
        bytes: st.binary(max_size=8),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63 - 1),
        float: NUMBERS,
        type(None): st.none(),
    }
    return plain[annotation]


@functools.cache
def instances(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {name: st.just(VERSION) if name == "v" else values(hints[name]) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


def test_all_messages_are_found() -> None:
    assert {"Result", "Event", "Envelope", "UplinkBatch", "DownlinkAck", "HourlySummary"} <= {
        kind.__name__ for kind in MESSAGES
    }
    assert len(MESSAGES) >= 20


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_message_survives_its_wire_form(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(instances(kind))
    assert decode(kind, encode(message)) == message


@pytest.mark.parametrize("kind", VERSIONED, ids=lambda kind: kind.__name__)
@settings(max_examples=2)
@given(data=st.data(), version=st.integers(2, 9))
def test_another_version_is_refused_and_the_answer_says_what_to_do(
    kind: type[msgspec.Struct], data: st.DataObject, version: int
) -> None:
    message = msgspec.structs.replace(data.draw(instances(kind)), v=version)
    with pytest.raises(Malformed, match="upgrade the older agent") as caught:
        decode(kind, encode(message))
    assert caught.value.reason == "unknown-version"


def test_what_agents_say_to_each_other_carries_a_version() -> None:
    between_agents = {kind for kind in MESSAGES if issubclass(kind, MsgpackMessage)} - {messages.Envelope}
    kept_in_kafka = {messages.Labelled, messages.SumIncrement}
    assert between_agents == set(VERSIONED) - kept_in_kafka


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(payload=st.binary(max_size=64))
def test_bytes_that_are_no_message_are_malformed_and_never_crash(kind: type[msgspec.Struct], payload: bytes) -> None:
    try:
        decode(kind, payload)
    except Malformed as error:
        assert error.reason in ("malformed", "unknown-version")


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_said_about_a_malformed_message_quotes_nothing_of_it(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    message = data.draw(instances(kind))
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    planted = data.draw(st.sampled_from(range(len(kind.__struct_fields__))))
    if isinstance(fields, dict):
        fields[list(fields)[planted % len(fields)]] = "CANARY"
        fields["CANARY"] = "CANARY"
    else:
        fields[planted] = "CANARY"
    encoder = msgspec.json if getattr(kind, "WIRE", "msgpack") == "json" else msgspec.msgpack
    try:
        decode(kind, encoder.encode(fields))
    except Malformed as error:
        assert "CANARY" not in str(error)


def test_what_is_said_about_a_malformed_message_names_the_field() -> None:
    with pytest.raises(Malformed, match=r"not a EventAck: Expected `array`, got `str` - at `\$.ids`"):
        decode(EventAck, msgspec.msgpack.encode({"ids": "diary"}))
    wire = msgspec.to_builtins(RESULT) | {"privacy": "the diary"}
    with pytest.raises(Malformed, match=r"not a Result: at `\$.privacy`$"):
        decode(Result, msgspec.json.encode(wire))


def test_a_nest_of_ten_thousand_levels_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode(EventAck, b"\x91" * 10_000)
    with pytest.raises(Malformed):
        decode(Ack, b'{"x":' * 10_000)


def test_people_read_json_and_agents_msgpack() -> None:
    assert encode(Ack(ids=("a",), topic="t")) == b'{"ids":["a"],"topic":"t","sha256":"","repeat":false}'
    assert msgspec.msgpack.decode(encode(EventAck(ids=("a",)))) == {"ids": ["a"]}


def test_a_result_without_a_sighting_says_null() -> None:
    wire = encode(RESULT)
    assert b'"sighting":null' in wire
    assert b'"pending":null' in wire
    assert b"forecast" not in wire


RESULT = Result(
    event="0193",
    time="2026-05-01T12:00:00.000Z",
    site="home",
    device="cam1",
    stream="garden",
    sighting=None,
    task=Task.WILDLIFE,
    tier=Tier.CLOUD,
    revision=3,
    pending=None,
    rank=Rank.SPECIES,
    label="Felis catus",
    path=("animal", "Felidae", "Felis catus"),
    probability=0.9,
    privacy=Privacy.PUBLIC,
    rule="last-tier",
    reason="",
    model="lite0@1",
    latency_ms=40.0,
)


def test_an_answer_of_the_cloud_is_named_by_event_and_revision() -> None:
    assert downlink_id(RESULT) == "0193/3"
    assert downlink_id(msgspec.structs.replace(RESULT, revision=4)) != downlink_id(RESULT)


def test_an_event_is_a_few_hundred_bytes_without_its_body() -> None:
    event = Event(result=RESULT, boot=1, sequence=1, received_s=0.0, wants=Rank.SPECIES, levels=Levels(), body=None)
    assert len(encode(event)) < 600


# --- the lattice -----------------------------------------------------------------------------------------------

levels = st.sampled_from(list(Privacy))
tables = instances(Levels)


@given(levels, levels, levels)
def test_privacy_is_a_lattice_under_join(a: Privacy, b: Privacy, c: Privacy) -> None:
    assert a.join(a) is a
    assert a.join(b) is b.join(a)
    assert a.join(b).join(c) is a.join(b.join(c))
    assert a.join(Privacy.PUBLIC) is a
    assert a.join(Privacy.USER_PRIVATE) is Privacy.USER_PRIVATE


@given(levels, levels)
def test_what_is_joined_reaches_no_further_than_either(a: Privacy, b: Privacy) -> None:
    assert a.join(b).reach.depth == min(a.reach.depth, b.reach.depth)


@given(tables, tables, tables)
def test_the_levels_of_an_event_are_joined_kind_by_kind(a: Levels, b: Levels, c: Levels) -> None:
    assert all(a.join(b).of(kind) is a.of(kind).join(b.of(kind)) for kind in Kind)
    assert a.join(a) == a
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))


def test_of_an_event_about_which_nothing_is_said_only_the_answer_leaves_the_device() -> None:
    assert [Levels().of(kind).reach for kind in LEVELLED] == [
        Tier.DEVICE,
        Tier.DEVICE,
        Tier.EDGE,
        Tier.DEVICE,
        Tier.DEVICE,
    ]


def test_tiers_are_ordered_from_the_capture_to_the_cloud() -> None:
    assert [tier.depth for tier in (Tier.DEVICE, Tier.EDGE, Tier.CLOUD)] == [0, 1, 2]
    assert [level.reach for level in Privacy] == [Tier.CLOUD, Tier.EDGE, Tier.DEVICE]
