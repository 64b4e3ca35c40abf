"""Every codec is read and written by both clients, and no damaged batch ends a reader."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka_brokers import EmbeddedKafka, damage_every_partition, eventually, unique

from pipeline.kafka.batches import install
from pipeline.kafka.connection import opened
from pipeline.kafka.consumer import Consumer, Fetched
from pipeline.kafka.follower import Follower
from pipeline.kafka.seeker import Seeker
from pipeline.settings.settings import KafkaSettings

VALUES = [b"a reading of the garden, again and again" * 20 for _ in range(20)]


def new_topic(address: str) -> str:
    name = unique("codec")
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics([NewTopic(name, 1, 1)])
        eventually(lambda: admin.describe_topics([name])[0]["error_code"] == 0)
    return name


def read(reader: Any, count: int) -> list[Fetched]:
    records: list[Fetched] = []

    def enough() -> bool:
        records.extend(reader.poll())
        return len(records) >= count

    with closing(reader):
        eventually(enough, interval_s=0)
    return records


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_both_clients_read_what_either_compressed(kafka: Any, codec: str) -> None:
    settings, topic = KafkaSettings(address=kafka.address), new_topic(kafka.address)
    with closing(opened(KafkaProducer, settings, "test", compression_type=codec, linger_ms=50)) as producer:
        for value in VALUES:
            producer.send(topic, value)
        producer.flush(20)

    async def send_and_read() -> list[bytes | None]:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.address, auto_offset_reset="earliest")
        async with (
            asyncio.timeout(30),
            AIOKafkaProducer(bootstrap_servers=kafka.address, compression_type=codec, linger_ms=50) as sender,
            consumer,
        ):
            await asyncio.gather(*[await sender.send(topic, value) for value in VALUES])
            return [(await consumer.getone()).value for _ in range(2 * len(VALUES))]

    assert asyncio.run(send_and_read()) == 2 * VALUES
    found = read(Consumer(settings, [topic], unique("group"), "test"), 2 * len(VALUES))
    assert [record.value for record in found] == 2 * VALUES


def test_each_reader_passes_a_batch_that_cannot_be_read(tmp_path: Path) -> None:
    install()
    broker = EmbeddedKafka(tmp_path)
    broker.start()
    try:
        settings, topic = KafkaSettings(address=broker.address), new_topic(broker.address)
        damage_every_partition(broker, topic)
        with closing(opened(KafkaProducer, settings, "test")) as producer:
            producer.send(topic, b"good").get(20)
        for reader in (
            Consumer(settings, [topic], unique("group"), "test"),
            Follower(settings, topic, "test"),
            Seeker(settings, [topic], unique("group"), "test", lambda *_: 0, lambda *_: None),
        ):
            bad, good = read(reader, 2)
            assert (bad.offset, bad.key, bad.value, good.offset, good.value) == (2, None, b"", 3, b"good")
            assert dict(bad.headers)["unreadable"].startswith(b"from offset 0: ")
    finally:
        broker.stop()
