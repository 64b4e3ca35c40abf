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
    """A place of computation, ordered from the capture to the cloud."""

    DEVICE = "device"
    EDGE = "edge"
    CLOUD = "cloud"

    @property
    def depth(self) -> int:
        """The position in this order: 0 for the device, 2 for the cloud."""
        return _TIERS.index(self)


_TIERS = tuple(Tier)


class Privacy(enum.StrEnum):
    """Limit of a record's travel in the clear: a higher level stays nearer. A lattice under `join`."""

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
    """Expected hourly means, with the band that nine of ten hours should fall into."""

    start: str
    """Start of the first hour."""
    mean: tuple[float, ...]
    """Expected mean of each hour."""
    low: tuple[float, ...]
    """Lower end of the band."""
    high: tuple[float, ...]
    """Upper end of the band."""


class Result(JsonMessage, frozen=True, omit_defaults=True):
    """One tier's answer about an event. Clients keep the highest revision of each event."""

    event: str
    """Id of the event (UUIDv7), made once, at capture or at the first agent."""
    time: str
    """Time of the event."""
    site: str
    device: str
    stream: str
    sighting: str | None
    """The first event of the frames that belong together. None for readings."""
    task: Task
    """Question that the stream's models answer."""
    tier: Tier
    """The tier that answers."""
    revision: int
    """Number of the answer among those about this event: 1, 2, 3."""
    pending: Tier | None
    """The tier that may still refine this answer, or None if the answer is final for now."""
    rank: Rank
    """Depth of the answer."""
    label: str
    """The answer; `unknown` if the tier will not guess."""
    path: tuple[str, ...]
    """The answer from the kingdom down."""
    probability: float
    """Calibrated probability of the label."""
    privacy: Privacy
    """Limit of this answer's travel in the clear."""
    rule: str
    """Name of the rule that stopped or forwarded the event here; see
    [architecture](../architecture.md#the-rules-of-the-cascade)."""
    reason: str
    """The decision in words."""
    model: str
    """Name and version of the model that answered."""
    latency_ms: float
    """Time from the event's receipt by the device agent to this answer, by this tier's clock."""
    value: float | None = None
    """Value of a reading, where its level allows it."""
    unit: str | None = None
    """Unit of the value."""
    room: str | None = None
    """Room of the sensor."""
    forecast: Forecast | None = None
    """Expected readings of the next day."""
    flags: tuple[str, ...] = ()
    """Oddities that did not stop the event, as `time-implausible`."""
    time_source: str = ""
    """Zone of the EXIF time that `time` was made of: `exif-offset` is the photo's own, `exif-timezone` the setting
    `timezone`. Empty: `time` is that of the file, the message or its receipt."""

    @property
    def source(self) -> str:
        """The stream's full name, ``site/device/stream``."""
        return f"{self.site}/{self.device}/{self.stream}"


class SightingReport(JsonMessage, frozen=True):
    """The consensus over the frames of a sighting so far."""

    sighting: str
    """Id of the sighting: its first event."""
    time: str
    """Time of the first frame."""
    until: str
    """Time of the last frame so far."""
    site: str
    device: str
    stream: str
    revision: int
    """Number of this report about the sighting."""
    rank: Rank
    label: str
    path: tuple[str, ...]
    probability: float
    frames: int
    """Number of frames so far."""
    agree: int
    """Number of frames whose deepest answers lie on the path of the consensus."""
    privacy: Privacy
    closed: bool
    """True if no further frame will join the sighting."""
    rule: str
    model: str

    @property
    def source(self) -> str:
        """The stream's full name, ``site/device/stream``."""
        return f"{self.site}/{self.device}/{self.stream}"


class Ack(JsonMessage, frozen=True):
    """Acknowledgement: the agent committed these events to its disk, so they cannot get lost.

    If no acknowledgement arrives within some seconds, publish again. Also the edge's answer to a label.
    """

    ids: tuple[str, ...]
    """Ids of the committed events."""
    topic: str
    """Topic of the acknowledged message."""
    sha256: str = ""
    """Digest of the payload: a publisher that sent no id recognises its message by it."""
    repeat: bool = False
    """The message was acknowledged before, and is not answered again."""


