"""What Tierwise relies on of a Kafka broker: the same on the embedded broker and on Apache Kafka (--real).

Clients are the three that Tierwise uses, as they are: kafka-python, aiokafka and Faust.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioTopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.protocol import metadata, producer
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka_brokers import eventually, unique

FAUST_WORKER = Path(__file__).parents[2] / "samples" / "faust_worker.py"


@contextmanager
def admin_of(kafka: Any) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=kafka.address)) as admin:
        yield admin


@contextmanager
def producer_of(kafka: Any, **settings: Any) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(bootstrap_servers=kafka.address, **settings)) as producer:
        yield producer


@contextmanager
def consumer_of(kafka: Any, *topics: str, **settings: Any) -> Iterator[KafkaConsumer]:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **settings}
    with closing(KafkaConsumer(*topics, bootstrap_servers=kafka.address, **settings)) as consumer:
        yield consumer


def new_topic(kafka: Any, partitions: int = 1, **configs: str) -> str:
    name = unique("topic")
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    with admin_of(kafka) as admin:
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        eventually(lambda: admin.describe_topics([name])[0]["error_code"] == 0)
    return name


# kafka-python may never heartbeat again if a poll ends during a rebalance, so polls are long enough.
def read(consumer: KafkaConsumer, count: int, timeout_s: float = 30.0) -> list[Any]:
    records: list[Any] = []

    def enough() -> bool:
        for batch in consumer.poll(timeout_ms=1000).values():
            records.extend(batch)
        return len(records) >= count

    eventually(enough, timeout_s, interval_s=0)
    return records


def read_topic(kafka: Any, topic: str, count: int) -> list[Any]:
    with consumer_of(kafka, topic) as consumer:
        return read(consumer, count)


def read_to_the_end(kafka: Any, topic: str, partitions: int) -> list[Any]:
    where = [TopicPartition(topic, partition) for partition in range(partitions)]
    records: list[Any] = []
    with consumer_of(kafka) as consumer:
        consumer.assign(where)
        consumer.seek_to_beginning(*where)
        ends = consumer.end_offsets(where)

        def at_the_end() -> bool:
            for batch in consumer.poll(timeout_ms=1000).values():
                records.extend(batch)
            return all(consumer.position(partition) >= end for partition, end in ends.items())

        eventually(at_the_end, interval_s=0)
    return records


def ask(kafka: Any, request: Any, response: Any, version: int) -> Any:
    """One request by its bytes, without a client's own checks and repeats."""
    request.API_VERSION = version
    request.with_header(correlation_id=7)
    with socket.create_connection(("127.0.0.1", kafka.port), timeout=20) as connection:
        connection.sendall(request.encode(header=True, framed=True))
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            return response.decode(stream.read(size), version=version, header=True)


def batch_of(*values: bytes, producer_id: int = -1, epoch: int = -1, sequence: int = -1) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, False, producer_id, epoch, sequence, 2**20)
    for delta, value in enumerate(values):
        builder.append(delta, 1_000 + delta, b"key", value, [])
    return bytearray(builder.build())


def produce_bytes(kafka: Any, topic: str, partition: int, records: bytes) -> Any:
    rows = producer.ProduceRequest.TopicProduceData
    request = producer.ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[rows(name=topic, partition_data=[rows.PartitionProduceData(index=partition, records=records)])],
    )
    response = ask(kafka, request, producer.ProduceResponse, 8)
    return response.responses[0].partition_responses[0]


def test_a_created_topic_has_its_partitions(kafka: Any) -> None:
    name = new_topic(kafka, partitions=5)
    with admin_of(kafka) as admin:
        (topic,) = admin.describe_topics([name])
        assert len(topic["partitions"]) == 5
        assert name in admin.list_topics()


