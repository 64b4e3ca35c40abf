"""Topics: the stream role creates them, the other roles wait until they can be used.

Example::

    create_topics(settings.kafka)                                        # `tierwise stream`, at its start
    wait_for_topics(settings.kafka, [topics.INGEST], stop=stopping)      # gateway and cloud, at theirs
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.kafka.connection import REQUEST_TIMEOUT_MS, address, errors_mapped, opened
from pipeline.settings.settings import KafkaSettings

TOPIC_POLL_S: Final = 0.5
POLICY_COMPACT: Final = {"cleanup.policy": "compact"}

ALL_TOPICS: Final = (*topics.KAFKA_TOPICS, *topics.CHANGELOGS)
"""Also those that Faust would create itself, so that it needs no right to, and finds them when it joins its group."""


def create_topics(settings: KafkaSettings, names: Iterable[str] = ALL_TOPICS) -> tuple[str, ...]:
    """Create the missing ones of these topics and return their names. Existing topics stay as they are.

    Raises
    ------
    Retry
        Kafka cannot be reached, or has fewer brokers than `replication` asks for.
    Stop
        The login is refused or may create no topics.
    """
    with errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
        there = set(admin.list_topics())
        configurations = topic_configurations(settings, names)
        wanted = {
            name: {"num_partitions": topics.PARTITIONS, "replication_factor": settings.replication, "configs": configs}
            for name, configs in configurations.items()
            if name not in there
        }
        if not wanted:
            return ()
        answer = admin.create_topics(wanted, timeout_ms=REQUEST_TIMEOUT_MS, raise_errors=False)
        created = []
        for topic in answer["topics"]:
            error = kafka_errors.for_code(topic["error_code"])
            if error is kafka_errors.NoError:
                created.append(topic["name"])
            elif error is not kafka_errors.TopicAlreadyExistsError:  # another worker was quicker
                raise error(f"topic {topic['name']}: {topic.get('error_message') or error.__name__}")
        return tuple(created)


def topic_configurations(settings: KafkaSettings, names: Iterable[str] = ALL_TOPICS) -> dict[str, Mapping[str, str]]:
    """Return the broker's configuration of each topic."""
    keep = {"retention.bytes": str(settings.retention_mib << 20)}
    compacted = topics.COMPACTED.union(topics.CHANGELOGS)
    return {name: POLICY_COMPACT if name in compacted else keep for name in names}


def wait_for_topics(
    settings: KafkaSettings, names: Iterable[str], stop: threading.Event, timeout_s: float | None = None
) -> bool:
    """Wait until these topics can be used. Return False if `stop` was set before that.

    Raises
    ------
    Retry
        `timeout_s` has passed; without it the wait has no end.
    Stop
        The login is refused or may not see one of the topics; a topic has another number of partitions than ours.
    """
    wanted = set(names)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    trouble = ""
    while not stop.is_set():
        try:
            with errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
                while not stop.is_set():
                    missing = wanted - _usable(admin.describe_topics(sorted(wanted)))
                    if not missing:
                        return True
                    trouble = f"no topic {', '.join(sorted(missing))}: start `tierwise stream`, which creates them"
                    if deadline is not None and time.monotonic() > deadline:
                        break
                    stop.wait(TOPIC_POLL_S)
        except Retry as error:
            trouble = str(error)
        if deadline is not None and time.monotonic() > deadline:
            raise Retry(f"Kafka at {address(settings)}: {trouble}")
        stop.wait(TOPIC_POLL_S)
    return False


def missing(settings: KafkaSettings, names: Iterable[str]) -> Retry:
    """Return the error for topics that a consumer does not see. Raises `Stop` if this login has no right to one.

    A consumer cannot tell the difference: Kafka leaves out both kinds where it is asked for all topics.
    """
    wanted = sorted(names)
    with errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
        _usable(admin.describe_topics(wanted))
    return Retry(f"Kafka at {address(settings)} has no topic {', '.join(wanted)}: start `tierwise stream` first")


def check(settings: KafkaSettings) -> None:
    """Check that Kafka answers.

    Raises
    ------
    Retry
        It does not.
    Stop
        It refuses the login.
    """
    with errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
        admin.list_topics()


def _admin(settings: KafkaSettings) -> Any:
    return opened(KafkaAdminClient, settings, "admin")


def _usable(described: Iterable[Mapping[str, Any]]) -> set[str]:
    usable = set()
    for topic in described:
        error = kafka_errors.for_code(topic["error_code"])
        if issubclass(error, kafka_errors.AuthorizationError):
            raise error(f"no right to topic {topic['name']}")
        partitions = topic["partitions"]
        if error is not kafka_errors.NoError or any(partition["leader_id"] < 0 for partition in partitions):
            continue
        if len(partitions) != topics.PARTITIONS:
            raise Stop(
                f"Kafka's topic {topic['name']} has {len(partitions)} partitions; Tierwise needs {topics.PARTITIONS} in "
                "each topic, since a record keeps its partition's number: delete the topic, `tierwise stream` creates it"
            )
        usable.add(topic["name"])
    return usable
