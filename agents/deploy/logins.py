"""List all logins and their rights: the tables from which brokers are configured.

Every login stands in a table here, and has exactly the rights that its role needs::

    >>> [rule.topic for rule in AT_UPLINK if rule.login == GATEWAY and rule.access == "read"]
    ['tierwise/v1/uplink/+', 'tierwise/v1/downlink-ack/+', 'tierwise/v1/release/want/+']

At the uplink a site's login has the site's name, so that one pattern of Mosquitto (``%u``) limits every site to its own
topics. Logins of roles begin with a dot, which no site's name can.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from pipeline import topics
from pipeline.messages import Privacy, Tier
from pipeline.rights import Operation, Right
from pipeline.topics import Group

DEVICE: Final = ".device"
EDGE: Final = ".edge"
GATEWAY: Final = ".gateway"
HEALTH: Final = ".health"
"""Login of the broker's health check."""

CAMERA: Final = "camera"
"""Publishes frames and readings, and reads their acks and refusals."""
VIEWER: Final = "viewer"
"""Reads the results that every person of the site may read."""
OWNER: Final = "owner"
"""The user whose private results these are. Also publishes and labels."""
HOME_ASSISTANT: Final = "homeassistant"

PEOPLE: Final = (CAMERA, VIEWER, OWNER, HOME_ASSISTANT)
AT_SITE_LOGINS: Final = (DEVICE, EDGE, HEALTH, *PEOPLE)

EVERYBODY: Final = "*"
"""A rule for every login; ``%u`` stands for the login's name."""

UPTIME: Final = "$SYS/broker/uptime"


class AccessRule(NamedTuple):
    """One line of a broker's access rules."""

    login: str
    access: Literal["read", "write", "readwrite"]
    topic: str


def at_site(site: str, listened: Iterable[str] = ()) -> tuple[AccessRule, ...]:
    """Return the rules of a site's broker.

    Frames, readings and private results belong to the device agent and the owner's own clients. `listened` are the
    topics of other programs that streams listen on: sensors publish there as `camera`, and only the device agent reads.
    """
    foreign = tuple(dict.fromkeys(listened))

    def of(channel: str) -> str:
        return f"{topics.ROOT}/{site}/+/{channel}"

    def rules(login: str, access: Literal["read", "write"], *channels: str) -> list[AccessRule]:
        return [AccessRule(login, access, of(channel)) for channel in channels]

    answers = [f"{branch}/{Tier.EDGE}" for branch in ("result", "private")]
    for_people = ("result/+", "sighting/+", "status", "rejected", "ask", "drift")
    from_device = (
        "ack",
        "event/+",
        f"result/{Tier.DEVICE}",
        f"private/{Tier.DEVICE}",
        "rejected",
        "status",
        "drift",
    )
    edge_answers = [f"{branch}/{tier}" for branch in ("result", "private") for tier in (Tier.EDGE, Tier.CLOUD)]
    return (
        *rules(DEVICE, "read", "frame/+", "reading/+", "event-ack", *answers),
        *(AccessRule(DEVICE, "read", topic) for topic in foreign),
        *rules(DEVICE, "write", *from_device),
        *rules(EDGE, "read", "event/+", "status", "label"),
        *rules(
            EDGE,
            "write",
            "event-ack",
            "ack",
            *edge_answers,
            "sighting/+",
            "image/+",
            "rejected",
            "status",
            "ask",
            "drift",
        ),
        AccessRule(EDGE, "write", f"{topics.DISCOVERY}/#"),
        *rules(CAMERA, "write", "frame/+", "reading/+"),
        *(AccessRule(CAMERA, "write", topic) for topic in foreign),
        *rules(CAMERA, "read", "ack", "rejected"),
        *rules(VIEWER, "read", *for_people),
        *rules(OWNER, "write", "frame/+", "reading/+", "label"),
        *rules(OWNER, "read", *for_people, "ack", "private/+", "image/+"),
        *rules(HOME_ASSISTANT, "read", *for_people, "image/+"),
        AccessRule(HOME_ASSISTANT, "readwrite", f"{topics.DISCOVERY}/#"),
        AccessRule(HEALTH, "read", UPTIME),
    )


