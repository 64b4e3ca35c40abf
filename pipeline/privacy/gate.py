"""The privacy gate: every message must be cleared here before it leaves a process over a transport.

The gate stands between an agent's outbox and every transport. Transports take only `Cleared` (MQTT) and `ClearedRecord`
(Kafka), and only this file can make these: so the types prove that the gate was asked. It does not rely on its callers:
it reads the levels from the message, and the tier that reads a topic from the topic's name.

    >>> clear(Ack(ids=("0193",), topic="t"), topics.ack("home", "cam1"), to=Tier.EDGE).payload
    b'{"ids":["0193"],"topic":"t","sha256":"","repeat":false}'

`CONTENTS` lists for each type of message what it holds; a type without a row is withheld. Python cannot stop malicious
code in the same process (``object.__new__``): the types prevent mistakes, and sealing protects against the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from typing import Any, Final, NamedTuple, NoReturn, final
from uuid import UUID

import msgspec

from pipeline import records, topics
from pipeline.errors import Rejected, Withheld
from pipeline.messages import (
    Ack,
    Ask,
    Chunk,
    ChunkWanted,
    Crop,
    Discovery,
    Downlink,
    DownlinkAck,
    Drift,
    Envelope,
    Event,
    EventAck,
    Kind,
    Label,
    Malformed,
    Privacy,
    Rank,
    Refusal,
    Report,
    Result,
    SightingReport,
    Status,
    StreamPicture,
    Tier,
    UplinkAck,
    UplinkBatch,
    Vector,
    Vote,
    decode,
    encode,
)
from pipeline.privacy.released import check_file, check_key
from pipeline.privacy.seal import OVERHEAD_BYTES, PSEUDONYM, ROUTING_KEY

_TOKEN: Final = object()
"""Only this file has this token, and no `Cleared` can be made without it."""


@final
@dataclass(frozen=True, slots=True)
class Cleared:
    """A payload that may be published on this MQTT topic."""

    topic: str
    payload: bytes
    retain: bool
    token: InitVar[object] = None

    def __post_init__(self, token: object) -> None:
        _demand(token)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Cleared cannot be subclassed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Cleared cannot be stored or copied: keep the message and clear it again")


@final
@dataclass(frozen=True, slots=True)
class ClearedRecord:
    """A record that may be produced to this Kafka topic. A record without a value deletes its key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    token: InitVar[object] = None

    def __post_init__(self, token: object) -> None:
        _demand(token)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("ClearedRecord cannot be subclassed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("ClearedRecord cannot be stored or copied: keep the envelope and clear it again")


def clear(message: msgspec.Struct, topic: str, *, to: Tier) -> Cleared:
    """Let a message out on an MQTT topic, if the tier `to` and all readers of the topic may see everything in it.

    Raises
    ------
    Withheld
        A part of the message may not travel so far, a part is marked as sealed but is not, or the gate does not know
        the message's type.
    """
    _judge(message, max(to, reach(topic), key=lambda tier: tier.depth))
    payload = message.jpeg if isinstance(message, StreamPicture) else encode(message)
    return _pass(topic, payload, retain=type(message) in RETAINED)


def clear_capture(topic: str, payload: bytes) -> Cleared:
    """Let a publisher's own frame or reading out, on the topics that the device tier reads.

    Raises
    ------
    Withheld
        The topic is not a ``frame/`` or ``reading/`` topic.
    """
    parsed = topics.parse(topic)
    if parsed is None or parsed.channel not in ("frame", "reading"):
        raise Withheld(f"{topic}: a capture is published on a frame/ or reading/ topic and nowhere else")
    return _pass(topic, payload, retain=False)


def clear_record(envelope: Envelope, topic: str = topics.INGEST) -> ClearedRecord:
    """Let an envelope into Kafka, which belongs to the cloud: the envelope must be public or sealed.

    Raises
    ------
    Withheld
        For the reasons of `clear`.
    """
    _judge(envelope, Tier.CLOUD)
    return _pass_record(records.to_record(envelope, topic))


def clear_refusal(refusal: Refusal) -> ClearedRecord:
    """Let a refusal into Kafka's rejected topic; it holds no content and no key."""
    header = (topics.Header.REASON, refusal.reason.encode())
    return _pass_record(records.Record(topics.REJECTED, b"", encode(refusal), (header,)))


def clear_metadata(file: str, payload: bytes) -> Cleared:
    """Let a file of signed release metadata out, retained; an empty payload clears its topic. Raises `Withheld`."""
    check_file(file, payload or None)
    return _pass(topics.release_metadata(file), payload, retain=True)


def clear_release(key: str, value: bytes | None) -> ClearedRecord:
    """Let a file of the release repository, or a part, into Kafka; None deletes its key there. Raises `Withheld`."""
    check_key(key, value)
    return _pass_record(records.Record(topics.MODELS, key.encode(), value, ()))


# --- where a topic reaches -------------------------------------------------------------------------------------

READ_BY: Final[Mapping[str, Tier]] = {
    "frame": Tier.DEVICE,
    "reading": Tier.DEVICE,
    "private": Tier.DEVICE,
    "ack": Tier.EDGE,
    "event": Tier.EDGE,
    "event-ack": Tier.EDGE,
    "result": Tier.EDGE,
    "sighting": Tier.EDGE,
    "image": Tier.EDGE,
    "rejected": Tier.EDGE,
    "label": Tier.EDGE,
    "ask": Tier.EDGE,
    "drift": Tier.EDGE,
    "status": Tier.EDGE,
}
"""The outermost tier that reads a device's channel. The user's own clients read ``private``."""


def reach(topic: str) -> Tier:
    """Return the outermost tier that reads a topic; the cloud for an unknown topic."""
    if topics.is_discovery(topic):
        return Tier.EDGE
    parsed = topics.parse(topic)
    if parsed is None or parsed.site in topics.RESERVED:
        return Tier.CLOUD
    return READ_BY.get(parsed.channel, Tier.CLOUD)


# --- what a message holds --------------------------------------------------------------------------------------


class Content(NamedTuple):
    """A piece of a message's content."""

    event: str
    kind: str
    level: Privacy
    sealed: bool = False


def _result(result: Result) -> Iterator[Content]:
    yield Content(result.event, Kind.RESULT, result.privacy)


def _sighting(report: SightingReport) -> Iterator[Content]:
    yield Content(report.sighting, Kind.RESULT, report.privacy)


def _picture(picture: StreamPicture) -> Iterator[Content]:
    if picture.jpeg:
        yield Content(picture.event, Kind.PIXELS, picture.privacy)


def _label(label: Label) -> Iterator[Content]:
    # The person who labels does not know the event's level: the label stays at the site until the edge finds the level.
    yield Content(label.event, Kind.LABEL, Privacy.EDGE_PRIVATE)


def _ask(ask: Ask) -> Iterator[Content]:
    yield Content(ask.event, Kind.RESULT, ask.privacy)


def _drift(drift: Drift) -> Iterator[Content]:
    yield Content(f"of {drift.stream}", Kind.RESULT, drift.privacy)


def _event(event: Event) -> Iterator[Content]:
    name, levels = event.result.event, event.levels
    yield Content(name, Kind.RESULT, event.result.privacy.join(levels.result))
    if event.result.value is not None or (event.result.rank is Rank.STATE and len(event.result.path) > 1):
        yield Content(name, Kind.READING, levels.reading)
    if event.body is not None:
        kind = BODIES.get(type(event.body))
        if kind is None:
            raise Withheld(f"event {name}: the gate does not know a body of type {type(event.body).__name__}")
        yield Content(name, kind, levels.of(kind))
    for envelope in event.sealed:
        if not envelope.sealed_by:
            raise Withheld(f"event {name}: its {envelope.kind} is among the sealed records, but is not sealed")
        yield from _envelope(envelope)


def _envelope(envelope: Envelope) -> Iterator[Content]:
    level = envelope.privacy
    if envelope.sealed_by:
        _check_sealed(envelope)
    elif envelope.kind is Kind.RESULT:
        level = level.join(_answer_level(envelope))
    elif envelope.kind is Kind.LABEL:
        _check_vote(envelope)
    elif envelope.kind is Kind.SUM and level is Privacy.PUBLIC:
        from pipeline.privacy import sums_rule  # NumPy is 8 MB, which most processes never need

        if broken := sums_rule.complaint(envelope):
            raise Withheld(f"sums {envelope.event}: rule {sums_rule.RULE}: {broken}; they stay at their site")
    yield Content(envelope.event, envelope.kind, level, bool(envelope.sealed_by))


def _batch(batch: UplinkBatch) -> Iterator[Content]:
    for envelope in batch.envelopes:
        yield from _envelope(envelope)


def _downlink(downlink: Downlink) -> Iterator[Content]:
    for result in downlink.results:
        yield from _result(result)


def _nothing(_message: msgspec.Struct) -> Iterator[Content]:
    """Yield nothing: the message holds ids, names, reasons and states, and no observation."""
    yield from ()


CONTENTS: Final[Mapping[type, Callable[[Any], Iterator[Content]]]] = {
    Result: _result,
    SightingReport: _sighting,
    Event: _event,
    Envelope: _envelope,
    UplinkBatch: _batch,
    Downlink: _downlink,
    Ack: _nothing,
    Refusal: _nothing,
    Status: _nothing,
    Discovery: _nothing,
    StreamPicture: _picture,
    EventAck: _nothing,
    UplinkAck: _nothing,
    DownlinkAck: _nothing,
    Label: _label,
    Ask: _ask,
    Drift: _drift,
    ChunkWanted: _nothing,
    Chunk: _nothing,
}
"""The content of each type of message, by exact type: a subclass could hold more."""

RETAINED: Final = frozenset({Status, Discovery, StreamPicture})
"""Messages that the broker keeps for later subscribers."""

BODIES: Final[Mapping[type, Kind]] = {Crop: Kind.PIXELS, Vector: Kind.FEATURE, Report: Kind.READING}


# --- judging ---------------------------------------------------------------------------------------------------


def may_see(tier: Tier, level: Privacy) -> bool:
    """Return whether a tier may hold a record of this level in the clear."""
    return tier.depth <= level.reach.depth


def _judge(message: msgspec.Struct, to: Tier) -> None:
    contents = CONTENTS.get(type(message))
    if contents is None:
        raise Withheld(f"the gate does not know the type {type(message).__name__}, so no tier may see it")
    for content in contents(message):
        if not content.sealed and not may_see(to, content.level):
            raise Withheld(
                f"event {content.event}: its {content.kind} is {content.level}; in the clear it may reach the "
                f"{content.level.reach}, but not the {to}"
            )


def _check_sealed(envelope: Envelope) -> None:
    """Check from outside that the payload can be sealed, and that a user-private header reveals nothing."""
    if len(envelope.payload) < OVERHEAD_BYTES:
        raise Withheld(f"event {envelope.event}: its {envelope.kind} is marked as sealed, but is too short for that")
    if envelope.privacy is not Privacy.USER_PRIVATE:
        return
    if envelope.source or envelope.time or envelope.space or envelope.revision != 1:
        raise Withheld(f"event {envelope.event}: a user-private header must not name source, time, space or revision")
    if ROUTING_KEY.fullmatch(envelope.key) is None or _reveals_time(envelope.event):
        raise Withheld(
            f"event {envelope.event}: the key and id of a user-private header must reveal nothing; make it with "
            "seal.build_private"
        )


def _check_vote(envelope: Envelope) -> None:
    """Check that a label in the clear does not name the person who gave it."""
    try:
        vote = decode(Vote, envelope.payload)
    except Malformed:
        raise Withheld(f"event {envelope.event}: its label is in the clear, but is not a vote") from None
    if PSEUDONYM.fullmatch(vote.by) is None:
        raise Withheld(
            f"event {envelope.event}: a label leaves its site only under a pseudonym; make it with seal.pseudonym"
        )


def _reveals_time(event: str) -> bool:
    """Return whether an id may reveal when it was made, as UUIDv7 does."""
    try:
        return UUID(event).version != 8
    except ValueError:
        return True


def _answer_level(envelope: Envelope) -> Privacy:
    """Return the level that the answer itself states."""
    try:
        return records.answer(envelope.payload).privacy
    except Rejected:
        raise Withheld(f"event {envelope.event}: its result is in the clear, but is not an answer of ours") from None


# --- passing ---------------------------------------------------------------------------------------------------


def _pass(topic: str, payload: bytes, *, retain: bool) -> Cleared:
    """Make a `Cleared`; no other code does."""
    return Cleared(topic, payload, retain, _TOKEN)


def _pass_record(record: records.Record) -> ClearedRecord:
    """Make a `ClearedRecord`; no other code does."""
    return ClearedRecord(*record, _TOKEN)


def _demand(token: object) -> None:
    if token is not _TOKEN:
        raise TypeError(
            "only the gate clears: call clear(), clear_record() or clear_capture() of pipeline.privacy.gate"
        )
