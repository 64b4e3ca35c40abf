"""Every message of Tierwise: frozen structs, their wire form, their limits.

What a photo of a cat causes, from left to right (`>` is MQTT, `#` is Kafka)::

    camera    device            edge                 gateway        router          cloud
      | frame > |                 |                     |              |              |
      | < ack   | result >        |                     |              |              |
      |         | Event >         |                     |              |              |
      |         | < EventAck      | result >            |              |              |
      |         |                 | UplinkBatch >       |              |              |
      |         |                 |                     | # Envelope   | # Envelope   |
      |         |                 | < UplinkAck         |              |              |
      |         |                 | < Downlink          |     # Result |       Result |
      |         |                 | DownlinkAck >       |              |              |
      |         |                 | result >            |              |              |

What people read and write is JSON (`Result`, `SightingReport`, `Ack`, `Refusal`, `Status`); what agents say to each
other is msgpack and carries a version. `encode` and `decode` know which::

    >>> decode(EventAck, encode(EventAck(ids=("0193",))))
    EventAck(ids=('0193',), v=1)

This module imports nothing of ours.
"""

from __future__ import annotations

import enum
import re
from typing import ClassVar, Final, TypeVar

import msgspec

VERSION = 1
"""Of the msgpack messages. A reader refuses any other: agents of one site are upgraded edge first."""

FRAME_MAX_BYTES = 16 << 20
READING_MAX_BYTES = 64 << 10
UPLINK_MAX_BYTES = 128 << 10
"""A batch stays below this: it is repeated whole when a link drops, and brokers' defaults accept it."""


class Malformed(ValueError):
    """A payload that is not the message it should be; `reason` is the counter's name for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# --- words -----------------------------------------------------------------------------------------------------


class Tier(enum.StrEnum):
    """Where a computation runs, ordered from the capture to the cloud."""

    DEVICE = "device"
    EDGE = "edge"
    CLOUD = "cloud"

    @property
    def depth(self) -> int:
        return _TIERS.index(self)


_TIERS = tuple(Tier)


class Privacy(enum.StrEnum):
    """How far a record may travel in the clear: the higher, the less far. A lattice under `join`."""

    PUBLIC = "public"
    EDGE_PRIVATE = "edge-private"
    USER_PRIVATE = "user-private"

    @property
    def height(self) -> int:
        return _LEVELS.index(self)

    @property
    def reach(self) -> Tier:
        """The last tier that may hold the record in the clear."""
        return _TIERS[len(_TIERS) - 1 - self.height]

    def join(self, other: Privacy) -> Privacy:  # type: ignore[override]  # the lattice's word; no text is joined
        """The higher of the two: levels are only ever raised."""
        return self if self.height >= other.height else other


_LEVELS = tuple(Privacy)


class Kind(enum.StrEnum):
    """What a record carries."""

    PIXELS = "pixels"
    FEATURE = "feature"
    RESULT = "result"
    READING = "reading"
    SUMMARY = "summary"
    LABEL = "label"
    """A person's word about an event: as private as the event's result."""
    SUM = "sum"
    """Statistics that a site learned: as private as what they are of, but for a named rule of the gate."""


LEVELLED = (Kind.PIXELS, Kind.FEATURE, Kind.RESULT, Kind.READING, Kind.SUMMARY)
"""Kinds that the settings give a level; the others follow from these."""


class Task(enum.StrEnum):
    """What is asked of a stream."""

    WILDLIFE = "wildlife"
    OCCUPANCY = "occupancy"
    METER = "meter"


class Rank(enum.StrEnum):
    """Depth of an answer; `RANKS` orders them by task."""

    KINGDOM = "kingdom"
    FAMILY = "family"
    SPECIES = "species"
    STATE = "state"
    ACTIVITY = "activity"
    PATTERN = "pattern"


RANKS: dict[Task, tuple[Rank, ...]] = {
    Task.WILDLIFE: (Rank.KINGDOM, Rank.FAMILY, Rank.SPECIES),
    Task.OCCUPANCY: (Rank.STATE, Rank.ACTIVITY, Rank.PATTERN),
    Task.METER: (Rank.STATE, Rank.PATTERN),
}

UNKNOWN = "unknown"
"""The label of a tier that will not guess."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What people read: JSON."""

    WIRE: ClassVar[str] = "json"


