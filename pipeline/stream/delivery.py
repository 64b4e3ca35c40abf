"""Reliable delivery: when `Delivery` returns, Kafka has stored each record or its rejection.

Faust's own ``await topic.send()`` resolves before the broker has answered, and a record that the broker then refuses is
lost silently. `Delivery` waits for the answer to every batch. It repeats a batch that may succeed later; meanwhile the
input stays uncommitted. If Kafka refuses a record for good, only this record is rejected, however large its batch was::

    deliver = Delivery(lambda: producer, clock.now, delivered=metrics)
    await deliver(topics.RESULTS, partition=3, records=[ProducerRecord(key, value, headers, timestamp_ms)])

A rejection has no content, since every reader of public topics may read it: it names the record's topic, partition and
offset, its size and its digest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    UnknownError,
)

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.kafka import fatal
from pipeline.kafka.batches import UNREADABLE
from pipeline.messages import Refusal, encode
from pipeline.topics import Header

T = TypeVar("T")

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0

_PASSING: Final = (KafkaConnectionError, KafkaTimeoutError, UnknownError, OSError, asyncio.TimeoutError)
"""Errors to retry besides those that aiokafka calls retriable. `UnknownError` is the broker's fault, not a record's."""


class ConsumedRecord(Protocol):
    """A record as aiokafka returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class ProducerRecord(NamedTuple):
    """A record to deliver."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class Deliver(Protocol):
    """Stores records in a partition, as `Delivery` does."""

    async def __call__(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> None:
        """Return when Kafka has stored all records, or their rejections."""


def refusal_record(reason: str, detail: str, place: str, value: bytes, now_s: float) -> ProducerRecord:
    """Return the record for the rejected topic about a refused `value` at `place`, without key and content."""
    refusal = Refusal(
        reason=reason,
        detail=detail,
        topic=place,
        size_bytes=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
        time=clock.rfc3339(now_s),
    )
    return ProducerRecord(None, encode(refusal), [(Header.REASON, reason.encode())])


def rejection(record: ConsumedRecord, reason: str, detail: str, now_s: float) -> ProducerRecord:
    """Return the rejection of a consumed record."""
    place = f"{record.topic}/{record.partition}/{record.offset}"
    if cause := dict(record.headers).get(UNREADABLE):
        reason, detail = "record-unreadable", cause.decode("utf-8", "replace")
    return refusal_record(reason, detail, place, record.value or b"", now_s)


def read_each(
    records: Sequence[ConsumedRecord], read: Callable[[ConsumedRecord], T], now_s: float
) -> tuple[list[T], list[ProducerRecord]]:
    """Read these records. Return their contents, and the rejections of the records that `read` refuses."""
    contents: list[T] = []
    rejections: list[ProducerRecord] = []
    for record in records:
        try:
            contents.append(read(record))
        except Rejected as error:
            rejections.append(rejection(record, error.reason, str(error), now_s))
    return contents, rejections


class Delivery:
    """Delivers with aiokafka's producer; all processors of a worker share one."""

    def __init__(
        self,
        producer: Callable[[], Any],
        now: Callable[[], float],
        delivered: Callable[[str, Sequence[ProducerRecord]], None],
    ) -> None:
        self._producer = producer
        self._now = now
        self._delivered = delivered

    async def __call__(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> None:
        """Return when Kafka has stored all records, or their rejections.

        Raises
        ------
        Stop
            The login has no right to this topic.
        KafkaError
            Kafka refuses even a rejection.
        """
        waiting = list(self._batches(records))
        pause_s = RETRY_FIRST_S
        while waiting:
            outcomes = await asyncio.gather(
                *(self._send(topic, partition, batch) for _, batch in waiting), return_exceptions=True
            )
            again = []
            for (batch_records, _), outcome in zip(waiting, outcomes, strict=True):
                if not isinstance(outcome, BaseException):
                    self._delivered(topic, batch_records)
                elif may_pass(outcome):
                    again += batch_records
                elif len(batch_records) > 1:
                    for each in batch_records:
                        await self(topic, partition, [each])
                elif topic == topics.REJECTED:
                    raise outcome  # rejections are small and plain: a retry would not help
                else:
                    detail = f"{type(outcome).__name__} by topic {topic}"
                    value = batch_records[0].value or b""
                    refusal = refusal_record("kafka-refused", detail, f"{topic}/{partition}", value, self._now())
                    await self(topics.REJECTED, partition, [refusal])
            waiting = list(self._batches(again))
            if waiting:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _send(self, topic: str, partition: int, batch: Any) -> None:
        acknowledged = await self._producer().send_batch(batch, topic, partition=partition)
        await acknowledged

    def _batches(self, records: Sequence[ProducerRecord]) -> Any:
        """Yield records and the batch that carries them; a record larger than a batch has a batch of its own."""
        producer = self._producer()
        batch_records: list[ProducerRecord] = []
        batch = producer.create_batch()
        for record in records:
            if not _appended(batch, record):
                batch.close()
                yield batch_records, batch
                batch_records, batch = [], producer.create_batch()
                _appended(batch, record)
            batch_records.append(record)
        if batch_records:
            batch.close()
            yield batch_records, batch


def may_pass(error: BaseException) -> bool:
    """Return whether to try again; False if the broker will never take these records.

    Raises
    ------
    Stop
        A person has to change something.
    BaseException
        `error` itself, if it is not Kafka's: a mistake of ours, or the end of the task.
    """
    if stop := fatal(error, "kafka.address"):
        raise stop from error
    if isinstance(error, _PASSING):
        return True
    if isinstance(error, KafkaError):
        return bool(error.retriable)
    raise error


def _appended(batch: Any, record: ProducerRecord) -> bool:
    return (
        batch.append(key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=list(record.headers))
        is not None
    )
