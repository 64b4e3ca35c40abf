"""Delivers records to Kafka and reports those that Kafka refuses for good.

The gateway delivers the records of the edges with it, the cloud its answers. When `Producer.deliver` returns, every
in-sync replica has stored the records; only then the gateway acknowledges them. Memory is bounded: a producer holds the
records of one `deliver`.

    >>> RefusedRecord(index=1, reason="record-too-large", message="2 MB").reason
    'record-too-large'
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from pipeline.errors import Retry, Stop
from pipeline.kafka.connection import REQUEST_TIMEOUT_MS, errors_mapped, opened
from pipeline.privacy.gate import ClearedRecord
from pipeline.settings.settings import KafkaSettings

DELIVERY_TIMEOUT_MS: Final = 10_000
"""Time for two requests: the first may fail with the partition's leader, the second reaches the new leader."""
RECORD_MAX_BYTES: Final = 1 << 20
"""Kafka's own default for a record; an uplink batch is an eighth of it."""

_REFUSED: Final = {
    kafka_errors.MessageSizeTooLargeError: "record-too-large",
    kafka_errors.RecordListTooLargeError: "record-too-large",
    kafka_errors.InvalidRecordError: "record-invalid",
    kafka_errors.InvalidTimestampError: "record-time-invalid",
}
"""Kafka's errors that refuse a record for good, and the reason that we report."""


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that Kafka refuses for good; `index` is its place among the delivered records."""

    index: int
    reason: str
    message: str


class Producer:
    """Delivers records and waits until all in-sync replicas acknowledge them. Thread-safe; connects when first used."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._lock = threading.Lock()
        self._client: Any = None

    def deliver(self, records: Sequence[ClearedRecord]) -> tuple[RefusedRecord, ...]:
        """Store these records. Return those that Kafka refuses for good, in order.

        Raises
        ------
        Retry
            Not all records are known to be stored. Deliver all of them again: repeats are harmless.
        Stop
            The login is refused, or has no right to a topic.
        """
        with self._lock:
            try:
                with errors_mapped(self._settings):
                    refused = self._deliver(records)
                    if len(records) > 1:
                        # Kafka may refuse a whole batch for one bad record: deliver each refused record alone.
                        alone = ((first.index, self._deliver([records[first.index]])) for first in refused)
                        refused = [replace(again, index=index) for index, rest in alone for again in rest]
            except (Retry, Stop):
                self._disconnect(timeout_s=0)
                raise
            return tuple(refused)

    def close(self, timeout_s: float = 2.0) -> None:
        """Close the connection; the records of each finished `deliver` are stored already."""
        with self._lock:
            self._disconnect(timeout_s)

    def _deliver(self, records: Sequence[ClearedRecord]) -> list[RefusedRecord]:
        if self._client is None:
            self._client = opened(
                KafkaProducer,
                self._settings,
                self._name,
                acks="all",
                enable_idempotence=False,  # repeats are harmless by the envelopes' ids
                max_in_flight_requests_per_connection=1,  # keeps the order across retries
                linger_ms=2,
                compression_type=self._settings.compression or None,
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
                )
            except tuple(_REFUSED) as error:
                refused[index] = error
        self._client.flush(timeout=DELIVERY_TIMEOUT_MS / 1000 + 1)
        for index, future in sent.items():
            try:
                future.get(timeout=0)
            except tuple(_REFUSED) as error:
                refused[index] = error
        return [RefusedRecord(index, _REFUSED[type(refused[index])], str(refused[index])) for index in sorted(refused)]

    def _disconnect(self, timeout_s: float) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):  # unfinished records were reported already
                client.close(timeout=timeout_s)