class Packed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What agents say to each other: msgpack, versioned."""

    WIRE: ClassVar[str] = "msgpack"


class Levels(msgspec.Struct, frozen=True, array_like=True):
    """The level of each kind of record of one event."""

    pixels: Privacy = Privacy.USER_PRIVATE
    feature: Privacy = Privacy.USER_PRIVATE
    result: Privacy = Privacy.EDGE_PRIVATE
    reading: Privacy = Privacy.USER_PRIVATE
    summary: Privacy = Privacy.USER_PRIVATE

    def of(self, kind: Kind) -> Privacy:
        if kind is Kind.LABEL:
            return self.result
        if kind is Kind.SUM:
            return self.feature.join(self.result)
        level: Privacy = getattr(self, kind.value)
        return level

    def join(self, other: Levels) -> Levels:
        """Raise each kind to the higher of both."""
        return Levels(*(self.of(kind).join(other.of(kind)) for kind in LEVELLED))


# --- for people ------------------------------------------------------------------------------------------------


class Forecast(Message, frozen=True):
    """Expected hourly means from `start` on, with the band that nine of ten hours should fall into."""

    start: str
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Result(Message, frozen=True, omit_defaults=True):
    """One tier's answer about an event. Clients keep the highest revision of an event."""

    event: str
    time: str
    site: str
    device: str
    stream: str
    sighting: str | None
    task: Task
    tier: Tier
    revision: int
    pending: Tier | None
    """The tier that may still refine this answer, or None: this is the last word for now."""
    rank: Rank
    label: str
    path: tuple[str, ...]
    probability: float
    privacy: Privacy
    rule: str
    """Name of the rule (see `models.answering.cascade.RULES`) that stopped or forwarded the event here."""
    reason: str
    model: str
    latency_ms: float
    """From the event's receipt by the device agent to this answer, by this tier's clock."""
    value: float | None = None
    unit: str | None = None
    room: str | None = None
    forecast: Forecast | None = None
    flags: tuple[str, ...] = ()
    """What was odd about the event and did not stop it: ``time-implausible``."""

    @property
    def source(self) -> str:
        return f"{self.site}/{self.device}/{self.stream}"


class SightingReport(Message, frozen=True):
    """The consensus over a sighting's frames so far; `closed` when no further frame will join it."""

    sighting: str
    time: str
    until: str
    site: str
    device: str
    stream: str
    revision: int
    rank: Rank
    label: str
    path: tuple[str, ...]
    probability: float
    frames: int
    agree: int
    """How many frames' deepest answers lie on the consensus' path."""
    privacy: Privacy
    closed: bool
    rule: str
    model: str

    @property
    def source(self) -> str:
        return f"{self.site}/{self.device}/{self.stream}"


class Ack(Message, frozen=True):
    """The device agent committed these events: nothing will lose them."""

    ids: tuple[str, ...]
    topic: str
    sha256: str = ""
    """Of the payload, so that a publisher who sent no id recognises its own message."""


class Refusal(Message, frozen=True):
    """What bad input gets. Never its content."""

    reason: str
    detail: str
    topic: str
    size_bytes: int
    sha256: str
    time: str


