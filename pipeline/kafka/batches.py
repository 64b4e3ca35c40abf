"""Reads compressed record batches, and replaces a batch that cannot be read by a record that every reader refuses.

Both clients raise such an error at each attempt, so their reader would stand at this offset for ever. Here the rest of
the batch becomes one record with an empty value and the reason in a header. It is logged, each reader refuses it as it
refuses any damaged record, and goes on behind it::

    for record in ReadableBatch(batch, "features.public", 3):
        ...                 # at worst: UnreadableRecord(offset=17, headers=[("unreadable", b"... checksum ...")])

kafka-python wants a package for each codec. cramjam has them all, and aiokafka needs it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import cramjam
import structlog
from kafka import codec
from kafka.consumer.fetcher import Fetcher
from kafka.record import default_records

UNREADABLE: Final = "unreadable"
"""Header with the reason."""
CHANGELOG: Final = "-changelog"
"""End of the names of Faust's own topics. Faust decodes each value there, but ignores a deletion without a key."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """Stands for the records of a batch that cannot be read, with the attributes that both clients ask for."""

    offset: int
    timestamp: int
    headers: list[tuple[str, bytes]]
    timestamp_type: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    checksum: int | None = None
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        """Return True: the batch has the checksum."""
        return True


class ReadableBatch:
    """A batch of either client whose iteration never fails."""

    def __init__(self, batch: Any, topic: str, partition: int) -> None:
        self._batch = batch
        self._place = topic, partition

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        offset = batch.base_offset
        try:
            if not batch.validate_crc():
                raise ValueError("its checksum is wrong")
            for record in batch:
                offset = record.offset + 1
                yield record
        except Exception as error:  # each decompressor has errors of its own
            topic, partition = self._place
            reason = f"{type(error).__name__}: {error}"
            log.error(
                "records cannot be read", topic=topic, partition=partition, offset=offset, reason=reason
            )
            yield UnreadableRecord(
                offset=max(offset, batch.next_offset - 1),
                timestamp=batch.max_timestamp,
                headers=[(UNREADABLE, f"from offset {offset}: {reason}".encode())],
                value=None if topic.endswith(CHANGELOG) else b"",
            )


class ReadableBatches:
    """The batches of one fetch of a partition, each as a `ReadableBatch`."""

    def __init__(self, records: Any, topic: str, partition: int) -> None:
        self._records = records
        self._place = topic, partition

    def has_next(self) -> bool:
        """Return whether a batch follows."""
        return bool(self._records.has_next())

    def next_batch(self) -> ReadableBatch | None:
        """Return the next batch, or None."""
        batch = self._records.next_batch()
        return None if batch is None else ReadableBatch(batch, *self._place)


class ReadablePartition(Fetcher.PartitionRecords):  # type: ignore[misc]  # untyped
    """kafka-python's records of a fetch."""

    def _unpack_records(self, tp: Any, records: Any, *serializers: Any) -> Any:
        self.check_crcs = False  # checked by the batch
        return super()._unpack_records(tp, ReadableBatches(records, *tp), *serializers)


def install() -> None:
    """Let all consumers of kafka-python in this process read every codec and pass unreadable batches."""
    Fetcher.PartitionRecords = ReadablePartition
    codec.lz4 = codec.zstd = cramjam
    codec.snappy = SimpleNamespace(
        compress=lambda data: bytes(cramjam.snappy.compress_raw(data)),
        decompress=lambda data: bytes(cramjam.snappy.decompress_raw(data)),
    )
    default_records.lz4_decode = lambda data: bytes(cramjam.lz4.decompress(data))
    default_records.lz4_encode = _lz4
    default_records.zstd_decode = lambda data: bytes(cramjam.zstd.decompress(data))
    default_records.zstd_encode = lambda data: bytes(cramjam.zstd.compress(data))


def _lz4(data: bytes) -> bytes:
    compressor = cramjam.lz4.Compressor(
        content_checksum=False, block_linked=False
    )  # Kafka takes no linked blocks
    compressor.compress(data)
    return bytes(compressor.finish())
