"""Topics as `topics.json` describes them: names, partitions and settings, each checked before it is stored.

Example::

    limits_of({"cleanup.policy": "compact"}).compact == True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.log import LogLimits

# Kafka's rule, less the characters that our directory names add.
NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,240}")
DEFAULT_PARTITIONS = 12
# Each partition may hold a file open.
MOST_PARTITIONS = 1000

_DEFAULTS = LogLimits()


class Topic(msgspec.Struct, frozen=True):
    """A topic: the directory of its partitions, their number, and the settings from its creation."""

    directory: str
    partitions: int
    configs: dict[str, str]


class Catalog(msgspec.Struct, frozen=True):
    """The content of topics.json."""

    cluster_id: str
    topics: dict[str, Topic]


@dataclass(frozen=True, slots=True)
class Setting:
    """A topic setting: its name in Kafka, the field of LogLimits that it sets, and its smallest value."""

    name: str
    field: str
    smallest: int


CLEANUP_POLICY = "cleanup.policy"
POLICIES = ("delete", "compact", "compact,delete", "delete,compact")
SETTINGS = (
    Setting("delete.retention.ms", "delete_retention_ms", 0),
    Setting("max.message.bytes", "max_message_bytes", 0),
    Setting("retention.bytes", "retention_bytes", -1),
    Setting("retention.ms", "retention_ms", -1),
    Setting("segment.bytes", "segment_bytes", 2**20),  # Kafka 4's own smallest value
)
# Memory holds a whole batch.
LARGEST_MESSAGE_BYTES = 8 * 2**20


def limits_of(configs: Mapping[str, str | None]) -> LogLimits:
    """Return the limits of a topic's settings.

    Raises
    ------
    BrokerError
        INVALID_CONFIG: a setting is unknown here or out of range.
    """
    fields: dict[str, int] = {}
    settings = {setting.name: setting for setting in SETTINGS}
    for name, text in configs.items():
        if name == CLEANUP_POLICY and text in POLICIES:
            continue
        setting = settings.get(name)
        number = int(text) if text is not None and re.fullmatch(r"-?\d{1,18}", text) else None
        if setting is None or number is None or number < setting.smallest:
            known = ", ".join([CLEANUP_POLICY, *settings])
            raise BrokerError(Code.INVALID_CONFIG, f"{name}={text} is refused; this broker knows: {known}")
        fields[setting.field] = number
    if fields.get("max_message_bytes", 0) > LARGEST_MESSAGE_BYTES:
        raise BrokerError(Code.INVALID_CONFIG, f"max.message.bytes is at most {LARGEST_MESSAGE_BYTES}")
    policies = (configs.get(CLEANUP_POLICY) or POLICIES[0]).split(",")
    return LogLimits(**fields, compact="compact" in policies, delete="delete" in policies)


def effective_configs(configs: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """Return every setting of a topic: its value, and whether it is the default."""
    values = {setting.name: str(getattr(_DEFAULTS, setting.field)) for setting in SETTINGS}
    values[CLEANUP_POLICY] = POLICIES[0]
    return {name: (configs.get(name, value), name not in configs) for name, value in values.items()}


def check_new(name: str, partitions: int, replicas: int, existing: Mapping[str, Topic]) -> None:
    """Check that this topic can be created.

    Raises
    ------
    BrokerError
        With the problem.
    """
    if not NAME.fullmatch(name):
        raise BrokerError(Code.INVALID_TOPIC_EXCEPTION, f"topic name {name!r}: use 1 to 240 of a-z A-Z 0-9 . _ -")
    if name in existing:
        raise BrokerError(Code.TOPIC_ALREADY_EXISTS, f"topic {name} exists")
    if partitions < 1 or partitions + sum(t.partitions for t in existing.values()) > MOST_PARTITIONS:
        raise BrokerError(Code.INVALID_PARTITIONS, f"{partitions} partitions: all topics may have {MOST_PARTITIONS}")
    if replicas not in (-1, 1):
        raise BrokerError(Code.INVALID_REPLICATION_FACTOR, f"{replicas} replicas: there is only one broker, use 1")
