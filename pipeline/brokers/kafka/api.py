"""Requests about topics and records: a function for each, and the table of all requests that this broker answers.

A handler gets a decoded request and returns the response. It puts an error code into the row of the topic or partition
that it refuses, so that the rest of the request takes effect.

Source: Kafka's protocol guide; encoders and decoders are kafka-python's.

Example::

    api = API_BY_KEY[3]                                    # Metadata
    response = await api.handler(broker, request)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka.protocol import admin, consumer, metadata, producer

from pipeline.brokers.kafka.batch import records_of, verify_produced
from pipeline.brokers.kafka.coordinator import Coordinator
from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.log import PartitionLog
from pipeline.brokers.kafka.store import BrokerStore
from pipeline.brokers.kafka.topics import DEFAULT_PARTITIONS, effective_configs

NODE = 1
# Largest fetch, whatever the client asks for: a slow consumer holds no more of our memory than this.
MAX_FETCH_BYTES = 2 * 2**20

EARLIEST, LATEST = -2, -1  # in the place of a timestamp in ListOffsets
TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
FROM_TOPIC, FROM_BROKER_FILE, FROM_DEFAULT = 1, 4, 5  # where the value of a setting comes from
BROKER_CONFIGS = {"auto.create.topics.enable": "false", "num.partitions": str(DEFAULT_PARTITIONS)}


@dataclass(frozen=True, slots=True)
class Broker:
    """The state that the handlers share."""

    store: BrokerStore
    groups: Coordinator
    host: str
    port: int


async def produce(broker: Broker, request: Any) -> Any | None:
    """Append records. Answer after the sync that covers them; with acks=0 do not answer."""
    appended: list[PartitionLog] = []
    topics = []
    row = producer.ProduceResponse.TopicProduceResponse
    for topic in request.topic_data:
        partitions = []
        for sent in topic.partition_data:
            offset, start, code, message = -1, -1, Code.NONE, None
            try:
                if request.acks not in (-1, 0, 1):
                    raise BrokerError(Code.INVALID_REQUIRED_ACKS, "acks is 0, 1 or all")
                log = broker.store.log(topic.name, sent.index)
                offset, start = _append(log, sent.records or b""), log.start_offset
                appended.append(log)
            except BrokerError as error:
                code, message = error.code, str(error)
            partitions.append(
                row.PartitionProduceResponse(
                    index=sent.index,
                    error_code=code,
                    base_offset=offset,
                    log_append_time_ms=-1,
                    log_start_offset=start,
                    record_errors=[],
                    error_message=message,
                )
            )
        topics.append(row(name=topic.name, partition_responses=partitions))
    if request.acks == 0:
        broker.store.request_sync(appended)
        return None
    if appended:
        await broker.store.durable(appended)
    return producer.ProduceResponse(responses=topics, throttle_time_ms=0)


def _append(log: PartitionLog, records: bytes) -> int:
    header = verify_produced(records, log.limits.max_message_bytes)
    if log.limits.compact:
        if header.compressed:
            raise BrokerError(Code.UNSUPPORTED_COMPRESSION_TYPE, "a compacted topic takes uncompressed batches only")
        if any(record.key is None for record in records_of(records, 0, header)):
            raise BrokerError(Code.INVALID_RECORD, "a record of a compacted topic needs a key")
    return log.append(bytearray(records), header)


async def fetch(broker: Broker, request: Any) -> Any:
    """Read records. Answer as soon as there are `min_bytes` or an error, or after `max_wait_ms`."""
    if request.session_id:
        return consumer.FetchResponse(
            throttle_time_ms=0, error_code=Code.FETCH_SESSION_ID_NOT_FOUND, session_id=0, responses=[]
        )
    grown = asyncio.Event()
    logs = [
        log
        for topic in request.topics
        for wanted in topic.partitions
        if (log := broker.store.find(topic.topic, wanted.partition)) is not None
    ]
    for log in logs:
        log.listeners.add(grown.set)
    try:
        async with asyncio.timeout(max(request.max_wait_ms, 0) / 1000):
            while True:
                grown.clear()
                topics, found_bytes, refused = _read(broker, request)
                if refused or found_bytes >= max(request.min_bytes, 0):
                    break
                await grown.wait()
    except TimeoutError:
        pass
    finally:
        for log in logs:
            log.listeners.discard(grown.set)
    return consumer.FetchResponse(throttle_time_ms=0, error_code=Code.NONE, session_id=0, responses=topics)


def _read(broker: Broker, request: Any) -> tuple[list[Any], int, bool]:
    topics = []
    found_bytes, any_refused = 0, False
    row = consumer.FetchResponse.FetchableTopicResponse
    limit_bytes = max(1, min(request.max_bytes, MAX_FETCH_BYTES))
    for topic in request.topics:
        partitions = []
        for wanted in topic.partitions:
            records, code, end, start = b"", Code.NONE, -1, -1
            try:
                log = broker.store.log(topic.topic, wanted.partition)
                end, start = log.durable_offset, log.start_offset
                if found_bytes < limit_bytes:
                    left_bytes = min(wanted.partition_max_bytes, limit_bytes - found_bytes)
                    records = log.read(wanted.fetch_offset, left_bytes)
                found_bytes += len(records)
            except BrokerError as error:
                code, any_refused = error.code, True
            partitions.append(
                row.PartitionData(
                    partition_index=wanted.partition,
                    error_code=code,
                    high_watermark=end,
                    last_stable_offset=end,
                    log_start_offset=start,
                    aborted_transactions=None,
                    preferred_read_replica=-1,
                    records=records,
                )
            )
        topics.append(row(topic=topic.topic, partitions=partitions))
    return topics, found_bytes, any_refused


async def list_offsets(broker: Broker, request: Any) -> Any:
    """Return the first or next offset of partitions, or the first offset at a time."""
    row = consumer.ListOffsetsResponse.ListOffsetsTopicResponse
    topics = []
    for topic in request.topics:
        partitions = []
        for wanted in topic.partitions:
            code, found = Code.NONE, (-1, -1)
            try:
                log = broker.store.log(topic.name, wanted.partition_index)
                if wanted.timestamp == EARLIEST:
                    found = (log.start_offset, -1)
                elif wanted.timestamp == LATEST:
                    found = (log.durable_offset, -1)
                elif wanted.timestamp >= 0:
                    found = log.offset_at(wanted.timestamp) or found
                else:
                    raise BrokerError(Code.UNSUPPORTED_VERSION, f"{wanted.timestamp} is not a time")
            except BrokerError as error:
                code = error.code
            partitions.append(
                row.ListOffsetsPartitionResponse(
                    partition_index=wanted.partition_index,
                    error_code=code,
                    offset=found[0],
                    timestamp=found[1],
                    leader_epoch=0 if found[0] >= 0 else -1,
                )
            )
        topics.append(row(name=topic.name, partitions=partitions))
    return consumer.ListOffsetsResponse(throttle_time_ms=0, topics=topics)


async def describe(broker: Broker, request: Any) -> Any:
    """Return the metadata of topics. A request never creates a topic."""
    row = metadata.MetadataResponse.MetadataResponseTopic
    known = broker.store.catalog.topics
    everything = request.topics is None or (request.API_VERSION == 0 and not request.topics)
    topics = []
    for name in list(known) if everything else [topic.name for topic in request.topics]:
        topic = known.get(name)
        topics.append(
            row(
                error_code=Code.UNKNOWN_TOPIC_OR_PARTITION if topic is None else Code.NONE,
                name=name,
                is_internal=False,
                partitions=[
                    row.MetadataResponsePartition(
                        error_code=Code.NONE,
                        partition_index=partition,
                        leader_id=NODE,
                        leader_epoch=0,
                        replica_nodes=[NODE],
                        isr_nodes=[NODE],
                        offline_replicas=[],
                    )
                    for partition in range(topic.partitions if topic else 0)
                ],
            )
        )
    node = metadata.MetadataResponse.MetadataResponseBroker(node_id=NODE, host=broker.host, port=broker.port, rack=None)
    return metadata.MetadataResponse(
        throttle_time_ms=0,
        brokers=[node],
        cluster_id=broker.store.catalog.cluster_id,
        controller_id=NODE,
        topics=topics,
    )


async def find_coordinator(broker: Broker, request: Any) -> Any:
    """Return this broker, which coordinates all groups; it has no transactions."""
    is_group = request.API_VERSION == 0 or request.key_type == 0
    return metadata.FindCoordinatorResponse(
        throttle_time_ms=0,
        error_code=Code.NONE if is_group else Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        error_message=None if is_group else "this broker has no transactions",
        node_id=NODE if is_group else -1,
        host=broker.host,
        port=broker.port,
    )


async def create_topics(broker: Broker, request: Any) -> Any:
    """Create topics; each is on disk before the answer."""
    row = admin.CreateTopicsResponse.CreatableTopicResult
    results = []
    for topic in request.topics:
        code, message = Code.NONE, None
        try:
            if topic.assignments:
                raise BrokerError(
                    Code.INVALID_REQUEST, "there is only one broker: partitions cannot be assigned by hand"
                )
            partitions = DEFAULT_PARTITIONS if topic.num_partitions == -1 else topic.num_partitions
            configs = {config.name: config.value for config in topic.configs}
            create = broker.store.check_create if request.validate_only else broker.store.create
            create(topic.name, partitions, topic.replication_factor, configs)
        except BrokerError as error:
            code, message = error.code, str(error)
        results.append(row(name=topic.name, error_code=code, error_message=message))
    return admin.CreateTopicsResponse(throttle_time_ms=0, topics=results)


async def delete_topics(broker: Broker, request: Any) -> Any:
    """Delete topics; their files and committed offsets are gone before the answer."""
    row = admin.DeleteTopicsResponse.DeletableTopicResult
    results = []
    for name in request.topic_names:
        code = Code.NONE
        try:
            await broker.store.delete(name)
        except BrokerError as error:
            code = error.code
        results.append(row(name=name, error_code=code))
    return admin.DeleteTopicsResponse(throttle_time_ms=0, responses=results)


async def describe_configs(broker: Broker, request: Any) -> Any:
    """Return the settings of topics and of the broker."""
    row = admin.DescribeConfigsResponse.DescribeConfigsResult
    results = []
    for resource in request.resources:
        configs: dict[str, tuple[str, int]] = {}
        code, message = Code.NONE, None
        topic = broker.store.catalog.topics.get(resource.resource_name)
        if resource.resource_type == BROKER_RESOURCE:
            configs = {name: (value, FROM_BROKER_FILE) for name, value in BROKER_CONFIGS.items()}
        elif resource.resource_type != TOPIC_RESOURCE:
            code, message = Code.INVALID_REQUEST, "only topics and the broker have settings here"
        elif topic is None:
            code, message = Code.UNKNOWN_TOPIC_OR_PARTITION, f"no topic {resource.resource_name!r}"
        else:
            for name, (value, is_default) in effective_configs(topic.configs).items():
                configs[name] = (value, FROM_DEFAULT if is_default else FROM_TOPIC)
        wanted = resource.configuration_keys
        results.append(
            row(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                configs=[
                    row.DescribeConfigsResourceResult(
                        name=name,
                        value=value,
                        read_only=True,
                        is_default=source != FROM_TOPIC,
                        config_source=source,
                        is_sensitive=False,
                        synonyms=[],
                    )
                    for name, (value, source) in configs.items()
                    if not wanted or name in wanted
                ],
            )
        )
    return admin.DescribeConfigsResponse(throttle_time_ms=0, results=results)


async def init_producer_id(_broker: Broker, request: Any) -> Any:
    """Return a number for an idempotent producer. It is random, so that no number repeats after a restart."""
    if request.transactional_id is not None:
        return producer.InitProducerIdResponse(
            throttle_time_ms=0,
            error_code=Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            producer_id=-1,
            producer_epoch=-1,
        )
    return producer.InitProducerIdResponse(
        throttle_time_ms=0, error_code=Code.NONE, producer_id=secrets.randbits(62), producer_epoch=0
    )


async def api_versions(_broker: Broker, _request: Any) -> Any:
    """Return the table below; clients ask for it first."""
    return versions_response(Code.NONE, API_BY_KEY)


def versions_response(code: Code, apis: Mapping[int, Api]) -> Any:
    """Return the response that lists these requests and their versions."""
    row = metadata.ApiVersionsResponse.ApiVersion
    return metadata.ApiVersionsResponse(
        error_code=code,
        throttle_time_ms=0,
        api_keys=[row(api_key=key, min_version=api.oldest, max_version=api.newest) for key, api in apis.items()],
    )


@dataclass(frozen=True, slots=True)
class Api:
    """A kind of request: its codec, the versions that we answer, and its handler."""

    request: Any
    oldest: int
    newest: int
    handler: Callable[[Broker, Any], Awaitable[Any]]


# The oldest versions are those of Apache Kafka 4. The newest end before features that no client of ours needs: topic
# ids, fetch sessions, static members, transactions.
APIS = (
    Api(producer.ProduceRequest, 3, 8, produce),
    Api(consumer.FetchRequest, 4, 11, fetch),
    Api(consumer.ListOffsetsRequest, 1, 5, list_offsets),
    Api(metadata.MetadataRequest, 0, 8, describe),
    Api(consumer.OffsetCommitRequest, 2, 6, lambda broker, request: broker.groups.commit(request)),
    Api(consumer.OffsetFetchRequest, 1, 5, lambda broker, request: broker.groups.committed(request)),
    Api(metadata.FindCoordinatorRequest, 0, 2, find_coordinator),
    Api(consumer.JoinGroupRequest, 0, 4, lambda broker, request: broker.groups.join(request)),
    Api(consumer.HeartbeatRequest, 0, 2, lambda broker, request: broker.groups.heartbeat(request)),
    Api(consumer.LeaveGroupRequest, 0, 2, lambda broker, request: broker.groups.leave(request)),
    Api(consumer.SyncGroupRequest, 0, 2, lambda broker, request: broker.groups.sync(request)),
    Api(metadata.ApiVersionsRequest, 0, 4, api_versions),
    Api(admin.CreateTopicsRequest, 2, 4, create_topics),
    Api(admin.DeleteTopicsRequest, 1, 3, delete_topics),
    Api(producer.InitProducerIdRequest, 0, 1, init_producer_id),
    Api(admin.DescribeConfigsRequest, 1, 2, describe_configs),
)
API_BY_KEY: dict[int, Api] = {api.request.API_KEY: api for api in APIS}
