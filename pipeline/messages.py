"""Every message of Tierwise: frozen structs, their wire form and their limits.

A photo of a cat causes these messages (`>` is MQTT, `#` is Kafka)::

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

Messages that people read or write are JSON (`Result`, `SightingReport`, `Ack`, `Refusal`, `Status`). Messages between
agents are msgpack and have a version. `encode` and `decode` choose the form by the type::

    >>> decode(EventAck, encode(EventAck(ids=("0193",))))
    EventAck(ids=('0193',), v=1)

This module imports no other module of ours.
"""

from __future__ import annotations

import enum
import re
from typing import ClassVar, Final, TypeVar

import msgspec

VERSION = 1
"""Version of the msgpack messages. A reader refuses any other version: upgrade the edge of a site first."""

FRAME_MAX_BYTES = 16 << 20
READING_MAX_BYTES = 64 << 10
UPLINK_MAX_BYTES = 128 << 10
"""Largest uplink batch: a batch is repeated as a whole after a cut, and brokers take this size by default."""


class Malformed(ValueError):
    """A payload is not the expected message; `reason` is the name for counters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# --- vocabulary ------------------------------------------------------------------------------------------------


class Tier(enum.StrEnum):
    """Where a computation runs, ordered from the capture to the cloud."""

    DEVICE = "device"
    EDGE = "edge"
    CLOUD = "cloud"

    @property
    def depth(self) -> int:
        """The position in this order: 0 for the device, 2 for the cloud."""
        return _TIERS.index(self)


_TIERS = tuple(Tier)


class Privacy(enum.StrEnum):
    """How far a record may travel in the clear: a higher level stays nearer. A lattice under `join`."""

    PUBLIC = "public"
    EDGE_PRIVATE = "edge-private"
    USER_PRIVATE = "user-private"

    @property
    def height(self) -> int:
        """The position among the levels: 0 for public, 2 for user-private."""
        return _LEVELS.index(self)

    @property
    def reach(self) -> Tier:
        """The last tier that may hold the record in the clear."""
        return _TIERS[len(_TIERS) - 1 - self.height]

    def join(self, other: Privacy) -> Privacy:  # type: ignore[override]  # the lattice's join, not that of str
        """Return the higher of the two levels: a level is never lowered."""
        return self if self.height >= other.height else other


_LEVELS = tuple(Privacy)


class Kind(enum.StrEnum):
    """The kind of data in a record."""

    PIXELS = "pixels"
    FEATURE = "feature"
    RESULT = "result"
    READING = "reading"
    SUMMARY = "summary"
    LABEL = "label"
    """A person's label of an event: as private as the event's result."""
    SUM = "sum"
    """Statistics that a site learned: as private as their events, unless a named rule of the gate lets them out."""


LEVELLED = (Kind.PIXELS, Kind.FEATURE, Kind.RESULT, Kind.READING, Kind.SUMMARY)
"""Kinds that have a level in the settings; the levels of the other kinds follow from these."""


class Task(enum.StrEnum):
    """The question that a stream answers."""

    WILDLIFE = "wildlife"
    OCCUPANCY = "occupancy"
    METER = "meter"


class Rank(enum.StrEnum):
    """The depth of an answer; `RANKS` orders the ranks of each task."""

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
"""The label of a tier that does not guess."""


class JsonMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the messages that people read: JSON."""

    WIRE: ClassVar[str] = "json"


class MsgpackMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the messages between agents: msgpack, with a version."""

    WIRE: ClassVar[str] = "msgpack"


class Levels(msgspec.Struct, frozen=True, array_like=True):
    """The privacy level of each kind of record of one event."""

    pixels: Privacy = Privacy.USER_PRIVATE
    feature: Privacy = Privacy.USER_PRIVATE
    result: Privacy = Privacy.EDGE_PRIVATE
    reading: Privacy = Privacy.USER_PRIVATE
    summary: Privacy = Privacy.USER_PRIVATE

    def of(self, kind: Kind) -> Privacy:
        """Return the level of a kind of record."""
        if kind is Kind.LABEL:
            return self.result
        if kind is Kind.SUM:
            return self.feature.join(self.result)
        level: Privacy = getattr(self, kind.value)
        return level

    def join(self, other: Levels) -> Levels:
        """Return the higher of both levels for each kind."""
        return Levels(*(self.of(kind).join(other.of(kind)) for kind in LEVELLED))


# --- for people ------------------------------------------------------------------------------------------------


class Forecast(JsonMessage, frozen=True):
    """Expected hourly means from `start` on, and the band that should contain nine of ten hours."""

    start: str
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Result(JsonMessage, frozen=True, omit_defaults=True):
    """One tier's answer about an event. Clients keep an event's highest revision."""

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
    """The tier that may still refine this answer; None if no tier will."""
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
    """Time from the receipt by the device agent to this answer, by this tier's clock."""
    value: float | None = None
    unit: str | None = None
    room: str | None = None
    forecast: Forecast | None = None
    flags: tuple[str, ...] = ()
    """Oddities of the event that did not stop it, as ``time-implausible``."""

    @property
    def source(self) -> str:
        """The stream's full name, ``site/device/stream``."""
        return f"{self.site}/{self.device}/{self.stream}"


class SightingReport(JsonMessage, frozen=True):
    """The consensus over the frames of a sighting so far; `closed` when no more frames will join it."""

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
    """The number of frames whose deepest answer lies on the path of the consensus."""
    privacy: Privacy
    closed: bool
    rule: str
    model: str

    @property
    def source(self) -> str:
        """The stream's full name, ``site/device/stream``."""
        return f"{self.site}/{self.device}/{self.stream}"


class Ack(JsonMessage, frozen=True):
    """The device agent has committed these events: they will not be lost."""

    ids: tuple[str, ...]
    topic: str
    sha256: str = ""
    """Digest of the payload: a publisher that sent no id recognises its message by it."""


class Refusal(JsonMessage, frozen=True):
    """Why an input was refused. It never holds the content of the input."""

    reason: str
    detail: str
    topic: str
    size_bytes: int
    sha256: str
    time: str


