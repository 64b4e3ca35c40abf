"""Kafka for gateway, cloud and command line: deliver, consume, read a table, create topics.

The gateway delivers what edges sent, and acknowledges it to them only afterwards; the cloud consumes what the router
let through, and commits only afterwards. The stream role does its own (`pipeline.stream`, on aiokafka)::

    producer = Producer(settings.kafka, "gateway")
    refused = producer.deliver([gate.clear_record(envelope) for envelope in batch.envelopes])   # or Retry, or Stop

    consumer = Consumer(settings.kafka, [topics.ROUTED[Privacy.PUBLIC]], group="tierwise-cloud", name="cloud")
    for fetched in consumer.poll():
        ...
    consumer.commit()

Whatever Kafka or its client says becomes `Retry` (away, busy), `Stop` (login or rights refused) or one record's
`Refused`. Memory is bounded: a producer holds what one `deliver` was given, a consumer what one fetch may bring.
The only file, with `pipeline.brokers` and `pipeline.stream`, that imports a Kafka client.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.privacy.gate import ClearedRecord
from pipeline.settings import KafkaSettings

CONNECT_TIMEOUT_MS: Final = 3_000
"""A broker that takes longer is as good as away: the caller keeps what it has and comes back."""
REQUEST_TIMEOUT_MS: Final = 5_000
DELIVERY_TIMEOUT_MS: Final = 10_000
"""Two requests' time: one may die with a broker's leader, the next finds its successor."""
SESSION_TIMEOUT_MS: Final = 10_000
HEARTBEAT_MS: Final = 1_000
"""How soon a member learns that another came or went."""
POLL_INTERVAL_MS: Final = 300_000
"""A consumer that works longer than this on one batch loses its partitions to another."""
METADATA_MAX_AGE_MS: Final = 30_000
"""A client that missed a new leader finds it this soon; the default is five minutes."""
IDLE_MAX_S: Final = 30.0
"""A member that has no partition for this long joins anew: one that joined at the wrong moment stays idle for ever."""
FETCH_MAX_BYTES: Final = 8 << 20
RECORD_MAX_BYTES: Final = 1 << 20
"""Kafka's own default for a record; an uplink batch is an eighth of it."""
TOPIC_POLL_S: Final = 0.5
POLICY_COMPACT: Final = {"cleanup.policy": "compact"}

_REFUSED: Final = {
    kafka_errors.MessageSizeTooLargeError: "record-too-large",
    kafka_errors.RecordListTooLargeError: "record-too-large",
    kafka_errors.InvalidRecordError: "record-invalid",
    kafka_errors.InvalidTimestampError: "record-time-invalid",
}
"""What Kafka says of a record that it will never take."""

