"""The gate: a message passes if and only if all it holds may be seen where it goes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from pipeline import messages, records, topics
from pipeline.errors import Withheld
from pipeline.messages import (
    LEVELLED,
    Ack,
    Crop,
    Downlink,
    DownlinkAck,
    Envelope,
    Event,
    EventAck,
    Forecast,
    Kind,
    Levels,
    Privacy,
    Rank,
    Refusal,
    Report,
    Result,
    SightingReport,
    Status,
    Task,
    Tier,
    UplinkAck,
    UplinkBatch,
    Vector,
    Vote,
    decode,
    encode,
)
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared, ClearedRecord, clear, clear_capture, clear_record, clear_refusal
from pipeline.privacy.seal import Key, build_private, pseudonym, seal

EVENT = "019e7044-8800-7755-bf2f-5d787826c264"
SITE_KEY = Key.of(Privacy.EDGE_PRIVATE, b"s" * 32)
USER_KEY = Key.of(Privacy.USER_PRIVATE, b"u" * 32)
REACHES = {
    topics.result("home", "cam1", Tier.DEVICE, Privacy.USER_PRIVATE): Tier.DEVICE,
    topics.event("home", "cam1", "garden"): Tier.EDGE,
    topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC): Tier.EDGE,
    topics.uplink("home"): Tier.CLOUD,
}

levels = st.sampled_from(Privacy)
tiers = st.sampled_from(Tier)
where = st.sampled_from(sorted(REACHES))


def a_result(privacy: Privacy = Privacy.PUBLIC, value: float | None = None) -> Result:
    return Result(
        event=EVENT,
        time="2026-05-28T20:26:40.000Z",
        site="home",
        device="cam1",
        stream="garden",
        sighting=EVENT,
        task=Task.WILDLIFE,
        tier=Tier.DEVICE,
        revision=1,
        pending=Tier.EDGE,
        rank=Rank.KINGDOM,
        label="animal",
        path=("animal",),
        probability=0.9,
        privacy=privacy,
        rule="r",
        reason="",
        model="m",
        latency_ms=1.0,
        value=value,
    )


def a_sighting(privacy: Privacy) -> SightingReport:
    return SightingReport(
        sighting=EVENT,
        time="",
        until="",
        site="home",
        device="cam1",
        stream="garden",
        revision=1,
        rank=Rank.KINGDOM,
        label="animal",
        path=("animal",),
        probability=0.9,
        frames=1,
        agree=1,
        privacy=privacy,
        closed=False,
        rule="r",
        model="m",
    )


def an_event(
    kinds: Levels,
    body: Crop | Vector | Report | None = None,
    sealed: tuple[Envelope, ...] = (),
    value: float | None = None,
) -> Event:
    result = a_result(kinds.result, value)
    return Event(
        result=result,
        boot=1,
        sequence=1,
        received_s=1_780_000_000.0,
        wants=Rank.SPECIES,
        levels=kinds,
        body=body,
        sealed=sealed,
    )


def an_envelope(privacy: Privacy, *, sealed: bool, kind: Kind = Kind.FEATURE) -> Envelope:
    if sealed and privacy is Privacy.USER_PRIVATE:
        return build_private(USER_KEY, event=EVENT, kind=kind, source="home/cam1/garden", time="t", payload=b"f")
    envelope = Envelope(
        event=EVENT,
        kind=kind,
        privacy=privacy,
        key="home/cam1",
        payload=b"f",
        source="home/cam1/garden",
        time="t",
    )
    if not sealed:
        return envelope
    if privacy is Privacy.EDGE_PRIVATE:
        return seal(envelope, SITE_KEY)
    return msgspec.structs.replace(envelope, payload=bytes(40), sealed_by="site-0")


def passes(message: msgspec.Struct, topic: str, to: Tier) -> bool:
    try:
        cleared = clear(message, topic, to=to)
    except Withheld:
        return False
    assert cleared.topic == topic
    assert decode(type(message), cleared.payload) == message
    return True


def allowed(level: Privacy, topic: str, to: Tier) -> bool:
    """The lattice, spelled anew: how many tiers a level lets a record climb."""
    climbs = {Privacy.PUBLIC: 2, Privacy.EDGE_PRIVATE: 1, Privacy.USER_PRIVATE: 0}
    steps = {Tier.DEVICE: 0, Tier.EDGE: 1, Tier.CLOUD: 2}
    return max(steps[to], steps[REACHES[topic]]) <= climbs[level]


# --- every type, level, tier -----------------------------------------------------------------------------------


@given(levels, where, tiers)
def test_an_answer_passes_as_far_as_its_level(level: Privacy, topic: str, to: Tier) -> None:
    expected = allowed(level, topic, to)
    assert passes(a_result(level), topic, to) == expected
    assert passes(a_sighting(level), topic, to) == expected
    assert passes(Downlink(results=(a_result(), a_result(level))), topic, to) == expected


@pytest.mark.slow
@given(
    st.builds(Levels, *(levels for _ in LEVELLED)),
    st.sampled_from(
        [
            (None, None),
            (Crop(jpeg=b"j", box=(0, 0, 1, 1)), Kind.PIXELS),
            (Vector(space="s", data=b"v"), Kind.FEATURE),
            (Report(value=1, unit="W", count=1, total=1, low=1, high=1), Kind.READING),
        ]
    ),
    st.sampled_from([None, 21.5]),
    where,
    tiers,
)
def test_an_event_passes_as_far_as_the_most_private_thing_in_it(
    kinds: Levels,
    body: tuple[Crop | Vector | Report | None, Kind | None],
    value: float | None,
    topic: str,
    to: Tier,
) -> None:
    content, kind = body
    held = [kinds.result]
    held += [kinds.of(kind)] if kind else []
    held += [kinds.reading] if value is not None else []
    expected = all(allowed(level, topic, to) for level in held)
    assert passes(an_event(kinds, content, value=value), topic, to) == expected


@given(levels, levels, where, tiers)
def test_an_events_answer_has_the_higher_of_both_levels_that_it_is_told_to_have(
    stated: Privacy, held: Privacy, topic: str, to: Tier
) -> None:
    event = msgspec.structs.replace(an_event(Levels(result=stated)), result=a_result(held))
    assert passes(event, topic, to) == allowed(stated.join(held), topic, to)


@given(levels, st.booleans(), where, tiers)
def test_an_envelope_passes_where_its_level_lets_it_or_sealed(
    level: Privacy, sealed: bool, topic: str, to: Tier
) -> None:
    envelope = an_envelope(level, sealed=sealed)
    public = an_envelope(Privacy.PUBLIC, sealed=False)
    expected = sealed or allowed(level, topic, to)
    assert passes(envelope, topic, to) == expected
    assert passes(UplinkBatch(site="home", envelopes=(public, envelope)), topic, to) == expected


@given(levels, st.booleans(), where, tiers)
def test_what_an_event_carries_as_sealed_must_be_sealed(level: Privacy, sealed: bool, topic: str, to: Tier) -> None:
    kinds = Levels(*(Privacy.PUBLIC for _ in LEVELLED))
    assert passes(an_event(kinds, sealed=(an_envelope(level, sealed=sealed),)), topic, to) == sealed


@given(levels, levels)
def test_an_answer_in_an_envelope_counts_with_its_own_level_too(outer: Privacy, inner: Privacy) -> None:
    for answer in (a_result(inner), a_sighting(inner)):
        envelope = msgspec.structs.replace(an_envelope(outer, sealed=False, kind=Kind.RESULT), payload=encode(answer))
        assert passes(envelope, topics.uplink("home"), Tier.CLOUD) == (outer.join(inner) is Privacy.PUBLIC)


def test_a_result_in_the_clear_that_is_no_answer_is_withheld() -> None:
    with pytest.raises(Withheld, match="not an answer of ours"):
        clear_record(an_envelope(Privacy.PUBLIC, sealed=False, kind=Kind.RESULT))


def test_a_label_leaves_its_site_under_a_pseudonym_and_under_no_name() -> None:
    envelope = an_envelope(Privacy.PUBLIC, sealed=False, kind=Kind.LABEL)
    stated = msgspec.structs.replace(envelope, payload=encode(Vote(label="Felis catus", by=pseudonym(SITE_KEY, "ann"))))
    assert clear_record(stated).value == stated.payload
    for payload in (b"no vote", encode(Vote(label="Felis catus", by="ann")), encode(Vote(label=None, by=""))):
        with pytest.raises(Withheld, match=r"its label|a label leaves"):
            clear_record(msgspec.structs.replace(envelope, payload=payload))


@pytest.mark.parametrize(
    "message",
    [
        Ack(ids=("e",), topic="t"),
        Refusal(reason="r", detail="d", topic="t", size_bytes=1, sha256="", time=""),
        Status(state="online", role="edge", version="1", time=""),
        EventAck(ids=("e",)),
        UplinkAck(ids=("e",)),
        DownlinkAck(ids=("e",)),
    ],
    ids=lambda message: type(message).__name__,
)
@given(topic=where, to=tiers)
def test_what_holds_no_content_passes_anywhere(message: msgspec.Struct, topic: str, to: Tier) -> None:
    assert passes(message, topic, to)


def test_only_status_is_retained() -> None:
    status = Status(state="online", role="edge", version="1", time="")
    assert clear(status, topics.status("home", "cam1"), to=Tier.EDGE).retain
    assert not clear(a_result(), topics.result("home", "cam1", Tier.DEVICE, Privacy.PUBLIC), to=Tier.EDGE).retain


# --- what the gate does not know -------------------------------------------------------------------------------


class Stranger(msgspec.Struct):
    text: str = ""


class Ackk(Ack, frozen=True):
    text: str = ""


class Wide(Crop, frozen=True):
    whole: bytes = b""


@pytest.mark.parametrize("to", Tier)
def test_an_unknown_type_and_a_subclass_of_a_known_one_are_withheld(to: Tier) -> None:
    topic = topics.ack("home", "cam1")
    for message in (Stranger(), Ackk(ids=(), topic="")):
        with pytest.raises(Withheld, match="the gate does not know the type"):
            clear(message, topic, to=to)
    body = Wide(jpeg=b"", box=(0, 0, 1, 1))
    with pytest.raises(Withheld, match="does not know a body of type Wide"):
        clear(
            an_event(Levels(*(Privacy.PUBLIC for _ in LEVELLED)), body),
            topics.event("home", "cam1", "a"),
            to=Tier.EDGE,
        )


def test_every_message_that_is_sent_is_known_to_the_gate() -> None:
    sent = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, (messages.JsonMessage, messages.MsgpackMessage))
    }
    parts = {messages.JsonMessage, messages.MsgpackMessage, Forecast, messages.Update, messages.CameraState}
    assert sent - parts == set(gate.CONTENTS)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "x",
        "tierwise/v1/home/cam1/stream/x",
        "tierwise/v1/uplink/home/x",
        "tierwise/v1/uplink/home/ack",
        "tierwise/v2/home/cam1/ack",
    ],
)
def test_an_unknown_topic_counts_as_the_clouds(topic: str) -> None:
    assert gate.reach(topic) is Tier.CLOUD
    with pytest.raises(Withheld):
        clear(a_result(Privacy.EDGE_PRIVATE), topic, to=Tier.DEVICE)


def test_a_withheld_record_is_told_by_event_kind_level_and_tier_and_not_by_content() -> None:
    event = an_event(Levels(result=Privacy.PUBLIC), Crop(jpeg=b"CANARY", box=(0, 0, 1, 1)))
    with pytest.raises(Withheld) as withheld:
        clear(event, topics.event("home", "cam1", "garden"), to=Tier.EDGE)
    assert (
        str(withheld.value)
        == f"event {EVENT}: its pixels is user-private; in the clear it may reach the device, but not the edge"
    )
    assert withheld.value.reason == "withheld"


def test_the_users_own_branch_takes_what_is_user_private_and_the_sites_does_not() -> None:
    result = a_result(Privacy.USER_PRIVATE)
    private = topics.result("home", "cam1", Tier.DEVICE, Privacy.USER_PRIVATE)
    assert clear(result, private, to=Tier.DEVICE).topic == private
    with pytest.raises(Withheld):
        clear(result, topics.result("home", "cam1", Tier.DEVICE, Privacy.PUBLIC), to=Tier.DEVICE)


# --- what is called sealed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "home/cam1/garden"},
        {"time": "2026-05-28T20:26:40.000Z"},
        {"space": "s1"},
        {"revision": 2},
        {"key": "home/cam1"},
        {"event": EVENT},
        {"event": "cam1"},
        {"payload": b"a picture"},
    ],
    ids=str,
)
def test_a_user_private_header_that_tells_something_is_withheld(fields: dict[str, object]) -> None:
    envelope = an_envelope(Privacy.USER_PRIVATE, sealed=True)
    clear_record(envelope)
    with pytest.raises(Withheld):
        clear_record(msgspec.structs.replace(envelope, **fields))


# --- Kafka, captures -------------------------------------------------------------------------------------------


@given(levels, st.booleans())
def test_a_record_for_kafka_is_public_or_sealed(level: Privacy, sealed: bool) -> None:
    envelope = an_envelope(level, sealed=sealed)
    if sealed or level is Privacy.PUBLIC:
        cleared = clear_record(envelope)
        assert (cleared.topic, cleared.key, cleared.value) == (
            topics.INGEST,
            envelope.key.encode(),
            envelope.payload,
        )
        assert cleared.headers == records.to_record(envelope).headers
        return
    with pytest.raises(Withheld):
        clear_record(envelope)


def test_a_refusal_goes_to_the_rejected_topic_with_its_reason_and_no_key() -> None:
    refusal = Refusal(reason="not-sealed", detail="d", topic="t", size_bytes=1, sha256="", time="")
    cleared = clear_refusal(refusal)
    assert (cleared.topic, cleared.key) == (topics.REJECTED, b"")
    assert cleared.headers == ((topics.Header.REASON, b"not-sealed"),)
    assert decode(Refusal, cleared.value) == refusal


def test_a_capture_is_published_on_its_own_topics_and_nowhere_else() -> None:
    for topic in (topics.frame("home", "cam1", "garden"), topics.reading("home", "room1", "co2")):
        assert clear_capture(topic, b"bytes").payload == b"bytes"
    for topic in (topics.event("home", "cam1", "garden"), topics.uplink("home"), "frame"):
        with pytest.raises(Withheld):
            clear_capture(topic, b"bytes")


# --- the types -------------------------------------------------------------------------------------------------

CLEARED = clear(Ack(ids=("e",), topic="t"), topics.ack("home", "cam1"), to=Tier.EDGE)
RECORD = clear_record(an_envelope(Privacy.PUBLIC, sealed=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cleared("t", b"x", False),
        lambda: Cleared("t", b"x", False, object()),
        lambda: ClearedRecord("t", b"", b"x", (), None),
        lambda: type("Mine", (Cleared,), {}),
        lambda: type("Mine", (ClearedRecord,), {}),
        lambda: dataclasses.replace(CLEARED, payload=b"x"),
        lambda: dataclasses.replace(RECORD, value=b"x"),
        lambda: msgspec.structs.replace(CLEARED, payload=b"x"),  # type: ignore[type-var]
        lambda: CLEARED.__replace__(payload=b"x"),  # type: ignore[attr-defined]
        lambda: copy.copy(CLEARED),
        lambda: copy.deepcopy(RECORD),
        lambda: pickle.dumps(CLEARED),
        lambda: pickle.dumps(RECORD),
        lambda: msgspec.json.decode(b'{"topic":"t","payload":"","retain":false}', type=Cleared),
        lambda: setattr(CLEARED, "payload", b"x"),
        lambda: setattr(RECORD, "value", b"x"),
    ],
)
def test_nothing_but_the_gate_makes_or_changes_what_is_cleared(make: Callable[[], object]) -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        make()


def test_no_other_file_holds_the_gates_token() -> None:
    root = Path(pipeline.__file__).parents[1]
    files = [file for package in ("pipeline", "models", "agents") for file in (root / package).rglob("*.py")]
    forging = re.compile(r"gate\b.*_TOKEN|object\.__new__\(Cleared")
    assert [file for file in files if forging.search(file.read_text())] == []