class Update(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tier's progress with a release of the heads: the candidate, its stage, and the rule that led there."""

    stage: str
    """``idle``, ``verifying``, ``smoke``, ``shadow``, ``canary``, ``promoted``, ``rolled-back``, ``refused``."""
    candidate: str = ""
    """The release on trial: ``lite0@3``."""
    since: str = ""
    rule: str = ""
    """Name of the rule (see `agents.rollout.rules.RULES`) that led here."""
    reason: str = ""
    previous: str = ""
    """The release to return to after a rollback."""
    refused: str = ""
    """The release that was refused or rolled back last, and the reason."""
    trouble: str = ""
    """Why no newer release can be found, if something is wrong: ``expired-metadata: …``."""


class Status(JsonMessage, frozen=True):
    """An agent's state, retained. The broker publishes `offline` as the agent's last will."""

    state: str
    role: str
    version: str
    time: str
    models: tuple[str, ...] = ()
    backlog: int = 0
    """Records that wait for the next hop's acknowledgement."""
    update: Update | None = None
    """On tiers that take releases: `models` names the serving models, `update` the release that may serve next."""


# --- labels and label requests -------------------------------------------------------------------------------


class Label(JsonMessage, frozen=True, omit_defaults=True):
    """A person's label of an event. Each person's latest label counts, beside the labels of other persons."""

    event: str
    label: str | None
    """Any label of the tree; None withdraws this person's earlier label."""
    by: str = ""
    """The person's name. All people who give no name count as one person."""
    time: str = ""
    """When the person gave the label, RFC 3339; empty means when it was received. The latest label counts."""
    under: str = ""
    """Where a label that the tree lacks belongs: ``Felidae``, or ``animal/Herpestidae`` for a new family."""
    english: str = ""
    """The common name of a new label."""


class Ask(JsonMessage, frozen=True):
    """A label request: an event whose label would teach most. The site's people get few of them a day."""

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


class Drift(JsonMessage, frozen=True):
    """A stream, a class or a tier whose behaviour has changed, and what the edge did about it."""

    time: str
    site: str
    device: str
    stream: str
    rule: str
    """``confidence-fell``, ``unknown-rose``, ``feature-moved``, ``labels-disagree``; or ``camera-dark``,
    ``-blurred``, ``-frozen`` or ``-moved``."""
    signal: str
    before: float
    now: float
    reason: str
    privacy: Privacy


# --- for Home Assistant ----------------------------------------------------------------------------------------


class DiscoveryDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device that an entity belongs to, as Home Assistant shows it."""

    identifiers: tuple[str, ...]
    name: str
    via_device: str = ""
    sw_version: str = ""


class DiscoveryOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The software that announces the entity."""

    name: str = "Tierwise"
    sw_version: str = ""


class Discovery(JsonMessage, frozen=True, omit_defaults=True):
    """One entity of Home Assistant's MQTT discovery: the topic of its state and how to read it. Retained.

    It holds names and topics, and no observation. Home Assistant's documentation describes the fields.
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
    """Seconds after which a binary sensor turns off by itself; 0 means never."""
    device_class: str = ""
    state_class: str = ""
    unit_of_measurement: str = ""
    entity_category: str = ""
    icon: str = ""


# --- device <-> edge -------------------------------------------------------------------------------------------


class Crop(msgspec.Struct, frozen=True, tag="crop"):
    """The pixels around a movement."""

    jpeg: bytes
    box: tuple[float, float, float, float]
    """Left, top, right and bottom as shares of the frame's width and height."""


class Vector(msgspec.Struct, frozen=True, tag="vector"):
    """A feature instead of pixels: uint8 components in the named feature space."""

    space: str
    data: bytes


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A sensor's report by exception: the changed value, and the sums over all readings since the last report.

    The sums include this reading, so hourly means stay exact.
    """

    value: float
    unit: str
    count: int
    total: float
    low: float
    high: float


class Event(MsgpackMessage, frozen=True):
    """The device's answer about one event, and the data with which the edge can refine it."""

    result: Result
    boot: int
    sequence: int
    received_s: float
    """When the device agent received the event, UTC seconds; each tier counts its latency from here."""
    wants: Rank
    levels: Levels
    person: float = 0.0
    """Probability that a person is in the frame."""
    room: str | None = None
    body: Crop | Vector | Report | None = None
    sealed: tuple[Envelope, ...] = ()
    """Records that the edge may not read; their user lets them travel, so the device has sealed them."""
    v: int = VERSION


class EventAck(MsgpackMessage, frozen=True):
    """The edge has committed these events."""

    ids: tuple[str, ...]
    v: int = VERSION


# --- edge <-> cloud --------------------------------------------------------------------------------------------


class Envelope(MsgpackMessage, frozen=True):
    """A record with all facts for its routing; nobody reads the payload on the way.

    In a user-private record `source`, `time` and `space` are empty and `key` is an HMAC, so the cloud learns neither
    device nor time.
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
    """Id of the key that opens the payload; empty if the payload is in the clear."""

    @property
    def id(self) -> str:
        """The record's name in acknowledgements and for deduplication."""
        return f"{self.event}/{self.kind}/{self.revision}"


class Feature(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a feature envelope, as small as possible, since a metered link pays for each byte."""

    data: bytes
    sighting: str
    """The sighting's id; empty for the first event of a sighting."""
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
    """Grows when late readings change an hour that was sent already."""
    room: str | None = None

    @property
    def mean(self) -> float:
        """The mean of the hour's readings."""
        return self.total / self.count


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a label envelope: one person's current label of an event. `by` is the site's pseudonym for them."""

    label: str | None
    by: str
    under: str = ""
    english: str = ""
    time: str = ""


class Labelled(msgspec.Struct, frozen=True):
    """Value on the labelled topic: an event's feature and people's votes."""

    event: str
    source: str
    time: str
    space: str
    data: bytes
    """The vector, uint8."""
    votes: tuple[Vote, ...]
    revision: int
    """Grows with each change; an event's highest revision is the valid one."""
    path: tuple[str, ...] = ()
    """The edge's answer at the time when the feature left the site."""
    v: int = VERSION


class SumIncrement(msgspec.Struct, frozen=True):
    """Payload of a sum envelope: what a site adds to the sums, and the number of its events by label."""

    space: str
    number: int
    """The number of this increment, from 1; the fold takes each number of a site once."""
    counts: tuple[tuple[str, int], ...]
    """Events by label: the gate's rule reads them, and the fold checks them against the sums."""
    sums: bytes
    """The sums, packed by `pipeline.sums.packing`."""
    under: tuple[tuple[str, str], ...] = ()
    """Where labels belong that the tree lacks."""
    v: int = VERSION


class UplinkBatch(MsgpackMessage, frozen=True):
    """A batch of records from edge to gateway."""

    site: str
    envelopes: tuple[Envelope, ...]
    v: int = VERSION


class UplinkAck(MsgpackMessage, frozen=True):
    """Kafka has stored these records (`Envelope.id`)."""

    ids: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Records that are refused for good: their reasons are on the rejected topic. Do not send them again."""
    v: int = VERSION


class Downlink(MsgpackMessage, frozen=True):
    """The cloud's answers for one site, from gateway to edge."""

    results: tuple[Result, ...]
    v: int = VERSION


class DownlinkAck(MsgpackMessage, frozen=True):
    """The edge has committed these answers (`downlink_id`)."""

    ids: tuple[str, ...]
    v: int = VERSION


# --- releases ------------------------------------------------------------------------------------------------


class ChunkWanted(MsgpackMessage, frozen=True):
    """An edge's request to the gateway for a part of a release's file."""

    digest: str
    """SHA-256 of the whole file, hex."""
    offset: int
    length: int
    v: int = VERSION


class Chunk(MsgpackMessage, frozen=True):
    """The gateway's answer: the requested part, shorter at the file's end, empty if the gateway lacks the file."""

    digest: str
    offset: int
    data: bytes
    v: int = VERSION


def downlink_id(result: Result) -> str:
    """Return the name of a cloud's answer between gateway and edge."""
    return f"{result.event}/{result.revision}"


# --- wire form -------------------------------------------------------------------------------------------------

M = TypeVar("M", bound=msgspec.Struct)


def encode(message: msgspec.Struct) -> bytes:
    """Return the message's wire form: JSON if people read it, else msgpack."""
    if getattr(message, "WIRE", "msgpack") == "json":
        return msgspec.json.encode(message)
    return msgspec.msgpack.encode(message)


def decode(kind: type[M], payload: bytes) -> M:
    """Read a message of this type.

    Raises
    ------
    Malformed
        The bytes are not such a message, or have a version that this release does not know.
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
            f"{kind.__name__} has version {version}, this release speaks version {VERSION}: upgrade the older agent",
        )
    return message


_PLAIN: Final = (
    "Expected ",
    "Object missing required field ",
    "Input data was truncated",
    "JSON is malformed",
)
"""The beginnings of msgspec's messages that name only our own types. Its other messages may quote the content."""
_PATH: Final = re.compile(r" - at (`\$[\w.\[\]]*`)$")


def _where(error: str) -> str:
    """Return the problem and its field without any of the content, since refusals are published.

    >>> _where("Invalid enum value 'the diary' - at `$.privacy`")
    ': at `$.privacy`'
    >>> _where("Expected `str`, got `int` - at `$.ids[...]`")
    ': Expected `str`, got `int` - at `$.ids[...]`'
    """
    if error.startswith(_PLAIN):
        return f": {error}"
    path = _PATH.search(error)
    return f": at {path[1]}" if path else ""