class Update(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a tier stands with a release of the heads: which one it tries, how far that is, and which rule said so."""

    stage: str
    """``idle``, ``verifying``, ``smoke``, ``shadow``, ``canary``, ``promoted``, ``rolled-back``, ``refused``."""
    candidate: str = ""
    """What is tried: ``lite0@3``."""
    since: str = ""
    rule: str = ""
    """Name of the rule (see `agents.rollout.rules.RULES`) that led here."""
    reason: str = ""
    previous: str = ""
    """What is gone back to, if it must be."""
    refused: str = ""
    """The release that was refused or rolled back last, and why."""
    trouble: str = ""
    """Why nothing newer is heard of, where that is not as it should be: ``expired-metadata: …``."""


class Status(Message, frozen=True):
    """Retained; the last will says `offline`."""

    state: str
    role: str
    version: str
    time: str
    models: tuple[str, ...] = ()
    backlog: int = 0
    """Records that wait for the next hop's acknowledgement."""
    update: Update | None = None
    """Of a tier that takes releases: `models` says what serves, this what may serve next."""


# --- labels, and what is asked of people ---------------------------------------------------------------------


class Label(Message, frozen=True, omit_defaults=True):
    """A person's word about an event. The last one by the same person counts; other persons' stand beside it."""

    event: str
    label: str | None
    """Any label of the tree; None takes this person's earlier word back."""
    by: str = ""
    """Empty: anonymous, who is one person with all who give no name."""
    time: str = ""
    """When it was said, RFC 3339; empty: when it was received. Of one person's words the latest counts."""
    under: str = ""
    """Of a label that the tree lacks, where it belongs: ``Felidae``, or ``animal/Herpestidae`` for a family that is new."""
    english: str = ""
    """Its common name, if it is new."""


class Ask(Message, frozen=True):
    """An event whose label would teach most: what the site's people are asked about, within a daily budget."""

    event: str
    time: str
    site: str
    device: str
    stream: str
    label: str
    """The answer so far."""
    path: tuple[str, ...]
    probability: float
    privacy: Privacy
    rule: str
    reason: str
    budget_left: int


class Drift(Message, frozen=True):
    """A stream, a class or a tier that is no longer what it was, and what was done about it."""

    time: str
    site: str
    device: str
    stream: str
    rule: str
    """``confidence-fell``, ``unknown-rose``, ``feature-moved``, ``labels-disagree``; ``camera-dark``, ``-blurred``, ``-frozen``,
    ``-moved``: a broken camera is no drift of what it sees."""
    signal: str
    before: float
    now: float
    reason: str
    privacy: Privacy


# --- for Home Assistant ----------------------------------------------------------------------------------------


class DiscoveryDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an entity belongs to, as Home Assistant shows it."""

    identifiers: tuple[str, ...]
    name: str
    via_device: str = ""
    sw_version: str = ""


class DiscoveryOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Who says so."""

    name: str = "Tierwise"
    sw_version: str = ""


class Discovery(Message, frozen=True, omit_defaults=True):
    """One entity of Home Assistant's MQTT discovery: where its state stands, and how to read it there. Retained; it holds
    names and topics, and nothing that was observed. Fields as Home Assistant documents them.
    """

    name: str
    unique_id: str
    state_topic: str
    value_template: str
    device: DiscoveryDevice
    origin: DiscoveryOrigin
    json_attributes_topic: str = ""
    availability_topic: str = ""
    availability_template: str = ""
    payload_on: str = ""
    payload_off: str = ""
    off_delay: int = 0
    """Seconds after which a binary sensor turns off by itself; 0: never."""
    device_class: str = ""
    state_class: str = ""
    unit_of_measurement: str = ""
    entity_category: str = ""
    icon: str = ""


# --- device <-> edge -------------------------------------------------------------------------------------------


class Crop(msgspec.Struct, frozen=True, tag="crop"):
    """Pixels around what moved."""

    jpeg: bytes
    box: tuple[float, float, float, float]
    """left, top, right, bottom as shares of the frame's width and height."""


class Vector(msgspec.Struct, frozen=True, tag="vector"):
    """A feature in place of pixels: uint8 components of the named space."""

    space: str
    data: bytes


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A sensor's report by exception: the value that changed, and the count and sums of all readings since the
    last report (this one included), so that hourly means stay exact.
    """

    value: float
    unit: str
    count: int
    total: float
    low: float
    high: float


class Event(Packed, frozen=True):
    """The device's answer about one event, and what the edge needs to refine it."""

    result: Result
    boot: int
    sequence: int
    received_s: float
    """When the device agent received it, UTC seconds: latencies are counted from here, by each tier's own clock."""
    wants: Rank
    levels: Levels
    person: float = 0.0
    """Probability that a person is anywhere in the frame."""
    room: str | None = None
    body: Crop | Vector | Report | None = None
    sealed: tuple[Envelope, ...] = ()
    """Records above the edge's level that their user lets travel, sealed on the device."""
    v: int = VERSION


class EventAck(Packed, frozen=True):
    """The edge committed these events."""

    ids: tuple[str, ...]
    v: int = VERSION


# --- edge <-> cloud --------------------------------------------------------------------------------------------


class Envelope(Packed, frozen=True):
    """A record with all that routing needs to know; the payload is not looked at on the way.

    Of a user-private record `source`, `time` and `space` are empty and `key` is an HMAC: the cloud learns
    neither device nor time.
    """

    event: str
    kind: Kind
    privacy: Privacy
    key: str
    payload: bytes
    source: str = ""
    time: str = ""
    space: str = ""
    revision: int = 1
    sealed_by: str = ""
    """Id of the key that opens the payload; empty: the payload is in the clear."""

    @property
    def id(self) -> str:
        """Names this record for acknowledgements and deduplication."""
        return f"{self.event}/{self.kind}/{self.revision}"


class Feature(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a feature envelope, as small as it gets: it is what a metered link pays for."""

    data: bytes
    sighting: str
    """Empty: the event is its sighting's first."""
    wants: Rank
    revision: int
    path: tuple[str, ...]
    probability: float
    latency_ms: float


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a summary envelope: one stream's readings in one hour."""

    hour: str
    """Start of the hour, RFC 3339, UTC."""
    task: Task
    unit: str
    count: int
    total: float
    low: float
    high: float
    revision: int = 1
    """Raised when late readings change an hour that was already told."""
    room: str | None = None

    @property
    def mean(self) -> float:
        return self.total / self.count


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a label envelope: one person's standing word about an event. `by` is a pseudonym of the site's."""

    label: str | None
    by: str
    under: str = ""
    english: str = ""
    time: str = ""


class Labelled(msgspec.Struct, frozen=True):
    """Value on the labelled topic: a feature and all that people say of its event."""

    event: str
    source: str
    time: str
    space: str
    data: bytes
    """The vector, uint8."""
    votes: tuple[Vote, ...]
    revision: int
    """Grows with each change; the highest one of an event counts."""
    path: tuple[str, ...] = ()
    """What the site's edge answered, when the feature left it."""
    v: int = VERSION


class SumIncrement(msgspec.Struct, frozen=True):
    """Payload of a sum envelope: what a site adds to the sums, and how many events of each label that is."""

    space: str
    number: int
    """Counts a site's increments from 1; each is taken once."""
    counts: tuple[tuple[str, int], ...]
    """Label to events: the gate's rule reads these, and the fold checks them against the sums."""
    sums: bytes
    """`pipeline.sums.sums` snapshot, deflated."""
    under: tuple[tuple[str, str], ...] = ()
    """Of labels that the tree lacks: where they belong."""
    v: int = VERSION


class UplinkBatch(Packed, frozen=True):
    """Edge to gateway."""

    site: str
    envelopes: tuple[Envelope, ...]
    v: int = VERSION


class UplinkAck(Packed, frozen=True):
    """Kafka acknowledged these records (`Envelope.id`)."""

    ids: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Records that will never be taken; they are told on the rejected topic, not sent again."""
    v: int = VERSION


class Downlink(Packed, frozen=True):
    """Gateway to edge: the cloud's answers for one site."""

    results: tuple[Result, ...]
    v: int = VERSION


class DownlinkAck(Packed, frozen=True):
    """The edge committed these answers (`downlink_id`)."""

    ids: tuple[str, ...]
    v: int = VERSION


# --- releases ------------------------------------------------------------------------------------------------


class ChunkWanted(Packed, frozen=True):
    """Edge to gateway: a part of a release's file."""

    digest: str
    """SHA-256 of the whole file, hex."""
    offset: int
    length: int
    v: int = VERSION


class Chunk(Packed, frozen=True):
    """Gateway to edge: that part, or less at the file's end; none: there is no such file here."""

    digest: str
    offset: int
    data: bytes
    v: int = VERSION


def downlink_id(result: Result) -> str:
    """Names a cloud's answer between gateway and edge."""
    return f"{result.event}/{result.revision}"


# --- wire form -------------------------------------------------------------------------------------------------

M = TypeVar("M", bound=msgspec.Struct)


def encode(message: msgspec.Struct) -> bytes:
    """The message's wire form: JSON where people read it, msgpack elsewhere."""
    if getattr(message, "WIRE", "msgpack") == "json":
        return msgspec.json.encode(message)
    return msgspec.msgpack.encode(message)


def decode(kind: type[M], payload: bytes) -> M:
    """Read a message of this type.

    Raises
    ------
    Malformed
        The bytes are no such message, or one of a version that this release does not speak.
    """
    try:
        if getattr(kind, "WIRE", "msgpack") == "json":
            return msgspec.json.decode(payload, type=kind)
        message = msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed("malformed", f"not a {kind.__name__}{_where(str(error))}") from None
    version = getattr(message, "v", VERSION)
    if version != VERSION:
        raise Malformed(
            "unknown-version",
            f"{kind.__name__} of version {version}; this release speaks version {VERSION}: upgrade the older agent",
        )
    return message


_PLAIN: Final = (
    "Expected ",
    "Object missing required field ",
    "Input data was truncated",
    "JSON is malformed",
)
"""How msgspec begins what it says of our own types; all else that it says may quote the content."""
_PATH: Final = re.compile(r" - at (`\$[\w.\[\]]*`)$")


def _where(error: str) -> str:
    """What is wrong and in which field, without a word of the content: what is refused is told to others.

    >>> _where("Invalid enum value 'the diary' - at `$.privacy`")
    ': at `$.privacy`'
    >>> _where("Expected `str`, got `int` - at `$.ids[...]`")
    ': Expected `str`, got `int` - at `$.ids[...]`'
    """
    if error.startswith(_PLAIN):
        return f": {error}"
    path = _PATH.search(error)
    return f": at {path[1]}" if path else ""