_FINAL: Final = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthorizationError,
    kafka_errors.KafkaConfigurationError,
)
_FENCED: Final = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that Kafka will never take; `index` is its place in what was to be delivered."""

    index: int
    reason: str
    message: str


class Fetched(NamedTuple):
    """A record as it came."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Producer:
    """Delivers and waits for the acknowledgement of all in-sync replicas. Thread-safe; connects when first used."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._lock = threading.Lock()
        self._client: Any = None

    def deliver(self, records: Sequence[ClearedRecord]) -> tuple[Refused, ...]:
        """Store these records; return those that Kafka refuses for good, in order.

        Raises
        ------
        Retry
            At least one record is not known to be stored; deliver all of them again: repeats are harmless.
        Stop
            The login is refused, or has no right to a topic.
        """
        with self._lock:
            try:
                with _errors_mapped(self._settings):
                    refused = self._deliver(records)
                    if (
                        len(records) > 1
                    ):  # a whole batch may fall with one record of it: each gets its own chance
                        alone = ((lost.index, self._deliver([records[lost.index]])) for lost in refused)
                        refused = [replace(still, index=index) for index, rest in alone for still in rest]
            except (Retry, Stop):
                self._disconnect(timeout_s=0)
                raise
            return tuple(refused)

    def close(self, timeout_s: float = 2.0) -> None:
        """Let go of the connection; what `deliver` returned from is stored already."""
        with self._lock:
            self._disconnect(timeout_s)

    def _deliver(self, records: Sequence[ClearedRecord]) -> list[Refused]:
        if self._client is None:
            self._client = _opened(
                KafkaProducer,
                self._settings,
                self._name,
                acks="all",
                enable_idempotence=False,  # repeats are harmless by the envelopes' ids
                max_in_flight_requests_per_connection=1,  # keeps the order across retries
                linger_ms=2,
                max_request_size=RECORD_MAX_BYTES,
                max_block_ms=REQUEST_TIMEOUT_MS,
                allow_auto_create_topics=False,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            )
        refused: dict[int, Exception] = {}
        sent: dict[int, Any] = {}
        for index, record in enumerate(records):
            try:
                sent[index] = self._client.send(
                    record.topic,
                    key=record.key or None,
                    value=record.value,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp_ms,
                )
            except tuple(_REFUSED) as error:
                refused[index] = error
        self._client.flush(timeout=DELIVERY_TIMEOUT_MS / 1000 + 1)
        for index, future in sent.items():
            try:
                future.get(timeout=0)
            except tuple(_REFUSED) as error:
                refused[index] = error
        return [
            Refused(index, _REFUSED[type(refused[index])], str(refused[index])) for index in sorted(refused)
        ]

    def _disconnect(self, timeout_s: float) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):  # what is unfinished was reported as such
                client.close(timeout=timeout_s)


class Consumer:
    """Reads topics as a member of a group, from the earliest record that the group has not committed. One thread."""

    def __init__(self, settings: KafkaSettings, names: Sequence[str], group: str, name: str) -> None:
        self._settings = settings
        self._topics = tuple(names)
        self._group = group
        self._name = name
        self._client: Any = None
        self._idle_since_s = 0.0

    def poll(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Fetched]:
        """What came next, by partition in order; empty when nothing did (also while the broker is away for a moment).

        Raises
        ------
        Retry
            Kafka cannot be reached; call again.
        Stop
            The login is refused, or has no right to a topic or to the group.
        """
        with _errors_mapped(self._settings):
            if self._client is None:
                self._client = self._joined()
                self._idle_since_s = time.monotonic()
            found = _flat(self._client.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records))
        if self._client.assignment():
            self._idle_since_s = time.monotonic()
        elif time.monotonic() - self._idle_since_s > IDLE_MAX_S:
            self.close()
        return found

    def commit(self) -> bool:
        """Never give this group again what `poll` returned so far.

        Returns
        -------
        bool
            False: the group was rebalanced meanwhile, and what was not committed comes again, here or elsewhere.
        """
        if self._client is None:
            return False
        try:
            with _errors_mapped(self._settings):
                self._client.commit(timeout_ms=REQUEST_TIMEOUT_MS)
        except _Fenced:
            return False
        return True

    def _joined(self) -> Any:
        client = _opened(
            KafkaConsumer,
            self._settings,
            self._name,
            allow_auto_create_topics=False,
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS,
            fetch_max_bytes=FETCH_MAX_BYTES,
        )
        client.subscribe(self._topics)
        # Asking also fetches the metadata: a leader that joins without them assigns nothing to anybody.
        missing = [name for name in self._topics if not client.partitions_for_topic(name)]
        if missing:
            client.close(autocommit=False, timeout_ms=0)
            raise Retry(
                f"Kafka at {_where(self._settings)} has no topic {', '.join(missing)} that we may see"
            )
        return client

    def lag(self) -> int:
        """Records behind the end of our partitions, as far as the last fetch told."""
        if self._client is None:
            return 0
        ends = (
            (self._client.highwater(tp), self._client.position(tp, timeout_ms=0))
            for tp in self._client.assignment()
        )
        return sum(
            max(0, end - position) for end, position in ends if end is not None and position is not None
        )

    def close(self, timeout_s: float = 2.0) -> None:
        """Leave the group."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):  # a dead broker finds out by itself
                client.close(autocommit=False, timeout_ms=round(timeout_s * 1000))


