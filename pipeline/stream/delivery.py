"""Delivery with a promise: what `Delivery` returns from is stored, or told on the rejected topic.

Faust's own ``await topic.send()`` resolves before the broker has answered, and a record that the broker then refuses is
gone without a word. Here every batch's answer is awaited. What may succeed later is repeated until it does (the input
stays uncommitted meanwhile); what Kafka refuses for good is refused alone, however large its batch was, and leaves a
`rejection`::

    deliver = Delivery(lambda: producer, clock.now, delivered=metrics)
    await deliver(topics.RESULTS, partition=3, records=[ProducerRecord(key, value, headers, timestamp_ms)])

A rejection carries no content, since any reader of public topics may read it: it names the record's place in the
topic it came from, its size and its digest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownError,
)

from pipeline import clock, topics
from pipeline.errors import Stop
from pipeline.messages import Refusal, encode
from pipeline.topics import Header

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0

_FINAL: Final = (
    TopicAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    AuthenticationFailedError,
    SaslAuthenticationFailed,
)
_PASSING: Final = (KafkaConnectionError, KafkaTimeoutError, UnknownError, OSError, asyncio.TimeoutError)
"""Beside what aiokafka calls retriable. `UnknownError` is a broker in trouble, not a record's fault."""


class ConsumedRecord(Protocol):
    """A record as aiokafka hands it out."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class ProducerRecord(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class Deliver(Protocol):
    async def __call__(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> None: ...


def rejection(record: ConsumedRecord, reason: str, detail: str, now_s: float) -> ProducerRecord:
    """What the rejected topic says about a record: never its content, nor its key."""
    value = record.value or b""
    refusal = Refusal(
        reason=reason,
        detail=detail,
        topic=f"{record.topic}/{record.partition}/{record.offset}",
        size_bytes=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
        time=clock.rfc3339(now_s),
    )
    return ProducerRecord(None, encode(refusal), [(Header.REASON, reason.encode())])


class Delivery:
    """Delivers by aiokafka's producer. One for all processors of a worker."""

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
        """Return when Kafka has acknowledged all records, or their rejections.

        Raises
        ------
        Stop
            We have no right to that topic.
        KafkaError
            Not even a rejection is taken.
        """
        waiting = list(self._batches(records))
        pause_s = RETRY_FIRST_S
        while waiting:
            outcomes = await asyncio.gather(
                *(self._send(topic, partition, batch) for _, batch in waiting), return_exceptions=True
            )
            again = []
            for (some, _), outcome in zip(waiting, outcomes, strict=True):
                if not isinstance(outcome, BaseException):
                    self._delivered(topic, some)
                elif may_pass(outcome):
                    again += some
                elif len(some) > 1:
                    for each in some:
                        await self(topic, partition, [each])
                elif topic == topics.REJECTED:
                    raise outcome  # it is ours, small and plain: something is wrong that no retry cures
                else:
                    await self(
                        topics.REJECTED, partition, [self._refusal(topic, partition, some[0], outcome)]
                    )
            waiting = list(self._batches(again))
            if waiting:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _send(self, topic: str, partition: int, batch: Any) -> None:
        acknowledged = await self._producer().send_batch(batch, topic, partition=partition)
        await acknowledged

    def _batches(self, records: Sequence[ProducerRecord]) -> Any:
        """Pairs of some records and the batch that carries them; a record larger than a batch gets its own."""
        producer = self._producer()
        some: list[ProducerRecord] = []
        batch = producer.create_batch()
        for record in records:
            if not _appended(batch, record):
                batch.close()
                yield some, batch
                some, batch = [], producer.create_batch()
                _appended(batch, record)
            some.append(record)
        if some:
            batch.close()
            yield some, batch

    def _refusal(
        self, topic: str, partition: int, record: ProducerRecord, error: BaseException
    ) -> ProducerRecord:
        value = record.value or b""
        refusal = Refusal(
            reason="kafka-refused",
            detail=f"{type(error).__name__} by topic {topic}",
            topic=f"{topic}/{partition}",
            size_bytes=len(value),
            sha256=hashlib.sha256(value).hexdigest(),
            time=clock.rfc3339(self._now()),
        )
        return ProducerRecord(None, encode(refusal), [(Header.REASON, b"kafka-refused")])


def may_pass(error: BaseException) -> bool:
    """Whether to try again; False: the broker will never take these records.

    Raises
    ------
    Stop
        A person has to change something.
    BaseException
        `error` itself, if it is none of Kafka's: a mistake of ours, or the end of the task.
    """
    if isinstance(error, _FINAL):
        raise Stop(f"Kafka refuses us: {error}. Check the rights of the user under [kafka]") from error
    if isinstance(error, _PASSING):
        return True
    if isinstance(error, KafkaError):
        return bool(error.retriable)
    raise error


def _appended(batch: Any, record: ProducerRecord) -> bool:
    return (
        batch.append(
            key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=list(record.headers)
        )
        is not None
    )