def test_a_topic_without_a_partition_count_gets_twelve(kafka: Any) -> None:
    name = new_topic(kafka, partitions=-1)
    with admin_of(kafka) as admin:
        assert len(admin.describe_topics([name])[0]["partitions"]) == 12


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        (NewTopic("no/slash", 1, 1), 17),
        (NewTopic("..", 1, 1), 17),
        (NewTopic("nothing", 0, 1), 37),
        (NewTopic("copies", 1, 3), 38),
        (NewTopic("odd", 1, 1, topic_configs={"no.such.setting": "1"}), 40),
        (NewTopic("odd", 1, 1, topic_configs={"retention.bytes": "much"}), 40),
        (NewTopic("odd", 1, 1, topic_configs={"cleanup.policy": "sometimes"}), 40),
    ],
)
def test_an_impossible_topic_is_refused_with_the_reason(kafka: Any, topic: NewTopic, error: int) -> None:
    with admin_of(kafka) as admin, pytest.raises(KafkaError) as refused:
        admin.create_topics([topic])
    assert refused.value.errno == error


def test_a_second_topic_of_the_same_name_is_refused(kafka: Any) -> None:
    name = new_topic(kafka)
    with admin_of(kafka) as admin, pytest.raises(KafkaError) as refused:
        admin.create_topics([NewTopic(name, 1, 1)])
    assert refused.value.errno == 36


def test_a_deleted_topic_is_unknown_and_comes_back_empty(kafka: Any) -> None:
    name = new_topic(kafka)
    with producer_of(kafka) as producer:
        producer.send(name, b"old").get(20)
    with admin_of(kafka) as admin:
        admin.delete_topics([name])
        eventually(lambda: admin.describe_topics([name])[0]["error_code"] == 3)
        admin.create_topics([NewTopic(name, 1, 1)])
        eventually(lambda: admin.describe_topics([name])[0]["error_code"] == 0)
    with producer_of(kafka) as producer:
        producer.send(name, b"new").get(20)
    assert [record.value for record in read_topic(kafka, name, 1)] == [b"new"]


def test_settings_of_a_topic_can_be_read(kafka: Any) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    name = new_topic(kafka, cleanup_policy="compact", segment_bytes="2097152")
    with admin_of(kafka) as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    configs = found["topic"][name]
    assert configs["cleanup.policy"]["value"] == "compact"
    assert configs["segment.bytes"]["value"] == "2097152"


def test_asking_for_an_unknown_topic_does_not_create_it(kafka: Any) -> None:
    name = unique("nowhere")
    with producer_of(kafka, max_block_ms=500) as producer, pytest.raises(KafkaError):
        producer.send(name, b"x").get(20)
    with admin_of(kafka) as admin:
        assert admin.describe_topics([name])[0]["error_code"] == 3


def test_records_come_back_with_key_headers_and_time_by_kafka_python(kafka: Any) -> None:
    topic = new_topic(kafka)
    headers = [("ce_id", b"1"), ("privacy", b"public"), ("privacy", b"")]
    with producer_of(kafka) as producer:
        producer.send(topic, b"value", key=b"key", headers=headers, timestamp_ms=1_700_000_000_123).get(20)
        producer.send(topic, None, key=b"key").get(20)
    first, second = read_topic(kafka, topic, 2)
    assert (first.key, first.value, list(first.headers)) == (b"key", b"value", headers)
    assert (first.timestamp, first.timestamp_type, first.offset) == (1_700_000_000_123, 0, 0)
    assert (second.value, second.offset) == (None, 1)


def test_records_come_back_with_key_headers_and_time_by_aiokafka(kafka: Any) -> None:
    topic = new_topic(kafka)
    headers = [("ce_id", b"1"), ("privacy", b"public")]

    async def round_trip() -> Any:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.address, acks="all")
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.address, auto_offset_reset="earliest")
        await producer.start()
        await consumer.start()
        try:
            await producer.send_and_wait(topic, b"value", key=b"key", headers=headers, timestamp_ms=1_700_000_000_123)
            return await asyncio.wait_for(consumer.getone(), 20)
        finally:
            await producer.stop()
            await consumer.stop()

    record = asyncio.run(round_trip())
    assert (record.key, record.value, list(record.headers)) == (b"key", b"value", headers)
    assert record.timestamp == 1_700_000_000_123


