"""Reads compressed record batches, and replaces a batch that cannot be read by a record that every reader refuses.

Both clients raise such an error at each attempt, so their reader would stand at this offset for ever. Here the rest of
the batch becomes one record with an empty value and the reason in a header. It is logged, each reader refuses it as it
refuses any damaged record, and goes on behind it::

    for record in ReadableBatch(batch, "features.public", 3):
        ...                # at worst, record.headers == [("unreadable", b"from offset 17: ...")]

kafka-python wants a package for each codec. cramjam has them all, and aiokafka needs it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class ReadableBatch:
    """A batch of either client whose iteration never fails."""

    def __init__(self, batch: Any, topic: str, partition: int) -> None:
        self._batch = batch
        self._place: dict[str, Any] = {"topic": topic, "partition": partition}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        offset = self._batch.base_offset
        try:
            if not self._batch.validate_crc():
                raise ValueError("its checksum is wrong")
            for record in self._batch:
                offset = record.offset + 1
                yield record
        except Exception as error:  # each decompressor has errors of its own
            reason = f"{type(error).__name__}: {error}"
            log.error("records cannot be read", **self._place, offset=offset, reason=reason)
            yield self._stand_in(f"from offset {offset}: {reason}", offset)

    def _stand_in(self, reason: str, offset: int) -> SimpleNamespace:
        """Return a record with the attributes that either client asks for, at the offset of the batch's last record."""
        return SimpleNamespace(
            offset=max(offset, self._batch.next_offset - 1),
            timestamp=self._batch.max_timestamp,
            timestamp_type=0,
            key=None,
            value=None if self._place["topic"].endswith(CHANGELOG) else b"",
            headers=[(UNREADABLE, reason.encode())],
            checksum=None,
            size_in_bytes=0,
            validate_crc=lambda: True,
        )


class ReadableBatches:
    """The batches of one fetch of a partition, each as a `ReadableBatch`."""

    def __init__(self, records: Any, topic: str, partition: int) -> None:
        self.has_next = records.has_next
        self._next = records.next_batch
        self._place = topic, partition

    def next_batch(self) -> ReadableBatch | None:
        """Return the next batch, or None."""
        batch = self._next()
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
    compressor = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)  # Kafka takes no linked blocks
    compressor.compress(data)
    return bytes(compressor.finish())