AT_UPLINK: Final = (
    AccessRule(GATEWAY, "read", topics.uplink("+")),
    AccessRule(GATEWAY, "read", topics.downlink_ack("+")),
    AccessRule(GATEWAY, "write", topics.uplink_ack("+")),
    AccessRule(GATEWAY, "write", topics.downlink("+")),
    AccessRule(GATEWAY, "write", topics.rejected("+", topics.NO_DEVICE)),
    AccessRule(GATEWAY, "write", topics.release_metadata("+")),
    AccessRule(GATEWAY, "read", topics.release_want("+")),
    AccessRule(GATEWAY, "write", topics.release_chunk("+")),
    AccessRule(HEALTH, "read", UPTIME),
    AccessRule(EVERYBODY, "read", topics.release_metadata("+")),
    AccessRule(EVERYBODY, "write", topics.release_want("%u")),
    AccessRule(EVERYBODY, "read", topics.release_chunk("%u")),
    AccessRule(EVERYBODY, "write", topics.uplink("%u")),
    AccessRule(EVERYBODY, "write", topics.downlink_ack("%u")),
    AccessRule(EVERYBODY, "read", topics.uplink_ack("%u")),
    AccessRule(EVERYBODY, "read", topics.downlink("%u")),
    AccessRule(EVERYBODY, "read", topics.rejected("%u", topics.NO_DEVICE)),
)
"""Rules of the broker between sites and cloud: a site reads and writes its own topics only."""


# --- Kafka -----------------------------------------------------------------------------------------------------

KAFKA_ADMIN: Final = "admin"
KAFKA_READER: Final = "reader"
"""Login of a person: reads every topic, joins none of our groups."""
KAFKA_LOGINS: Final = (KAFKA_ADMIN, "gateway", "stream", "cloud", "trainer", KAFKA_READER)


READ: Final[tuple[Operation, ...]] = ("READ", "DESCRIBE")
WRITE: Final[tuple[Operation, ...]] = ("WRITE", "DESCRIBE")
PUBLIC_FEATURES: Final = topics.ROUTED[Privacy.PUBLIC]

AT_KAFKA: Final = (
    Right("gateway", "TOPIC", topics.INGEST, WRITE),
    Right("gateway", "TOPIC", topics.REJECTED, WRITE),
    Right("gateway", "TOPIC", topics.RESULTS, READ),
    Right("gateway", "TOPIC", topics.MODELS, READ),
    Right("gateway", "GROUP", Group.GATEWAY, READ),
    *(
        Right("stream", "TOPIC", name, READ)
        for name in (topics.INGEST, topics.RESULTS, topics.SUMMARIES_INGEST, topics.LABELS, PUBLIC_FEATURES)
    ),
    *(
        Right("stream", "TOPIC", name, WRITE)
        for name in (
            *topics.ROUTED.values(),
            topics.REJECTED,
            topics.RESULTS,
            topics.SUMMARIES_INGEST,
            topics.SUMMARIES,
            topics.COUNTS,
            topics.LABELS,
            topics.LABELLED,
            topics.SUMS,
        )
    ),
    # It waits until all topics exist.
    Right("stream", "TOPIC", topics.MODELS, ("DESCRIBE",)),
    *(Right("stream", "TOPIC", name, (*READ, "WRITE")) for name in topics.CHANGELOGS),
    Right("stream", "GROUP", Group.STREAM, READ, True),
    Right("cloud", "TOPIC", PUBLIC_FEATURES, READ),
    Right("cloud", "TOPIC", topics.SUMMARIES, READ),
    Right("cloud", "TOPIC", topics.RESULTS, WRITE),
    Right("cloud", "TOPIC", topics.MODELS, READ),
    Right("cloud", "GROUP", Group.CLOUD, READ),
    Right("trainer", "TOPIC", topics.LABELLED, READ),
    Right("trainer", "TOPIC", topics.SUMS, READ),
    Right("trainer", "TOPIC", topics.MODELS, (*READ, "WRITE")),
    Right("trainer", "GROUP", Group.TRAINER, READ),
    Right(KAFKA_READER, "TOPIC", topics.KAFKA_ROOT, READ, True),
)
"""Only `stream` writes the topics that it routes to. The cloud agent reads public topics only."""
