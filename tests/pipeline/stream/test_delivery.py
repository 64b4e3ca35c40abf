"""Delivery: what it returns from is stored, or told on the rejected topic; a large batch never takes others down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownError,
)

from pipeline import topics
from pipeline.errors import Stop
from pipeline.messages import Refusal, decode
from pipeline.stream import delivery
from pipeline.stream.delivery import Delivery, ProducerRecord

BATCH_RECORDS = 4


class Batch:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, key: object, value: bytes, timestamp: object, headers: list[object]) -> object:
        if len(self.values) == BATCH_RECORDS:
            return None
        self.values.append(value)
        return object()

    def close(self) -> None:
        pass


class Producer:
    """Stores batches of at most four records, unless `fault` names an error for them."""

    def __init__(self, fault: Callable[[str, list[bytes]], Exception | None] = lambda topic, values: None) -> None:
        self.fault = fault
        self.stored: list[tuple[str, int, bytes]] = []

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self.fault(topic, batch.values)
        if error:
            acknowledged.set_exception(error)
        else:
            self.stored += [(topic, partition, value) for value in batch.values]
            acknowledged.set_result(None)
        return acknowledged

    def values(self, topic: str) -> list[bytes]:
        return [value for name, _, value in self.stored if name == topic]


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.0)


def deliver(producer: Producer, values: list[bytes], topic: str = "t") -> dict[str, int]:
    """Deliver to partition 3; return how many records each topic was said to hold."""
    counted: dict[str, int] = {}

    def count(name: str, records: object) -> None:
        counted[name] = counted.get(name, 0) + len(records)  # type: ignore[arg-type]

    records = [ProducerRecord(b"k", value) for value in values]
    asyncio.run(Delivery(lambda: producer, lambda: 0.0, count)(topic, 3, records))
    return counted


VALUES = [b"%d" % number for number in range(10)]


def test_all_records_are_stored_in_order_in_their_partition() -> None:
    producer = Producer()
    assert deliver(producer, VALUES) == {"t": 10}
    assert producer.stored == [("t", 3, value) for value in VALUES]


def test_nothing_to_deliver_is_delivered() -> None:
    assert deliver(Producer(), []) == {}


@pytest.mark.parametrize("error", [NotLeaderForPartitionError, KafkaConnectionError, UnknownError, OSError])
def test_what_may_pass_is_tried_again_until_it_does(error: type[Exception]) -> None:
    faults = [error("away"), None, error("away"), error("away")]
    producer = Producer(lambda topic, values: faults.pop(0) if faults else None)
    assert deliver(producer, VALUES) == {"t": 10}
    assert sorted(producer.values("t")) == VALUES


def test_one_record_that_is_never_taken_is_told_and_its_batch_is_stored() -> None:
    producer = Producer(lambda topic, values: MessageSizeTooLargeError("big") if b"5" in values else None)
    assert deliver(producer, VALUES) == {"t": 9, topics.REJECTED: 1}
    assert sorted(producer.values("t")) == sorted(set(VALUES) - {b"5"})
    refusal = decode(Refusal, producer.values(topics.REJECTED)[0])
    assert (refusal.reason, refusal.topic, refusal.size_bytes) == ("kafka-refused", "t/3", 1)


def test_a_missing_right_stops_the_worker() -> None:
    with pytest.raises(Stop, match="needs a right there"):
        deliver(Producer(lambda topic, values: TopicAuthorizationFailedError("t")), VALUES)


def test_a_rejection_that_is_refused_ends_the_worker_instead_of_turning_in_circles() -> None:
    with pytest.raises(MessageSizeTooLargeError):
        deliver(Producer(lambda topic, values: MessageSizeTooLargeError("all")), [b"1"])


def test_a_mistake_of_ours_is_not_taken_for_kafkas() -> None:
    with pytest.raises(ZeroDivisionError):
        deliver(Producer(lambda topic, values: ZeroDivisionError()), VALUES)
