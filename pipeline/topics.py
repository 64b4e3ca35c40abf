"""The names of all MQTT and Kafka topics; no other module spells one.

>>> frame("home", "cam1", "garden")
'tierwise/v1/home/cam1/frame/garden'
>>> parse("tierwise/v1/home/cam1/frame/garden")
Parsed(site='home', device='cam1', channel='frame', name='garden')
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.messages import Kind, Privacy, Tier

ROOT: Final = "tierwise/v1"

DISCOVERY: Final = "homeassistant"
"""The branch where Home Assistant discovers devices by itself."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The names of sites, devices and streams. The reserved words name our own branches of the topic tree."""

RESERVED: Final = frozenset({"uplink", "uplink-ack", "downlink", "downlink-ack", "release"})

NO_DEVICE: Final = "_"
"""Stands for the device in a refusal of a topic whose device name is invalid."""


def is_name(word: str) -> bool:
    """Return whether a site, device or stream may have this name."""
    return NAME.fullmatch(word) is not None and word not in RESERVED


# --- MQTT, one site --------------------------------------------------------------------------------------------


def frame(site: str, device: str, stream: str) -> str:
    """Return the topic on which a publisher sends a camera's frames."""
    return f"{ROOT}/{site}/{device}/frame/{stream}"


def reading(site: str, device: str, stream: str) -> str:
    """Return the topic on which a publisher sends a sensor's readings."""
    return f"{ROOT}/{site}/{device}/reading/{stream}"


def ack(site: str, device: str) -> str:
    """Return the topic on which the device agent acknowledges frames, readings and labels."""
    return f"{ROOT}/{site}/{device}/ack"


def event(site: str, device: str, stream: str) -> str:
    """Return the topic from device to edge: the device's answer and what the edge needs to refine it."""
    return f"{ROOT}/{site}/{device}/event/{stream}"


def event_ack(site: str, device: str) -> str:
    """Return the topic on which the edge acknowledges a device's events."""
    return f"{ROOT}/{site}/{device}/event-ack"


def result(site: str, device: str, tier: Tier, privacy: Privacy) -> str:
    """Return the topic of a tier's answers. User-private ones have their own branch, for the user's clients only."""
    branch = "private" if privacy is Privacy.USER_PRIVATE else "result"
    return f"{ROOT}/{site}/{device}/{branch}/{tier}"


def answers_of(site: str, device: str, tier: Tier) -> tuple[str, str]:
    """Return the topics of a tier's answers about this device (`+` for every device), private ones included."""
    return f"{ROOT}/{site}/{device}/result/{tier}", f"{ROOT}/{site}/{device}/private/{tier}"


def sighting(site: str, device: str, stream: str) -> str:
    """Return the topic of the edge's consensus over a sighting's frames."""
    return f"{ROOT}/{site}/{device}/sighting/{stream}"


def image(site: str, device: str, stream: str) -> str:
    """Return the topic of a camera's last picture, for Home Assistant."""
    return f"{ROOT}/{site}/{device}/image/{stream}"


def rejected(site: str, device: str) -> str:
    """Return the topic on which the reasons of refused input are published."""
    return f"{ROOT}/{site}/{device}/rejected"


def label(site: str, device: str) -> str:
    """Return the topic on which people give labels."""
    return f"{ROOT}/{site}/{device}/label"


def ask(site: str, device: str) -> str:
    """Return the topic of label requests: events that the edge asks people about."""
    return f"{ROOT}/{site}/{device}/ask"


def drift(site: str, device: str) -> str:
    """Return the topic on which the edge reports drift and broken cameras."""
    return f"{ROOT}/{site}/{device}/drift"


def status(site: str, device: str) -> str:
    """Return the topic of an agent's status; roles that are not devices have one, too, as `edge`."""
    return f"{ROOT}/{site}/{device}/status"


def discovery(component: str, node: str, entity: str) -> str:
    """Return the topic on which Home Assistant discovers one entity."""
    return f"{DISCOVERY}/{component}/{node}/{entity}/config"


def is_discovery(topic: str) -> bool:
    """Return whether a topic belongs to Home Assistant's discovery, which never leaves the site."""
    return topic.startswith(f"{DISCOVERY}/")


class Parsed(NamedTuple):
    """The parts of a device's topic; `name` is the stream or the tier, or empty if the topic has neither."""

    site: str
    device: str
    channel: str
    name: str


def parse(topic: str) -> Parsed | None:
    """Split a device's topic; return None if it has another form. The names are not checked: see `is_name`."""
    parts = topic.split("/")
    if len(parts) not in (5, 6) or "/".join(parts[:2]) != ROOT:
        return None
    return Parsed(parts[2], parts[3], parts[4], parts[5] if len(parts) == 6 else "")


def stream_of(topic: str) -> str:
    """Return the ``site/device/stream`` of a frame's or reading's topic.

    >>> stream_of("tierwise/v1/home/cam1/frame/garden")
    'home/cam1/garden'
    """
    parts = topic.split("/")
    return "/".join((parts[2], parts[3], parts[-1]))


def is_frame(topic: str) -> bool:
    """Return whether this is the topic of a camera's frames."""
    parsed = parse(topic)
    return parsed is not None and parsed.channel == "frame"


# --- MQTT, uplink ----------------------------------------------------------------------------------------------