class Refusal(JsonMessage, frozen=True):
    """Reason why an input was refused. It never holds content.

    Inputs under an invalid device name are refused under the device `_`.
    """

    reason: str
    """Short name of the reason, as `image-truncated`."""
    detail: str
    """The problem and its remedy."""
    topic: str
    """Topic of the refused message."""
    size_bytes: int
    """Size of its payload."""
    sha256: str
    """Digest of its payload."""
    time: str
    """Time of the refusal."""


class Update(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of a release at one tier: which release it tries, how far it got, and which rule decided."""

    stage: str
    """``idle``, ``verifying``, ``smoke``, ``shadow``, ``canary``, ``promoted``, ``rolled-back`` or ``refused``."""
    candidate: str = ""
    """The release that is tried, as ``lite0@3``."""
    since: str = ""
    """Time at which this stage began."""
    rule: str = ""
    """Name of the rule that led here; see [releases](../explanation/taking-effect.md#the-rules)."""
    reason: str = ""
    """The decision in words."""
    previous: str = ""
    """The release that a rollback would return to."""
    refused: str = ""
    """The release that was refused or rolled back last, and the reason."""
    trouble: str = ""
    """Why no newer release can arrive, as ``expired-metadata: …``. Empty if all is well."""


class CameraState(JsonMessage, frozen=True, omit_defaults=True):
    """State of a camera, as its device agent knows it since its own start."""

    state: str
    """`online` or `away`. A camera without a `source` is away after `off_delay_s` without a frame."""
    since: str
    """Time of the change to this state."""
    last_frame: str = ""
    """Time of the last frame. Empty: there was none."""
    dropped: int = 0
    """Frames of a live camera that were dropped for newer ones."""
    refused: int = 0
    """Frames that were refused."""
    reason: str = ""
    """Why the camera is away."""


class Status(JsonMessage, frozen=True):
    """State of a role, published at each connection and retained. Its last will is `offline`."""

    state: str
    """`online` or `offline`."""
    role: str
    """The role that reports."""
    version: str
    """Version of Tierwise."""
    time: str
    """Time of this status."""
    models: tuple[str, ...] = ()
    """Models that serve now."""
    backlog: int = 0
    """Records that wait for the next hop's acknowledgement."""
    update: Update | None = None
    """State of the next release, of tiers that take releases."""
    cameras: dict[str, CameraState] = {}
    """Cameras of a device agent by ``device/stream``, except those whose answers do not leave the device."""


# --- labels and label requests -------------------------------------------------------------------------------


class Label(JsonMessage, frozen=True, omit_defaults=True):
    """A person's label of an event. The latest label of each person counts; labels of several persons coexist.

    It is as private as the event's result. It leaves the site only if the event's feature may leave, too.
    """

    event: str
    """Id of the labelled event."""
    label: str | None
    """Any label of the tree. None withdraws this person's label."""
    by: str = ""
    """Name of the person. Empty: anonymous; all who give no name count as one person."""
    time: str = ""
    """Time of the label. Empty: time of receipt. Of one person's labels the latest counts."""
    under: str = ""
    """Place of a label that the tree lacks: ``Felidae``, or ``animal/Herpestidae`` for a new family."""
    english: str = ""
    """Common name of a new label."""


class Ask(JsonMessage, frozen=True):
    """Request for the label of an event, within a daily budget: the events whose labels would teach most.

    Sent when the sighting is over. A label of any of its frames answers it. Persons are never asked about.
    """

    event: str
    """Id of the event to label."""
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
    """`unsure-and-new` or `drifting`."""
    reason: str
    """The reason in words."""
    budget_left: int
    """Requests left today."""


class Drift(JsonMessage, frozen=True):
    """A stream that changed, or a camera that is broken. It holds numbers only."""

    time: str
    site: str
    device: str
    stream: str
    rule: str
    """Name of the change or of the camera fault; see [drift](../explanation/drift.md)."""
    signal: str
    """The number that changed."""
    before: float
    """Usual value of the number."""
    now: float
    """Value now."""
    reason: str
    """The reason in words."""
    privacy: Privacy


# --- for Home Assistant ----------------------------------------------------------------------------------------


class StreamPicture(MsgpackMessage, frozen=True):
    """The last picture of a camera, retained: the gate publishes the JPEG alone. An empty one clears the topic."""

    event: str
    """Id of its event."""
    privacy: Privacy
    """Level of the event's pixels."""
    jpeg: bytes
    v: int = VERSION


class DiscoveryDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device that an entity belongs to, as Home Assistant shows it."""

    identifiers: tuple[str, ...]
    name: str
    via_device: str = ""
    sw_version: str = ""
    suggested_area: str = ""


class DiscoveryOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The program that announces the entity."""

    name: str = "Tierwise"
    sw_version: str = ""


class Discovery(JsonMessage, frozen=True, omit_defaults=True):
    """One entity of Home Assistant's MQTT discovery: its state topic, and how to read it. Retained.

    It holds names and topics, no observations. Fields as Home Assistant documents them. A stream whose answers are
    user-private has no entity.
    """

    name: str
    unique_id: str
    device: DiscoveryDevice
    origin: DiscoveryOrigin
    state_topic: str = ""
    value_template: str = ""
    image_topic: str = ""
    """Topic of an image, in place of a state."""
    content_type: str = ""
    json_attributes_topic: str = ""
    availability_topic: str = ""
    availability_template: str = ""
    payload_on: str = ""
    payload_off: str = ""
    off_delay: int = 0
    """Seconds after which a binary sensor turns off by itself. 0: never."""
    device_class: str = ""
    state_class: str = ""
    unit_of_measurement: str = ""
    options: tuple[str, ...] = ()
    entity_category: str = ""
    icon: str = ""


# --- device <-> edge -------------------------------------------------------------------------------------------


class Crop(msgspec.Struct, frozen=True, tag="crop"):
    """Pixels around the movement."""

    jpeg: bytes
    """The pixels."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom as shares of the frame's width and height."""


class Vector(msgspec.Struct, frozen=True, tag="vector"):
    """A feature instead of pixels: uint8 components in the named feature space."""

    space: str
    """Name of the feature space. Vectors of two spaces are never compared."""
    data: bytes
    """One byte a component."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A sensor's report by exception: the changed value, with count and sums of all readings since the last report.

    The sums keep hourly means exact.
    """

    value: float
    """The value that changed."""
    unit: str
    """Unit of all values."""
    count: int
    """Number of readings since the last report."""
    total: float
    """Their sum."""
    low: float
    """Their minimum."""
    high: float
    """Their maximum."""


class Event(MsgpackMessage, frozen=True):
    """The device's answer about one event, with what the edge needs to refine it."""

    result: Result
    """The device's answer."""
    boot: int
    """Number of the device agent's start."""
    sequence: int
    """Number of the event since that start; both order the events of a stream."""
    received_s: float
    """Time of receipt by the device agent, UTC seconds. Each tier counts its latency from here by its own clock."""
    wants: Rank
    """Deepest rank that the stream's owner needs."""
    levels: Levels
    """Level of each kind of record."""
    person: float = 0.0
    """Probability that a person is in the frame."""
    room: str | None = None
    """Room of the sensor."""
    body: Crop | Vector | Report | None = None
    """Pixels, vector or sensor report. None if none of these may reach the edge."""
    sealed: tuple[Envelope, ...] = ()
    """Records that the edge may not read; their user lets them travel, so the device has sealed them."""
    v: int = VERSION


class EventAck(MsgpackMessage, frozen=True):
    """The edge committed these events; the device may forget them."""

    ids: tuple[str, ...]
    """Event and revision of each, as `0193…/1`."""
    v: int = VERSION


# --- edge <-> cloud --------------------------------------------------------------------------------------------


class Envelope(MsgpackMessage, frozen=True):
    """A record with the facts that routing needs. No hop on the way reads the payload.

    Of a user-private record `source`, `time` and `space` are empty, `event` and `key` are HMACs: the cloud learns
    neither device nor time.
    """

    event: str
    """Id of the event. An HMAC if user-private."""
    kind: Kind
    """Kind of the record."""
    privacy: Privacy
    """Privacy level of the record."""
    key: str
    """Kafka key: site and device. An HMAC if user-private."""
    payload: bytes
    """The record, of the kind in `kind`."""
    source: str = ""
    """Site, device and stream."""
    time: str = ""
    """Time of the event."""
    space: str = ""
    """Feature space."""
    revision: int = 1
    """Revision of the record."""
    sealed_by: str = ""
    """Id of the key that opens the payload. Empty: the payload is in the clear."""

    @property
    def id(self) -> str:
        """The record's name in acknowledgements and for deduplication."""
        return f"{self.event}/{self.kind}/{self.revision}"


class Feature(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a feature envelope. It is small, since a metered link pays for it."""

    data: bytes
    """The vector, one byte a component."""
    sighting: str
    """Id of the sighting. Empty: the event is its first."""
    wants: Rank
    """Deepest rank that the stream's owner needs."""
    revision: int
    """Revision of the edge's answer."""
    path: tuple[str, ...]
    """The edge's answer from the kingdom down."""
    probability: float
    """Probability of that answer."""
    latency_ms: float
    """Time from the event's receipt to the edge's answer."""


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a summary envelope: one stream's readings in one hour."""

    hour: str
    """Start of the hour."""
    task: Task
    unit: str
    """Unit of all values."""
    count: int
    """Number of readings."""
    total: float
    """Their sum."""
    low: float
    """Their minimum."""
    high: float
    """Their maximum."""
    revision: int = 1
    """Raised when late readings change an hour that was already published."""
    room: str | None = None
    """Room of the sensor."""

    @property
    def mean(self) -> float:
        """The mean of the hour's readings."""
        return self.total / self.count


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a label envelope: one person's latest label of an event.

    The envelope's revision counts the changes of an event's labels.
    """

    label: str | None
    """The label, or None if it was withdrawn."""
    by: str
    """Pseudonym of the person: 12 hex digits of an HMAC by the site's key."""
    under: str = ""
    """Place of a label that the tree lacks."""
    english: str = ""
    """Common name of that label."""
    time: str = ""
    """Time of the label."""


class Labelled(msgspec.Struct, frozen=True):
    """A feature with all labels of its event."""

    event: str
    source: str
    """Site, device and stream."""
    time: str
    """Time of the event."""
    space: str
    """Feature space."""
    data: bytes
    """The vector, one byte a component."""
    votes: tuple[Vote, ...]
    """The latest label of each person. Empty: all were withdrawn."""
    revision: int
    """Grows with each change. The highest one of an event counts."""
    path: tuple[str, ...] = ()
    """The edge's answer when the feature left it."""
    v: int = VERSION


class SumIncrement(msgspec.Struct, frozen=True):
    """Payload of a sum envelope: statistics that a site adds, over at least 20 events of each label."""

    space: str
    """Feature space."""
    number: int
    """Number of the increment, counted by the site from 1. Each is taken once."""
    counts: tuple[tuple[str, int], ...]
    """Number of events of each label. The gate's rule reads these, and the fold checks them against the sums."""
    sums: bytes
    """`pipeline.sums` snapshot, deflated."""
    under: tuple[tuple[str, str], ...] = ()
    """Place of each label that the tree lacks."""
    v: int = VERSION


class UplinkBatch(MsgpackMessage, frozen=True):
    """Records from an edge to the gateway."""

    site: str
    """The sending site."""
    envelopes: tuple[Envelope, ...]
    """The records."""
    v: int = VERSION


class UplinkAck(MsgpackMessage, frozen=True):
    """Kafka acknowledged these records."""

    ids: tuple[str, ...]
    """Event, kind and revision of each record, as `0193…/feature/1`."""
    refused: tuple[str, ...] = ()
    """Records that will never be accepted: reported on the rejected topic, not sent again."""
    v: int = VERSION


class Downlink(MsgpackMessage, frozen=True):
    """The cloud's answers for one site, from the gateway to its edge."""

    results: tuple[Result, ...]
    """The cloud's answers."""
    v: int = VERSION


class DownlinkAck(MsgpackMessage, frozen=True):
    """The edge committed these answers."""

    ids: tuple[str, ...]
    """Event and revision of each answer, as `0193…/3`."""
    v: int = VERSION


# --- releases ------------------------------------------------------------------------------------------------


class ChunkWanted(MsgpackMessage, frozen=True):
    """Request for a part of a release's file, from an edge to the gateway. It asks only for missing bytes."""

    digest: str
    """SHA-256 of the whole file, hex."""
    offset: int
    """First byte wanted."""
    length: int
    """Number of bytes wanted."""
    v: int = VERSION


class Chunk(MsgpackMessage, frozen=True):
    """A part of a release's file, from the gateway to an edge."""

    digest: str
    """SHA-256 of the whole file, hex."""
    offset: int
    """First byte sent."""
    data: bytes
    """The bytes; fewer than wanted at the file's end. Empty: the gateway has no such file."""
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
