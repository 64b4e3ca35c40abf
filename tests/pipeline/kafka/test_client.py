"""What gateway, cloud and command line do with Kafka; on the embedded broker and, with --real, on Apache Kafka."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka_brokers import eventually, unique
from stream_samples import envelope

from pipeline import kafka as client
from pipeline import records, topics
from pipeline.errors import Retry, Stop
from pipeline.kafka import Consumer, Fetched, Producer, Progress, connection
from pipeline.kafka.connection import configuration
from pipeline.kafka.producer import RECORD_MAX_BYTES
from pipeline.messages import Kind
from pipeline.privacy import gate
from pipeline.privacy.gate import ClearedRecord
from pipeline.settings.settings import KafkaSettings


@pytest.fixture
def settings(kafka: Any) -> KafkaSettings:
    return KafkaSettings(address=kafka.address)


@pytest.fixture
def topic(settings: KafkaSettings) -> str:
    name = unique("topic")
    client.create_topics(settings, [name])
    client.wait_for_topics(settings, [name], threading.Event(), timeout_s=30)
    return name


@pytest.fixture
def producer(settings: KafkaSettings) -> Iterator[Producer]:
    made = Producer(settings, "test")
    yield made
    made.close()


def cleared(topic: str, number: int = 0, payload: bytes = b"feature", device: str = "cam1") -> ClearedRecord:
    source = f"home/{device}/garden"
    return gate.clear_record(envelope(Kind.FEATURE, payload, source, event=f"e{number}", space="s1"), topic)


def poll_all(consumer: Consumer, count: int) -> list[Fetched]:
    """What came until there were as many different records: one may be delivered twice."""
    found: list[Fetched] = []
    end = time.monotonic() + 30
    while len({each.headers for each in found}) < count and time.monotonic() < end:
        found += consumer.poll(timeout_s=0.2)
    return found


def test_what_is_delivered_is_consumed_as_it_was_in_order(
    settings: KafkaSettings, topic: str, producer: Producer
) -> None:
    sent, before_ms = [cleared(topic, number) for number in range(50)], int(time.time() * 1000)
    assert producer.deliver(sent) == ()
    consumer = Consumer(settings, [topic], unique("group"), "test")
    found = poll_all(consumer, 50)
    consumer.close()
    assert [(each.key, each.value, each.headers) for each in found] == [
        (each.key, each.value, each.headers) for each in sent
    ]
    assert all(each.timestamp_ms >= before_ms for each in found), "Kafka notes the arrival, however old the event is"
    assert records.from_record(found[0].headers, found[0].key, found[0].value).event == "e0"


def test_records_of_one_key_share_a_partition(settings: KafkaSettings, topic: str, producer: Producer) -> None:
    producer.deliver([cleared(topic, number, device=f"cam{number % 5}") for number in range(20)])
    consumer = Consumer(settings, [topic], unique("group"), "test")
    found = poll_all(consumer, 20)
    consumer.close()
    assert len({(each.key, each.partition) for each in found}) == 5


def test_what_was_not_committed_comes_again_and_what_was_does_not(
    settings: KafkaSettings, topic: str, producer: Producer
) -> None:
    group = unique("group")
    producer.deliver([cleared(topic, 1)])
    for _ in range(2):  # not committed
        consumer = Consumer(settings, [topic], group, "test")
        assert len(poll_all(consumer, 1)) == 1
        consumer.close()
    consumer = Consumer(settings, [topic], group, "test")
    assert len(poll_all(consumer, 1)) == 1
    assert consumer.commit()
    consumer.close()
    producer.deliver([cleared(topic, 2)])
    consumer = Consumer(settings, [topic], group, "test")
    (found,) = poll_all(consumer, 1)
    assert consumer.lag() == 0
    consumer.close()
    assert dict(found.headers)["ce_id"] == b"e2"


def test_a_record_that_is_too_large_is_refused_alone(topic: str, producer: Producer) -> None:
    sent = [cleared(topic, 0), cleared(topic, 1, b"x" * RECORD_MAX_BYTES), cleared(topic, 2)]
    (refused,) = producer.deliver(sent)
    assert (refused.index, refused.reason) == (1, "record-too-large")


def test_a_table_is_read_as_the_last_value_of_each_key(settings: KafkaSettings, topic: str, producer: Producer) -> None:
    producer.deliver([cleared(topic, number, b"%d" % number, device=f"cam{number % 3}") for number in range(30)])
    table = client.read_all(settings, topic)
    assert table == {b"home/cam0": b"27", b"home/cam1": b"28", b"home/cam2": b"29"}


def test_an_empty_table_is_empty(settings: KafkaSettings, topic: str) -> None:
    assert client.read_all(settings, topic) == {}


def test_topics_are_created_once_with_our_partitions(settings: KafkaSettings) -> None:
    names = [unique("topic"), unique("topic")]
    assert set(client.create_topics(settings, names)) == set(names)
    assert client.create_topics(settings, names) == ()


def test_waiting_ends_when_another_creates_the_topic(settings: KafkaSettings) -> None:
    name = unique("topic")
    threading.Thread(target=client.create_topics, args=(settings, [name])).start()
    assert client.wait_for_topics(settings, [name], threading.Event(), timeout_s=30)


def test_waiting_ends_when_asked_to_or_when_patience_does(settings: KafkaSettings) -> None:
    stopped = threading.Event()
    stopped.set()
    assert not client.wait_for_topics(settings, ["never"], stopped)
    with pytest.raises(Retry, match="no topic never"):
        client.wait_for_topics(settings, ["never"], threading.Event(), timeout_s=0.1)


def test_the_place_of_a_group_is_seen_from_outside(settings: KafkaSettings, topic: str, producer: Producer) -> None:
    group = unique("group")
    producer.deliver([cleared(topic, number) for number in range(5)])
    progress = Progress(settings, [topic], group)
    assert sorted(place.end - place.committed for place in progress.measure().values())[-2:] == [0, 5]
    consumer = Consumer(settings, [topic], group, "test")
    poll_all(consumer, 5)
    consumer.commit()
    consumer.close()
    assert all(place.committed == place.end for place in progress.measure().values())
    assert len(progress.measure()) == topics.PARTITIONS
    progress.close()


def test_a_table_that_is_not_there_is_told_with_the_cure(settings: KafkaSettings) -> None:
    with pytest.raises(Stop, match="tierwise stream"):
        client.read_all(settings, unique("nothing"))


@pytest.mark.slow
def test_a_second_member_takes_over_what_the_first_did_not_commit(
    settings: KafkaSettings, topic: str, producer: Producer
) -> None:
    group = unique("group")
    producer.deliver([cleared(topic, number, device=f"cam{number}") for number in range(40)])
    first = Consumer(settings, [topic], group, "first")
    poll_all(first, 40)
    second = Consumer(settings, [topic], group, "second")
    found: list[Fetched] = []

    def joined() -> bool:
        found.extend(second.poll(timeout_s=0.1))
        first.poll(timeout_s=0.1)
        return bool(found)

    eventually(joined)
    first.close()
    eventually(lambda: found.extend(second.poll(timeout_s=0.1)) or len({each.headers for each in found}) == 40)
    assert second.commit()
    second.close()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaSettings]:
    """An address at which nobody answers."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_MS", 200)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield KafkaSettings(address=f"127.0.0.1:{bound.getsockname()[1]}")


