"""The embedded broker as a process: how it starts, what it refuses, how it ends, and that nothing takes it down."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.protocol import admin, consumer, metadata, producer
from kafka_brokers import EmbeddedKafka, eventually, unique

from pipeline.brokers.kafka.api import API_BY_KEY
from pipeline.brokers.kafka.server import MAX_CONNECTIONS, is_loopback

COMMAND = [sys.executable, "-m", "pipeline.brokers.kafka"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    broker = EmbeddedKafka(tmp_path / "kafka")
    broker.start()
    yield broker
    if broker.process is not None:
        broker.stop()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    broker = EmbeddedKafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


def create(broker: EmbeddedKafka, partitions: int = 1, **configs: str) -> str:
    name = unique("topic")
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as client:
        client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
    return name


def resident_bytes(broker: EmbeddedKafka) -> int:
    assert broker.process is not None
    status = Path(f"/proc/{broker.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def refused_start(*arguments: str) -> str:
    ended = subprocess.run([*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.slow
def test_it_says_where_it_answers_and_that_it_is_not_for_production(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--dir", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout and process.stderr
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        host, _, port = ready["ready"].rpartition(":")
        socket.create_connection((host, int(port))).close()
        assert "not for production" in process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.slow
def test_a_second_broker_on_one_directory_is_refused_with_the_first_ones_pid(broker: EmbeddedKafka) -> None:
    assert broker.process is not None
    line = refused_start("--dir", str(broker.directory), "--port", "0")
    assert f"pid {broker.process.pid}" in line


@pytest.mark.slow
def test_a_port_in_use_is_refused_in_one_line(broker: EmbeddedKafka, tmp_path: Path) -> None:
    line = refused_start("--dir", str(tmp_path / "other"), "--port", str(broker.port))
    assert f"127.0.0.1:{broker.port}" in line
    assert "--port" in line


@pytest.mark.slow
def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    line = refused_start("--dir", str(tmp_path), "--host", "0.0.0.0")
    assert "loopback" in line


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)],
        *[("", False), ("::", False), ("192.168.1.2", False), ("example.org", False)],
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.slow
def test_a_damaged_catalog_is_refused_and_left_alone(broker: EmbeddedKafka) -> None:
    topic = create(broker)
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as client:
        client.send(topic, b"kept").get(10)
    broker.stop()
    catalog = broker.directory / "topics.json"
    whole = catalog.read_text()
    catalog.write_text("{")
    assert "topics.json" in refused_start("--dir", str(broker.directory), "--port", "0")
    catalog.unlink()
    assert "topics.json is missing" in refused_start("--dir", str(broker.directory), "--port", "0")
    catalog.write_text(whole)
    broker.start()
    with closing(KafkaConsumer(topic, bootstrap_servers=broker.address, auto_offset_reset="earliest")) as client:
        assert next(client).value == b"kept"


@pytest.mark.slow
def test_it_stops_within_a_second_with_a_client_waiting(broker: EmbeddedKafka) -> None:
    rows = consumer.FetchRequest.FetchTopic
    request = consumer.FetchRequest(
        replica_id=-1,
        max_wait_ms=30_000,
        min_bytes=1,
        max_bytes=1_000,
        isolation_level=0,
        topics=[
            rows(
                topic=create(broker),
                partitions=[rows.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1_000)],
            )
        ],
    )
    request.API_VERSION = 4
    request.with_header()
    with socket.create_connection(("127.0.0.1", broker.port), timeout=20) as connection:
        connection.sendall(request.encode(header=True, framed=True))
        began = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - began < 1
        assert connection.recv(100) == b""


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([*sys.argv[1:], '--parent-pid', str(os.getpid())])\n"
        "time.sleep(60)\n"
    )
    command = [*COMMAND, "--dir", str(tmp_path), "--port", "0"]
    with subprocess.Popen([sys.executable, "-c", parent, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["ready"].rpartition(":")[2])
        process.kill()
        # The broker holds the other end of this pipe: it ends when the broker does.
        assert process.stdout.read() == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.slow
def test_topics_and_records_survive_a_stop(broker: EmbeddedKafka) -> None:
    topic = create(broker)
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as client:
        client.send(topic, b"kept").get(10)
    broker.stop()
    broker.start()
    with closing(KafkaConsumer(topic, bootstrap_servers=broker.address, auto_offset_reset="earliest")) as client:
        assert next(client).value == b"kept"


@pytest.mark.slow
def test_compaction_runs_by_itself_and_keeps_the_newest_value(broker: EmbeddedKafka) -> None:
    topic = create(broker, cleanup_policy="compact", segment_bytes=str(2**20))
    with closing(KafkaProducer(bootstrap_servers=broker.address, batch_size=60_000)) as client:
        for number in range(400):
            client.send(topic, b"%05d" % number + bytes(10_000), key=b"%d" % (number % 7))
        client.flush(20)
    (partition,) = broker.directory.glob(f"topics/{topic}.*/0")
    eventually(lambda: sum(path.stat().st_size for path in partition.glob("*.log")) < 3 * 2**20)
    newest = {}
    with closing(KafkaConsumer(bootstrap_servers=broker.address)) as client:
        where = TopicPartition(topic, 0)
        client.assign([where])
        client.seek_to_beginning(where)
        while client.position(where) < 400:
            for record in client.poll(timeout_ms=1000).get(where, []):
                newest[record.key] = record.value[:5]
    assert newest == {b"%d" % (number % 7): b"%05d" % number for number in range(393, 400)}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(broker: EmbeddedKafka) -> None:
    topic = create(broker, partitions=3)
    with closing(KafkaProducer(bootstrap_servers=broker.address, batch_size=500_000)) as client:
        value = os.urandom(50_000)
        for _ in range(2_000):
            client.send(topic, value)
        client.flush(60)
    count = 0
    with closing(KafkaConsumer(topic, bootstrap_servers=broker.address, auto_offset_reset="earliest")) as client:
        while count < 2_000:
            count += sum(map(len, client.poll(timeout_ms=1000).values()))
    assert resident_bytes(broker) < 80 * 10**6


def send(broker: EmbeddedKafka, *frames: bytes) -> bytes:
    """Send raw bytes, end the sending side, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=20) as connection:
        for frame in frames:
            connection.sendall(frame)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def answers(broker: EmbeddedKafka) -> bool:
    request = framed(struct.pack(">hhih", 18, 0, 5, -1))
    return send(broker, request)[4:10] == struct.pack(">ih", 5, 0)


QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(
    key=st.sampled_from(sorted(API_BY_KEY)) | st.integers(-1, 100),
    version=st.integers(-1, 15),
    body=st.binary(max_size=200),
)
def test_no_request_takes_it_down(lasting: EmbeddedKafka, key: int, version: int, body: bytes) -> None:
    send(lasting, framed(struct.pack(">hhih", key, version, 1, -1) + body))
    assert answers(lasting)


@pytest.mark.slow
@QUICK
@given(data=st.binary(max_size=300))
def test_no_bytes_take_it_down(lasting: EmbeddedKafka, data: bytes) -> None:
    send(lasting, data)
    assert answers(lasting)


REQUESTS = [
    (metadata.MetadataRequest(topics=None), 8),
    (metadata.FindCoordinatorRequest(key="g", key_type=0), 2),
    (consumer.OffsetFetchRequest(group_id="g", topics=None), 5),
    (
        consumer.JoinGroupRequest(
            group_id="g",
            session_timeout_ms=1000,
            rebalance_timeout_ms=1000,
            member_id="",
            protocol_type="consumer",
            protocols=[],
        ),
        4,
    ),
    (consumer.HeartbeatRequest(group_id="g", generation_id=1, member_id="m"), 2),
    (consumer.LeaveGroupRequest(group_id="g", member_id="m"), 2),
    (producer.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1), 1),
    (admin.DeleteTopicsRequest(topic_names=["no-such-topic"], timeout_ms=1), 3),
]


@pytest.mark.slow
@QUICK
@given(request=st.sampled_from(REQUESTS), position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_request_does_not_take_it_down(
    lasting: EmbeddedKafka, request: tuple[object, int], position: int, byte: int
) -> None:
    message, version = request
    message.API_VERSION = version  # type: ignore[attr-defined]
    message.with_header()  # type: ignore[attr-defined]
    frame = bytearray(message.encode(header=True))  # type: ignore[attr-defined]
    frame[position % len(frame)] = byte
    send(lasting, framed(bytes(frame)))
    assert answers(lasting)


def test_a_request_that_nobody_here_sends_is_answered_with_unsupported_version(
    lasting: EmbeddedKafka,
) -> None:
    request = admin.ListGroupsRequest(states_filter=[], types_filter=[])
    request.API_VERSION = 2
    request.with_header(correlation_id=9)
    answer = send(lasting, request.encode(header=True, framed=True))
    assert admin.ListGroupsResponse.decode(answer[4:], version=2, header=True).error_code == 35


def test_a_request_without_a_place_for_an_error_ends_the_connection(lasting: EmbeddedKafka) -> None:
    request = admin.CreatePartitionsRequest(topics=[], timeout_ms=1, validate_only=False)
    request.API_VERSION = 0
    request.with_header()
    assert send(lasting, request.encode(header=True, framed=True)) == b""


def test_a_request_over_the_limit_ends_the_connection(lasting: EmbeddedKafka) -> None:
    assert send(lasting, struct.pack(">i", 2**30)) == b""
    assert send(lasting, struct.pack(">i", -1)) == b""
    assert answers(lasting)


@pytest.mark.slow
def test_a_transactional_producer_is_told_so_at_once(lasting: EmbeddedKafka) -> None:
    client = KafkaProducer(bootstrap_servers=lasting.address, transactional_id="t")
    try:
        with pytest.raises(KafkaError):
            client.init_transactions()
    finally:
        client.close(timeout=1)


def _is_closed(client: socket.socket) -> bool:
    """Whether the broker has closed this connection, which waits for nothing."""
    try:
        return client.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.slow
def test_a_new_client_takes_the_place_of_the_one_that_was_silent_longest(lasting: EmbeddedKafka) -> None:
    topic = create(lasting)
    with contextlib.ExitStack() as closing_all:
        read_from = KafkaConsumer(bootstrap_servers=lasting.address, fetch_max_wait_ms=20_000)
        closing_all.callback(read_from.close)
        read_from.assign([TopicPartition(topic, 0)])
        read_from.poll(timeout_ms=500)  # from now on, the broker has a fetch of this client to answer
        silent = [
            closing_all.enter_context(socket.create_connection(("127.0.0.1", lasting.port)))
            for _ in range(MAX_CONNECTIONS + 5)
        ]
        with closing(KafkaProducer(bootstrap_servers=lasting.address)) as client:
            client.send(topic, b"written").get(10)
        eventually(lambda: _is_closed(silent[0]))
        assert not _is_closed(silent[-1])
        found = eventually(lambda: read_from.poll(timeout_ms=1000))
        assert [record.value for record in found[TopicPartition(topic, 0)]] == [b"written"]