@pytest.mark.slow
def test_order_within_a_partition_is_kept_over_many_batches(kafka: Any) -> None:
    topic = new_topic(kafka, partitions=3)
    with producer_of(kafka, batch_size=500) as producer:
        for number in range(3_000):
            producer.send(topic, str(number).encode(), partition=number % 3)
        producer.flush(30)
    by_partition: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for record in read_topic(kafka, topic, 3_000):
        by_partition[record.partition].append(int(record.value))
    assert by_partition == {part: list(range(part, 3_000, 3)) for part in range(3)}


def test_offsets_are_found_by_place_and_by_time(kafka: Any) -> None:
    topic = new_topic(kafka)
    partition = TopicPartition(topic, 0)
    with producer_of(kafka) as producer:
        for number in range(10):
            producer.send(topic, b"x", timestamp_ms=1_000_000 + 10 * number)
        producer.flush(20)
    with consumer_of(kafka) as consumer:
        assert consumer.beginning_offsets([partition]) == {partition: 0}
        assert consumer.end_offsets([partition]) == {partition: 10}
        found = consumer.offsets_for_times({partition: 1_000_045})[partition]
        assert (found.offset, found.timestamp) == (5, 1_000_050)
        assert consumer.offsets_for_times({partition: 2_000_000})[partition] is None


def test_a_consumer_at_the_end_waits_for_the_next_record(kafka: Any) -> None:
    topic = new_topic(kafka)
    with consumer_of(kafka, topic) as consumer, producer_of(kafka) as producer:
        assert consumer.poll(timeout_ms=300) == {}
        producer.send(topic, b"late").get(20)
        assert [record.value for record in read(consumer, 1)] == [b"late"]


def test_an_offset_outside_the_log_is_refused(kafka: Any) -> None:
    topic = new_topic(kafka)

    async def read_at(offset: int) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address, auto_offset_reset="none")
        await consumer.start()
        try:
            partition = AioTopicPartition(topic, 0)
            consumer.assign([partition])
            consumer.seek(partition, offset)
            await asyncio.wait_for(consumer.getone(), 20)
        finally:
            await consumer.stop()

    with pytest.raises(OffsetOutOfRangeError):
        asyncio.run(read_at(1_000))


def test_a_partition_that_does_not_exist_is_refused(kafka: Any) -> None:
    topic = new_topic(kafka)
    assert produce_bytes(kafka, topic, 0, batch_of(b"x")).error_code == 0
    assert produce_bytes(kafka, topic, 99, batch_of(b"x")).error_code == 3
    assert produce_bytes(kafka, unique("nowhere"), 0, batch_of(b"x")).error_code == 3


def test_a_damaged_batch_is_refused_and_not_stored(kafka: Any) -> None:
    topic = new_topic(kafka)
    damaged = batch_of(b"value")
    damaged[-2] ^= 1
    assert produce_bytes(kafka, topic, 0, damaged).error_code == 2
    assert produce_bytes(kafka, topic, 0, batch_of(b"whole")).base_offset == 0


def test_two_batches_for_one_partition_are_refused(kafka: Any) -> None:
    topic = new_topic(kafka)
    assert produce_bytes(kafka, topic, 0, batch_of(b"a") + batch_of(b"b")).error_code == 87


def test_a_repeated_batch_of_an_idempotent_producer_is_stored_once(kafka: Any) -> None:
    topic = new_topic(kafka)
    request = producer.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
    producer_id = ask(kafka, request, producer.InitProducerIdResponse, 1).producer_id
    first = batch_of(b"a", b"b", producer_id=producer_id, epoch=0, sequence=0)
    assert produce_bytes(kafka, topic, 0, first).base_offset == 0
    assert produce_bytes(kafka, topic, 0, first).base_offset == 0
    gap = batch_of(b"c", producer_id=producer_id, epoch=0, sequence=5)
    assert produce_bytes(kafka, topic, 0, gap).error_code == 45
    following = batch_of(b"c", producer_id=producer_id, epoch=0, sequence=2)
    assert produce_bytes(kafka, topic, 0, following).base_offset == 2
    assert [record.value for record in read_topic(kafka, topic, 3)] == [b"a", b"b", b"c"]