def test_a_broker_that_is_away_is_retried_and_no_thread_is_left_behind(nobody: KafkaSettings) -> None:
    before = threading.active_count()
    for attempt in (
        lambda: client.check(nobody),
        lambda: client.create_topics(nobody),
        lambda: client.read_all(nobody, "t"),
        lambda: Producer(nobody, "test").deliver([cleared("t")]),
        lambda: Consumer(nobody, ["t"], "g", "test").poll(),
        lambda: Progress(nobody, ["t"], "g").measure(),
    ):
        with pytest.raises(Retry, match=nobody.address):
            attempt()
    eventually(lambda: threading.active_count() <= before)


def test_what_was_never_connected_closes_and_commits_nothing(nobody: KafkaSettings) -> None:
    consumer = Consumer(nobody, ["t"], "g", "test")
    assert (consumer.commit(), consumer.lag()) == (False, 0)
    consumer.close()
    Producer(nobody, "test").close()
    Progress(nobody, ["t"], "g").close()


def test_a_login_needs_its_name_and_password() -> None:
    settings = KafkaSettings(
        address="a:1,b",
        security="SASL_SSL",
        mechanism="SCRAM-SHA-512",
        username="u",
        password="p",
        ca="/ca.pem",
    )
    options = configuration(settings, "test")
    assert options["bootstrap_servers"] == ["a:1", "b:9092"]
    assert options["sasl_plain_username"] == "u"
    assert options["ssl_cafile"] == "/ca.pem"