class Place(NamedTuple):
    """How far a group has come in one partition."""

    committed: int
    """The next record to read; the first one there is, where the group committed none."""
    end: int


class Progress:
    """Looks at a group from outside, without joining it: what its members believe does not matter. One thread."""

    def __init__(self, settings: KafkaSettings, names: Sequence[str], group: str) -> None:
        self._settings = settings
        self._group = group
        self._partitions = [
            TopicPartition(name, number) for name in names for number in range(topics.PARTITIONS)
        ]
        self._client: Any = None

    def measure(self) -> dict[tuple[str, int], Place]:
        """Where the group stands in each partition.

        Raises
        ------
        Retry
            Kafka cannot be reached.
        Stop
            The login is refused, or may not look at the group.
        """
        with _errors_mapped(self._settings):
            if self._client is None:
                self._client = _opened(
                    KafkaConsumer, self._settings, "progress", group_id=self._group, enable_auto_commit=False
                )
                self._client.assign(self._partitions)
            starts = self._client.beginning_offsets(self._partitions)
            ends = self._client.end_offsets(self._partitions)
            places = {}
            for partition in self._partitions:
                committed = self._client.committed(partition, timeout_ms=REQUEST_TIMEOUT_MS)
                places[tuple(partition)] = Place(max(committed or 0, starts[partition]), ends[partition])
            return places

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                client.close(autocommit=False, timeout_ms=0)


