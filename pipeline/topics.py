"""The only place where a topic name is spelled, MQTT's and Kafka's.

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
"""Where Home Assistant looks for devices by itself."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What sites, devices and streams are called; reserved words name our own branches of the tree."""

RESERVED: Final = frozenset({"uplink", "uplink-ack", "downlink", "downlink-ack", "release"})

NO_DEVICE: Final = "_"
"""Stands for the device in refusals of topics whose device name is itself refused."""


def is_name(word: str) -> bool:
    """Whether a site, device or stream may be called so."""
    return NAME.fullmatch(word) is not None and word not in RESERVED


# --- MQTT, one site --------------------------------------------------------------------------------------------


def frame(site: str, device: str, stream: str) -> str:
    return f"{ROOT}/{site}/{device}/frame/{stream}"


def reading(site: str, device: str, stream: str) -> str:
    return f"{ROOT}/{site}/{device}/reading/{stream}"


def ack(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/ack"


def event(site: str, device: str, stream: str) -> str:
    return f"{ROOT}/{site}/{device}/event/{stream}"


def event_ack(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/event-ack"


def result(site: str, device: str, tier: Tier, privacy: Privacy) -> str:
    """User-private answers go to a branch of their own, which only that user's clients may read."""
    branch = "private" if privacy is Privacy.USER_PRIVATE else "result"
    return f"{ROOT}/{site}/{device}/{branch}/{tier}"


def answers_of(site: str, device: str, tier: Tier) -> tuple[str, str]:
    """All answers of a tier about this device (`+`: about every one), private ones too."""
    return f"{ROOT}/{site}/{device}/result/{tier}", f"{ROOT}/{site}/{device}/private/{tier}"


def sighting(site: str, device: str, stream: str) -> str:
    return f"{ROOT}/{site}/{device}/sighting/{stream}"


def rejected(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/rejected"


def label(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/label"


def ask(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/ask"


def drift(site: str, device: str) -> str:
    return f"{ROOT}/{site}/{device}/drift"


def status(site: str, device: str) -> str:
    """Also of roles that are no device: `edge`, say."""
    return f"{ROOT}/{site}/{device}/status"


def discovery(component: str, node: str, entity: str) -> str:
    """Where Home Assistant looks for one entity."""
    return f"{DISCOVERY}/{component}/{node}/{entity}/config"


def is_discovery(topic: str) -> bool:
    """Whether a topic is Home Assistant's own: of this site, as everything on the site's broker."""
    return topic.startswith(f"{DISCOVERY}/")


def results_of_all() -> str:
    """What users subscribe to."""
    return f"{ROOT}/+/+/result/+"


class Parsed(NamedTuple):
    """A topic of one site's device, taken apart; `name` is the stream or the tier, empty where there is none."""

    site: str
    device: str
    channel: str
    name: str


def parse(topic: str) -> Parsed | None:
    """Take a device's topic apart; None if it is not of that form. Names are not checked: see `is_name`."""
    parts = topic.split("/")
    if len(parts) not in (5, 6) or "/".join(parts[:2]) != ROOT:
        return None
    return Parsed(parts[2], parts[3], parts[4], parts[5] if len(parts) == 6 else "")


# --- MQTT, uplink ----------------------------------------------------------------------------------------------


def uplink(site: str) -> str:
    return f"{ROOT}/uplink/{site}"


def is_uplink(topic: str) -> bool:
    """Whether an edge's batch comes under this topic."""
    return topic.startswith(f"{ROOT}/uplink/")


def uplink_ack(site: str) -> str:
    return f"{ROOT}/uplink-ack/{site}"


def downlink(site: str) -> str:
    return f"{ROOT}/downlink/{site}"


def downlink_ack(site: str) -> str:
    return f"{ROOT}/downlink-ack/{site}"


# --- MQTT, releases --------------------------------------------------------------------------------------------

_METADATA: Final = f"{ROOT}/release/metadata/"


def release_metadata(file: str) -> str:
    """A file of signed metadata, retained: ``timestamp.json``, ``2.snapshot.json``; `+`: all of them."""
    return _METADATA + file


def metadata_file(topic: str) -> str | None:
    """The file that a release's metadata topic holds; None of any other topic."""
    name = topic.removeprefix(_METADATA)
    return name if name != topic and name and "/" not in name else None


def release_want(site: str) -> str:
    return f"{ROOT}/release/want/{site}"


def release_chunk(site: str) -> str:
    return f"{ROOT}/release/chunk/{site}"


def wanting_site(topic: str) -> str | None:
    """The site whose request for a chunk comes under this topic; None of any other topic."""
    parts = topic.split("/")
    return parts[4] if len(parts) == 5 and topic.startswith(f"{ROOT}/release/want/") else None


def site_of(topic: str) -> str | None:
    """The site that an uplink or downlink topic belongs to."""
    parts = topic.split("/")
    return parts[3] if len(parts) == 4 and "/".join(parts[:2]) == ROOT and parts[2] in RESERVED else None


# --- Kafka -----------------------------------------------------------------------------------------------------

KAFKA_ROOT: Final = "tierwise."
"""All our topics begin so."""
INGEST: Final = "tierwise.features.ingest"
REJECTED: Final = "tierwise.features.rejected"
ROUTED: Final = {
    Privacy.PUBLIC: "tierwise.features.public",
    Privacy.EDGE_PRIVATE: "tierwise.features.edge-private",
    Privacy.USER_PRIVATE: "tierwise.features.user-private",
}
RESULTS: Final = "tierwise.results"
SUMMARIES_INGEST: Final = "tierwise.summaries.ingest"
"""Public hours as they come, repeats and all; the stream role tells each of them once, on `SUMMARIES`."""
SUMMARIES: Final = "tierwise.summaries"
COUNTS: Final = "tierwise.counts"
LABELS: Final = "tierwise.labels"
"""Public labels as they come; the stream role joins them to their features, on `LABELLED`."""
LABELLED: Final = "tierwise.labelled"
"""Key: the event. Its feature and all that people say of it; in the partition of its site/device."""
SUMS: Final = "tierwise.sums"
"""What sites learned and may tell: statistics of many events, by a named rule of the gate. Each has a key of its own."""
MODELS: Final = "tierwise.models"
"""Key: a file of the release repository, or a part of one; value: its bytes. Signed, so it needs no other guard."""

PARTITIONS: Final = 12
"""Of every topic: the router keeps a record's partition number, so input and outputs must have equally many."""

COMPACTED: Final = frozenset({SUMMARIES, COUNTS, LABELLED, SUMS, MODELS})
"""Topics that keep the last value of each key for ever; the others keep what retention allows."""

KAFKA_TOPICS: Final = (
    INGEST, *ROUTED.values(), REJECTED, RESULTS, SUMMARIES_INGEST, SUMMARIES, COUNTS, LABELS, LABELLED, SUMS, MODELS,
)  # fmt: skip


class Group:
    """Consumer groups, one a role. Faust calls its changelogs as its group, too."""

    GATEWAY = "tierwise-gateway"
    STREAM = "tierwise-stream"
    CLOUD = "tierwise-cloud"
    TRAINER = "tierwise-trainer"


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
    """Only on the rejected topic: why."""


def event_type(kind: Kind) -> str:
    """The CloudEvents type of a record."""
    return f"tierwise.{kind}.v1"
