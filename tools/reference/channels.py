"""Every channel that Tierwise publishes or reads: its topic, what travels there, from whom to whom.

Topic names and message types are the code's own; the topic tables and the AsyncAPI document are made from this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from pipeline import topics
from pipeline.messages import (
    Ack,
    Ask,
    Chunk,
    ChunkWanted,
    Discovery,
    Downlink,
    DownlinkAck,
    Drift,
    Event,
    EventAck,
    Feature,
    Label,
    Labelled,
    Privacy,
    Refusal,
    Result,
    SightingReport,
    Status,
    SumIncrement,
    Summary,
    Tier,
    UplinkAck,
    UplinkBatch,
    Vote,
)
from pipeline.records import HourlySummary
from pipeline.stream.counts import Count


class Channel(NamedTuple):
    """One topic, MQTT's or Kafka's."""

    topic: str
    payload: str
    """What a person should know of the payload beside its message type."""
    sender: str
    receiver: str
    messages: tuple[type[msgspec.Struct], ...] = ()
    """Empty: bytes that are no message of ours."""
    content: str = "application/json"


MSGPACK: Final = "application/msgpack"
OUTSIDE: Final = frozenset({"camera", "sensor", "people", "publisher", "users", "Home Assistant"})
"""Senders and receivers that are no role of Tierwise."""

_S, _D = "{site}", "{device}"
_PLACE: Final = (_S, _D, "{stream}")
_TIER: Final = "{tier}"


def _answers(privacy: Privacy) -> str:
    return topics.result(_S, _D, Tier.EDGE, privacy).removesuffix(Tier.EDGE) + _TIER


SITE: Final = (
    Channel(topics.frame(*_PLACE), "JPEG or PNG, at most 16 MiB", "camera", "device", (), "image/jpeg"),
    Channel(
        topics.reading(*_PLACE),
        "a number, JSON or SenML, at most 64 KiB",
        "sensor",
        "device",
        (),
        "text/plain",
    ),
    Channel(topics.ack(_S, _D), "JSON", "device, edge", "publisher", (Ack,)),
    Channel(topics.rejected(_S, _D), "JSON", "device, edge", "publisher", (Refusal,)),
    Channel(_answers(Privacy.PUBLIC), "JSON; public and edge-private answers", "device, edge", "users", (Result,)),
    Channel(_answers(Privacy.USER_PRIVATE), "JSON; user-private answers", "device", "users", (Result,)),
    Channel(topics.sighting(*_PLACE), "JSON", "edge", "users", (SightingReport,)),
    Channel(
        topics.image(*_PLACE),
        "JPEG; retained; empty: no picture may be shown; with `edge.home_assistant`",
        "edge",
        "Home Assistant",
        (),
        "image/jpeg",
    ),
    Channel(topics.status(_S, "{role}"), "JSON; retained, with a last will", "every role", "users", (Status,)),
    Channel(topics.label(_S, _D), "JSON, at most 4 KiB", "people", "edge", (Label,)),
    Channel(topics.ask(_S, _D), "JSON", "edge", "people", (Ask,)),
    Channel(topics.drift(_S, _D), "JSON", "edge; device, of its cameras", "people", (Drift,)),
    Channel(topics.event(*_PLACE), "msgpack", "device", "edge", (Event,), MSGPACK),
    Channel(topics.event_ack(_S, _D), "msgpack", "edge", "device", (EventAck,), MSGPACK),
    Channel(
        topics.discovery("{component}", "{node}", "{entity}"),
        "JSON; retained",
        "edge",
        "Home Assistant",
        (Discovery,),
    ),
)
"""At a site's own broker."""

UPLINK: Final = (
    Channel(topics.uplink(_S), "msgpack, at most 128 KiB", "edge", "gateway", (UplinkBatch,), MSGPACK),
    Channel(topics.uplink_ack(_S), "msgpack; after Kafka acknowledged", "gateway", "edge", (UplinkAck,), MSGPACK),
    Channel(
        topics.downlink(_S),
        "msgpack; the edge publishes the answers",
        "gateway",
        "edge",
        (Downlink,),
        MSGPACK,
    ),
    Channel(topics.downlink_ack(_S), "msgpack", "edge", "gateway", (DownlinkAck,), MSGPACK),
    Channel(topics.release_metadata("{file}"), "signed metadata of releases, JSON; retained", "gateway", "edge"),
    Channel(topics.release_want(_S), "msgpack", "edge", "gateway", (ChunkWanted,), MSGPACK),
    Channel(topics.release_chunk(_S), "msgpack", "gateway", "edge", (Chunk,), MSGPACK),
)
"""At the broker between sites and cloud."""

_ROUTED = topics.ROUTED
KAFKA: Final = (
    Channel(topics.INGEST, "every feature envelope as it came", "gateway", "stream (router)", (Feature,), MSGPACK),
    Channel(
        _ROUTED[Privacy.PUBLIC],
        "public features",
        "stream (router)",
        "cloud, stream (join)",
        (Feature,),
        MSGPACK,
    ),
    Channel(
        _ROUTED[Privacy.EDGE_PRIVATE],
        "sealed records",
        "stream (router)",
        "the site that holds the key",
        (),
        "application/octet-stream",
    ),
    Channel(
        _ROUTED[Privacy.USER_PRIVATE],
        "sealed records without source and time",
        "stream (router)",
        "the user who holds the key",
        (),
        "application/octet-stream",
    ),
    Channel(topics.REJECTED, "the reason, never the record", "stream (router), gateway", "people", (Refusal,)),
    Channel(
        topics.RESULTS,
        "public answers and sightings",
        "stream (router), cloud",
        "gateway, stream (counts)",
        (Result, SightingReport),
    ),
    Channel(
        topics.SUMMARIES_INGEST,
        "public hours as they come",
        "stream (router)",
        "stream (summaries)",
        (Summary,),
        MSGPACK,
    ),
    Channel(topics.SUMMARIES, "each public hour once", "stream", "cloud", (HourlySummary,)),
    Channel(topics.COUNTS, "what was seen where", "stream", "people: `tierwise sightings list`", (Count,)),
    Channel(topics.LABELS, "public labels as they come", "stream (router)", "stream (join)", (Vote,), MSGPACK),
    Channel(
        topics.LABELLED,
        "a feature and its labels; key: the event",
        "stream (join)",
        "trainer",
        (Labelled,),
        MSGPACK,
    ),
    Channel(
        topics.SUMS,
        "what sites learned and may share; each under a key of its own",
        "stream (router)",
        "trainer",
        (SumIncrement,),
        MSGPACK,
    ),
    Channel(
        topics.MODELS,
        "files of signed releases, in parts of at most 512 KiB; keys `timestamp.json`, `9.snapshot.json`, …, "
        "and `<sha256>/<part>/<parts>`",
        "trainer",
        "cloud, gateway",
        (),
        "application/octet-stream",
    ),
)
"""In the cloud."""