def uplink(site: str) -> str:
    """Return the topic of an edge's batches to the gateway."""
    return f"{ROOT}/uplink/{site}"


def is_uplink(topic: str) -> bool:
    """Return whether this is the topic of an edge's batches."""
    return topic.startswith(f"{ROOT}/uplink/")


def uplink_ack(site: str) -> str:
    """Return the topic on which the gateway acknowledges an edge's records."""
    return f"{ROOT}/uplink-ack/{site}"


def downlink(site: str) -> str:
    """Return the topic of the cloud's answers to a site."""
    return f"{ROOT}/downlink/{site}"


def downlink_ack(site: str) -> str:
    """Return the topic on which an edge acknowledges the cloud's answers."""
    return f"{ROOT}/downlink-ack/{site}"


# --- MQTT, releases --------------------------------------------------------------------------------------------

_METADATA: Final = f"{ROOT}/release/metadata/"


def release_metadata(file: str) -> str:
    """Return the topic of a retained file of signed metadata: ``timestamp.json``, ``2.snapshot.json``, `+` for all."""
    return _METADATA + file


def metadata_file(topic: str) -> str | None:
    """Return the name of the file on a release's metadata topic, or None for any other topic."""
    name = topic.removeprefix(_METADATA)
    return name if name != topic and name and "/" not in name else None


def release_want(site: str) -> str:
    """Return the topic of an edge's requests for parts of release files."""
    return f"{ROOT}/release/want/{site}"


def release_chunk(site: str) -> str:
    """Return the topic on which the gateway sends the requested parts."""
    return f"{ROOT}/release/chunk/{site}"


def wanting_site(topic: str) -> str | None:
    """Return the site whose edge requests chunks on this topic, or None for any other topic."""
    parts = topic.split("/")
    return parts[4] if len(parts) == 5 and topic.startswith(f"{ROOT}/release/want/") else None


def site_of(topic: str) -> str | None:
    """Return the site that an uplink or downlink topic belongs to, or None for any other topic."""
    parts = topic.split("/")
    return parts[3] if len(parts) == 4 and "/".join(parts[:2]) == ROOT and parts[2] in RESERVED else None


# --- Kafka -----------------------------------------------------------------------------------------------------

KAFKA_ROOT: Final = "tierwise."
"""The prefix of all our Kafka topics."""
INGEST: Final = "tierwise.features.ingest"
REJECTED: Final = "tierwise.features.rejected"
ROUTED: Final = {
    Privacy.PUBLIC: "tierwise.features.public",
    Privacy.EDGE_PRIVATE: "tierwise.features.edge-private",
    Privacy.USER_PRIVATE: "tierwise.features.user-private",
}
RESULTS: Final = "tierwise.results"
SUMMARIES_INGEST: Final = "tierwise.summaries.ingest"
"""Public hourly summaries as they arrive, with repeats; the stream role writes each of them once to `SUMMARIES`."""
SUMMARIES: Final = "tierwise.summaries"
COUNTS: Final = "tierwise.counts"
LABELS: Final = "tierwise.labels"
"""Public labels as they arrive; the stream role joins them with their features on `LABELLED`."""
LABELLED: Final = "tierwise.labelled"
"""Key: the event; value: its feature and people's votes. It is in the partition of its site/device."""
SUMS: Final = "tierwise.sums"
"""Sums that sites share: statistics of many events, which a named rule of the gate lets out. Each has its own key."""
MODELS: Final = "tierwise.models"
"""Key: a file of the release repository, or a part of a file; value: its bytes. The files are signed."""

PARTITIONS: Final = 12
"""Partitions of every topic: the router keeps a record's partition number, so all topics must have the same number."""

COMPACTED: Final = frozenset({SUMMARIES, COUNTS, LABELLED, SUMS, MODELS})
"""Topics that keep the last value of each key for ever; in the others, retention removes old records."""

KAFKA_TOPICS: Final = (
    INGEST, *ROUTED.values(), REJECTED, RESULTS, SUMMARIES_INGEST, SUMMARIES, COUNTS, LABELS, LABELLED, SUMS, MODELS,
)  # fmt: skip


class Group:
    """Consumer groups, one for each role. Faust's changelog topics bear the group's name, too."""

    GATEWAY = "tierwise-gateway"
    STREAM = "tierwise-stream"
    CLOUD = "tierwise-cloud"
    TRAINER = "tierwise-trainer"


CHANGELOGS: Final = tuple(f"{Group.STREAM}-{table}-changelog" for table in ("sightings", "hours", "joined"))
"""Topics in which Faust keeps the tables of the stream role, compacted. Faust chooses these names."""


class Header:
    """Names of Kafka record headers: CloudEvents 1.0 attributes (Kafka binding, binary mode) and ours."""

    ID = "ce_id"
    TYPE = "ce_type"
    SOURCE = "ce_source"
    TIME = "ce_time"
    SPEC = "ce_specversion"
    KIND = "kind"
    PRIVACY = "privacy"
    SPACE = "space"
    SEALED_BY = "sealed_by"
    REVISION = "revision"
    REASON = "reason"
    """The reason of a refusal; on the rejected topic only."""


def event_type(kind: Kind) -> str:
    """Return the CloudEvents type of a record."""
    return f"tierwise.{kind}.v1"