def test_a_message_over_the_limit_is_refused_and_smaller_ones_go_on(kafka: Any) -> None:
    topic = new_topic(kafka)
    with producer_of(kafka, max_request_size=8 * 2**20) as producer, pytest.raises(MessageSizeTooLargeError):
        producer.send(topic, bytes(2 * 2**20)).get(30)
    with producer_of(kafka) as producer:
        producer.send(topic, bytes(900_000)).get(30)
    assert len(read_topic(kafka, topic, 1)[0].value) == 900_000


def test_an_unknown_version_of_the_first_request_is_answered_in_version_0(kafka: Any) -> None:
    with socket.create_connection(("127.0.0.1", kafka.port), timeout=20) as connection:
        request = struct.pack(">hhihb", 18, 99, 7, -1, 0)
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            body = stream.read(size)
    response = metadata.ApiVersionsResponse.decode(body, version=0, header=True)
    assert response.error_code == 35
    assert [key.api_key for key in response.api_keys] == [18]


async def assigned(consumer: AIOKafkaConsumer, count: int) -> set[int]:
    while len(consumer.assignment()) != count:
        await asyncio.sleep(0.05)
    return {partition.partition for partition in consumer.assignment()}


def group_member(kafka: Any, topic: str, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.address,
        group_id=group,
        session_timeout_ms=1000 * kafka.session_s,
        heartbeat_interval_ms=200,
    )


def test_members_of_a_group_share_the_partitions_and_take_over_from_one_that_leaves(kafka: Any) -> None:
    topic, group = new_topic(kafka, partitions=4), unique("group")

    async def share() -> None:
        staying, leaving = group_member(kafka, topic, group), group_member(kafka, topic, group)
        async with asyncio.timeout(30), staying:
            async with leaving:
                assert await assigned(staying, 2) | await assigned(leaving, 2) == {0, 1, 2, 3}
            await assigned(staying, 4)

    asyncio.run(share())


MEMBER = """
import sys
from kafka import KafkaConsumer
consumer = KafkaConsumer(sys.argv[2], bootstrap_servers=sys.argv[1], group_id=sys.argv[3],
                         session_timeout_ms=int(sys.argv[4]), heartbeat_interval_ms=200)
while True:
    consumer.poll(timeout_ms=1000)
    print(len(consumer.assignment()), flush=True)
"""


@pytest.mark.slow
def test_the_partitions_of_a_killed_member_go_to_the_others(kafka: Any) -> None:
    topic, group = new_topic(kafka, partitions=4), unique("group")

    async def share(killed: subprocess.Popen[str]) -> None:
        staying = group_member(kafka, topic, group)
        async with asyncio.timeout(30), staying:
            await assigned(staying, 2)
            killed.kill()
            await assigned(staying, 4)

    command = [sys.executable, "-c", MEMBER, kafka.address, topic, group, str(1000 * kafka.session_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
        try:
            assert member.stdout is not None
            assert any(line == "4\n" for line in member.stdout)
            asyncio.run(share(member))
        finally:
            member.kill()


def test_a_member_of_an_older_generation_cannot_commit(kafka: Any) -> None:
    from kafka.protocol.consumer import OffsetCommitRequest, OffsetCommitResponse

    topic, group = new_topic(kafka), unique("group")
    rows = OffsetCommitRequest.OffsetCommitRequestTopic
    with consumer_of(kafka, topic, group_id=group) as consumer:

        def has_joined() -> bool:
            consumer.poll(timeout_ms=1000)
            return bool(consumer.assignment())

        eventually(has_joined, interval_s=0)

        def commit_as(member: str, generation: int) -> int:
            request = OffsetCommitRequest(
                group_id=group,
                generation_id_or_member_epoch=generation,
                member_id=member,
                retention_time_ms=-1,
                topics=[
                    rows(
                        name=topic,
                        partitions=[
                            rows.OffsetCommitRequestPartition(
                                partition_index=0, committed_offset=9, committed_metadata=""
                            )
                        ],
                    )
                ],
            )
            response = ask(kafka, request, OffsetCommitResponse, 4)
            return int(response.topics[0].partitions[0].error_code)

        generation = consumer._coordinator.generation_if_stable()
        assert commit_as("a-stranger", generation.generation_id) == 25
        assert commit_as(generation.member_id, generation.generation_id - 1) == 22
        assert commit_as(generation.member_id, generation.generation_id) == 0


@pytest.mark.slow
def test_committed_offsets_survive_kill_9(kafka: Any) -> None:
    topic, group = new_topic(kafka), unique("group")
    with producer_of(kafka) as producer:
        for number in range(10):
            producer.send(topic, str(number).encode())
        producer.flush(20)
    with consumer_of(kafka, topic, group_id=group) as consumer:
        read(consumer, 10)
        consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(7, "note", -1)})
    kafka.kill()
    kafka.start()
    with consumer_of(kafka, topic, group_id=group) as consumer:
        assert [record.value for record in read(consumer, 3)] == [b"7", b"8", b"9"]
        committed = consumer.committed(TopicPartition(topic, 0), metadata=True)
        assert (committed.offset, committed.metadata) == (7, "note")


