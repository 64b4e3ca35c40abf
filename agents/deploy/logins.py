"""Who logs in where, and what each may do there: the tables that brokers are configured from.

A login that is not in a table does not exist, and each may do what its role does and nothing else::

    >>> [rule.topic for rule in AT_UPLINK if rule.login == GATEWAY and rule.access == "read"]
    ['tierwise/v1/uplink/+', 'tierwise/v1/downlink-ack/+', 'tierwise/v1/release/want/+']

At the uplink a site's login is called as the site, so that one pattern of Mosquitto's (``%u``) keeps every site to
itself. Names of roles have a dot in front, which no site can have.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from pipeline import topics
from pipeline.messages import Privacy, Tier
from pipeline.rights import Operation, Right
from pipeline.topics import Group

DEVICE: Final = ".device"
EDGE: Final = ".edge"
GATEWAY: Final = ".gateway"
HEALTH: Final = ".health"
"""Asks a broker whether it lives."""

CAMERA: Final = "camera"
"""Publishes frames and readings, and hears what became of them."""
VIEWER: Final = "viewer"
"""Reads what the site's people may read."""
OWNER: Final = "owner"
"""The user whose private answers these are."""
HOME_ASSISTANT: Final = "homeassistant"

PEOPLE: Final = (CAMERA, VIEWER, OWNER, HOME_ASSISTANT)
AT_SITE_LOGINS: Final = (DEVICE, EDGE, HEALTH, *PEOPLE)

EVERYBODY: Final = "*"
"""A rule for each login, in which ``%u`` stands for its name."""

UPTIME: Final = "$SYS/broker/uptime"


class Rule(NamedTuple):
    """One line of a broker's access rules."""

    login: str
    access: Literal["read", "write", "readwrite"]
    topic: str


def at_site(site: str) -> tuple[Rule, ...]:
    """The site's broker. Frames, readings and private answers belong to the device's agent and the user's own clients."""

    def of(channel: str) -> str:
        return f"{topics.ROOT}/{site}/+/{channel}"

    def rules(login: str, access: Literal["read", "write"], *channels: str) -> list[Rule]:
        return [Rule(login, access, of(channel)) for channel in channels]

    answers = [f"{branch}/{Tier.EDGE}" for branch in ("result", "private")]
    told = ("result/+", "sighting/+", "status", "rejected", "ask", "drift")
    device_tells = (
        "ack",
        "event/+",
        f"result/{Tier.DEVICE}",
        f"private/{Tier.DEVICE}",
        "rejected",
        "status",
        "drift",
    )
    edge_answers = [
        f"{branch}/{tier}" for branch in ("result", "private") for tier in (Tier.EDGE, Tier.CLOUD)
    ]
    return (
        *rules(DEVICE, "read", "frame/+", "reading/+", "event-ack", *answers),
        *rules(DEVICE, "write", *device_tells),
        *rules(EDGE, "read", "event/+", "status", "label"),
        *rules(
            EDGE,
            "write",
            "event-ack",
            "ack",
            *edge_answers,
            "sighting/+",
            "rejected",
            "status",
            "ask",
            "drift",
        ),
        Rule(EDGE, "write", f"{topics.DISCOVERY}/#"),
        *rules(CAMERA, "write", "frame/+", "reading/+"),
        *rules(CAMERA, "read", "ack", "rejected"),
        *rules(VIEWER, "read", *told),
        *rules(OWNER, "write", "frame/+", "reading/+", "label"),
        *rules(OWNER, "read", *told, "ack", "private/+"),
        *rules(HOME_ASSISTANT, "read", *told),
        Rule(HOME_ASSISTANT, "readwrite", f"{topics.DISCOVERY}/#"),
        Rule(HEALTH, "read", UPTIME),
    )


AT_UPLINK: Final = (
    Rule(GATEWAY, "read", topics.uplink("+")),
    Rule(GATEWAY, "read", topics.downlink_ack("+")),
    Rule(GATEWAY, "write", topics.uplink_ack("+")),
    Rule(GATEWAY, "write", topics.downlink("+")),
    Rule(GATEWAY, "write", topics.rejected("+", topics.NO_DEVICE)),
    Rule(GATEWAY, "write", topics.release_metadata("+")),
    Rule(GATEWAY, "read", topics.release_want("+")),
    Rule(GATEWAY, "write", topics.release_chunk("+")),
    Rule(HEALTH, "read", UPTIME),
    Rule(EVERYBODY, "read", topics.release_metadata("+")),
    Rule(EVERYBODY, "write", topics.release_want("%u")),
    Rule(EVERYBODY, "read", topics.release_chunk("%u")),
    Rule(EVERYBODY, "write", topics.uplink("%u")),
    Rule(EVERYBODY, "write", topics.downlink_ack("%u")),
    Rule(EVERYBODY, "read", topics.uplink_ack("%u")),
    Rule(EVERYBODY, "read", topics.downlink("%u")),
    Rule(EVERYBODY, "read", topics.rejected("%u", topics.NO_DEVICE)),
)
"""The broker between sites and cloud: a site speaks and hears for itself alone."""


# --- Kafka -----------------------------------------------------------------------------------------------------

KAFKA_ADMIN: Final = "admin"
KAFKA_READER: Final = "reader"
"""A person's: reads every topic, joins no group of ours."""
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
    # It makes all topics, and waits until they are there.
    Right("stream", "TOPIC", topics.MODELS, ("DESCRIBE",)),
    # Faust's changelogs are called as its group, and it makes them itself.
    Right("stream", "TOPIC", Group.STREAM, ("READ", "WRITE", "DESCRIBE", "CREATE", "DESCRIBE_CONFIGS"), True),
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
"""Nobody but `stream` writes the topics that it routes to, and the cloud's agent reads what is public and nothing else."""