def read_all(settings: KafkaSettings, topic: str, timeout_s: float = 10.0) -> dict[bytes, bytes]:
    """The last value of each key of a compacted topic; keys that were deleted are not there.

    Raises
    ------
    Retry
        Kafka cannot be reached, or its end was not reached within `timeout_s`.
    Stop
        The login is refused, or has no right to the topic, or there is no such topic.
    """
    table: dict[bytes, bytes] = {}
    deadline = time.monotonic() + timeout_s
    with _errors_mapped(settings), contextlib.closing(_reader(settings)) as client:
        numbers = client.partitions_for_topic(topic)
        if not numbers:
            raise Stop(f"Kafka at {_where(settings)} has no topic {topic}: start `tierwise stream` first")
        partitions = [TopicPartition(topic, number) for number in numbers]
        client.assign(partitions)
        ends = client.end_offsets(partitions)
        client.seek_to_beginning()
        while any(client.position(partition) < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                raise Retry(
                    f"Kafka at {_where(settings)}: {topic} was not read to its end within {timeout_s:g} s"
                )
            for fetched in _flat(client.poll(timeout_ms=200)):
                if fetched.key is None:
                    continue
                if fetched.value is None:
                    table.pop(fetched.key, None)
                else:
                    table[fetched.key] = fetched.value
    return table


def record_counts(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """How many records each topic was given and still holds. Raises as `read_all`."""
    counts = dict.fromkeys(names, 0)
    with _errors_mapped(settings), contextlib.closing(_reader(settings)) as client:
        for name in names:
            partitions = [TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()]
            starts, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
            counts[name] = sum(ends[partition] - starts[partition] for partition in partitions)
    return counts


def create_topics(settings: KafkaSettings, names: Iterable[str] = topics.KAFKA_TOPICS) -> tuple[str, ...]:
    """Create those of these topics that are not there; return them. What exists stays as it is.

    Raises
    ------
    Retry
        Kafka cannot be reached, or has fewer brokers than `replication` asks for.
    Stop
        The login is refused or may create no topics.
    """
    with _errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
        there = set(admin.list_topics())
        wanted = {name: _configuration(settings, name) for name in names if name not in there}
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


def wait_for_topics(
    settings: KafkaSettings, names: Iterable[str], stop: threading.Event, timeout_s: float | None = None
) -> bool:
    """Wait until these topics can be used; False if `stop` was set before.

    Raises
    ------
    Retry
        `timeout_s` passed (None: never).
    Stop
        The login is refused or may not see one of the topics; a topic has another number of partitions than ours.
    """
    wanted = set(names)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    trouble = ""
    while not stop.is_set():
        try:
            with _errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
                while not stop.is_set():
                    missing = wanted - _usable(admin.describe_topics(sorted(wanted)))
                    if not missing:
                        return True
                    trouble = (
                        f"no topic {', '.join(sorted(missing))}: start `tierwise stream`, which creates them"
                    )
                    if deadline is not None and time.monotonic() > deadline:
                        break
                    stop.wait(TOPIC_POLL_S)
        except Retry as error:
            trouble = str(error)
        if deadline is not None and time.monotonic() > deadline:
            raise Retry(f"Kafka at {_where(settings)}: {trouble}")
        stop.wait(TOPIC_POLL_S)
    return False


def check(settings: KafkaSettings) -> None:
    """See whether Kafka answers.

    Raises
    ------
    Retry
        It does not.
    Stop
        It refuses the login.
    """
    with _errors_mapped(settings), contextlib.closing(_admin(settings)) as admin:
        admin.list_topics()


# --- the client's ways -----------------------------------------------------------------------------------------


class _Fenced(Retry):
    """The group went on without this member's commit."""


@contextlib.contextmanager
def _errors_mapped(settings: KafkaSettings) -> Iterator[None]:
    where = _where(settings)
    try:
        yield
    except _FENCED as error:
        raise _Fenced(f"Kafka at {where} gave our partitions to another member: {error}") from error
    except _FINAL as error:
        raise Stop(
            f"Kafka at {where} refuses us: {_said(error)}. Check security, mechanism, username and password under [kafka], "
            "and the rights of that user"
        ) from error
    except (kafka_errors.KafkaError, OSError) as error:
        raise Retry(f"Kafka at {where}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _where(settings: KafkaSettings) -> str:
    return ",".join(settings.servers)


def _connection(settings: KafkaSettings, name: str) -> dict[str, Any]:
    sasl = {
        "sasl_mechanism": settings.mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password,
    }
    return {
        "bootstrap_servers": list(settings.servers),
        "client_id": f"tierwise-{name}",
        "security_protocol": settings.security,
        "ssl_cafile": settings.ca or None,
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    } | (sasl if settings.security.startswith("SASL_") else {})


def _opened(kind: Callable[..., Any], settings: KafkaSettings, name: str, **more: Any) -> Any:
    """A connected client. One that fails to connect leaves its network thread behind: end it."""
    _knock(settings)
    networks: list[KafkaNetClient] = []

    def network(**configuration: Any) -> KafkaNetClient:
        networks.append(KafkaNetClient(**configuration))
        return networks[-1]

    try:
        return kind(**_connection(settings, name), **more, kafka_client=network)
    except BaseException:
        for each in networks:
            each.close()
        raise


def _knock(settings: KafkaSettings) -> None:
    """See whether anybody listens: where nobody does, the client would leak a socket an attempt, for seconds."""
    refused: OSError | None = None
    for server in settings.servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_MS / 1000).close()
        except OSError as error:
            refused = error
        else:
            return
    if refused is not None:
        raise refused


def _admin(settings: KafkaSettings) -> Any:
    return _opened(KafkaAdminClient, settings, "admin")


def _reader(settings: KafkaSettings) -> Any:
    return _opened(
        KafkaConsumer,
        settings,
        "reader",
        group_id=None,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        fetch_max_bytes=FETCH_MAX_BYTES,
    )


def _configuration(settings: KafkaSettings, name: str) -> dict[str, Any]:
    keep = {"retention.bytes": str(settings.retention_mib << 20)}
    return {
        "num_partitions": topics.PARTITIONS,
        "replication_factor": settings.replication,
        "configs": POLICY_COMPACT if name in topics.COMPACTED else keep,
    }


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


def _flat(polled: Mapping[Any, Sequence[Any]]) -> list[Fetched]:
    return [
        Fetched(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )
        for records in polled.values()
        for record in records
    ]