# A process of its own: kafka-python leaves sockets open when a connection is refused, which warns here.
LOAD = """
import sys
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=sys.argv[1], retries=1000, retry_backoff_ms=100, delivery_timeout_ms=120000)
number = 0
while True:
    sent = [(n, producer.send(sys.argv[2], str(n).encode(), partition=n % 3)) for n in range(number, number + 60)]
    number += 60
    for n, future in sent:
        future.get(120)
        print(n, flush=True)
"""


@pytest.mark.slow
def test_acknowledged_records_survive_kill_9_under_load_each_once_and_in_order(kafka: Any, tmp_path: Path) -> None:
    topic = new_topic(kafka, partitions=3)
    log = tmp_path / "acknowledged"

    def acknowledged() -> list[int]:
        whole, _, _ = log.read_text().rpartition("\n")
        return [int(line) for line in whole.split()]

    def wait_for_more() -> None:
        target = len(acknowledged()) + 300
        eventually(lambda: len(acknowledged()) > target, 120)

    with log.open("w") as output:
        command = [sys.executable, "-c", LOAD, kafka.address, topic]
        with subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL) as load:
            try:
                for _ in range(2):
                    wait_for_more()
                    kafka.kill()
                    kafka.start()
                wait_for_more()
            finally:
                load.kill()
    promised = acknowledged()
    stored = [int(record.value) for record in read_to_the_end(kafka, topic, partitions=3)]
    by_partition = [[n for n in stored if n % 3 == part] for part in range(3)]
    assert [sorted(set(numbers)) for numbers in by_partition] == by_partition
    assert set(promised) <= set(stored)


@pytest.mark.slow
def test_a_faust_worker_counts_and_recovers_its_table_after_a_kill(kafka: Any, tmp_path: Path) -> None:
    app = unique("counts")
    source, sink = new_topic(kafka, partitions=2), new_topic(kafka, partitions=2)

    @contextmanager
    def worker() -> Iterator[subprocess.Popen[str]]:
        command = [
            sys.executable,
            str(FAUST_WORKER),
            kafka.address,
            app,
            source,
            sink,
            str(tmp_path),
            str(kafka.session_s),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert any(line == "ready\n" for line in process.stdout)
                yield process
            finally:
                process.kill()

    def counts_after(keys: list[bytes], total: int) -> dict[bytes, int]:
        with producer_of(kafka) as producer:
            for key in keys:
                producer.send(source, b"1", key=key).get(20)
        newest: dict[bytes, int] = {}
        for record in read_topic(kafka, sink, total):
            newest[record.key] = json.loads(record.value)
        return newest

    with worker() as process:
        assert counts_after([b"cat", b"dog", b"cat", b"cat"], 4) == {b"cat": 3, b"dog": 1}
        # Its offsets are committed once a second: the restart shall recover the table, not count anew.
        with consumer_of(kafka, group_id=app) as observer:
            partitions = [TopicPartition(source, 0), TopicPartition(source, 1)]
            eventually(lambda: sum(observer.committed(p) or 0 for p in partitions) == 4, 90)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with worker():
        assert counts_after([b"cat", b"fox"], 6) == {b"cat": 4, b"dog": 1, b"fox": 1}
