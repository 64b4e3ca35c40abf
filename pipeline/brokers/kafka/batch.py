"""Record batches: the same bytes from the producer, on disk and to the consumer.

The broker reads the 61 bytes before a batch and its checksum; it reads single records only to compact a topic or to
find a time. The checksum covers neither the offset nor the leader epoch, so that a broker can set them.

Source: "Record Batch" in the chapter "Message Format" of Kafka's documentation (magic 2).

Example::

    header = header_at(data, 0)
    verify(data, 0, header)              # raises BrokerError
    for record in records_of(data, 0, header):
        print(record.offset, record.key)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import TypeAlias

import msgspec
from kafka.record.util import calc_crc32c, decode_varint

from pipeline.brokers.kafka.errors import BrokerError, Code

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

HEADER = struct.Struct(">qiibIhiqqqhii")
# The length field counts the bytes after it; these bytes stand before.
PREFIX_BYTES = 12
CRC_POSITION = 17
# The checksum covers everything from the attributes on.
CHECKED_FROM = 21

CODEC_BITS = 0x07
# Log-append time, transactional, control: no client of ours sets these bits.
REFUSED_BITS = 0x38


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """The 61 bytes before a batch, in their order. Times are milliseconds since 1970."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The size of the whole batch, header included."""
        return self.length + PREFIX_BYTES

    @property
    def next_offset(self) -> int:
        """The offset after the batch's last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compressed(self) -> bool:
        """Return whether the records are compressed."""
        return bool(self.attributes & CODEC_BITS)


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """A record, and its bytes in the batch (`raw`). A record without a value deletes its key."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    raw: bytes


def header_at(buffer: Buffer, position: int) -> BatchHeader:
    """Read the header of the batch at `position`.

    Raises
    ------
    BrokerError
        CORRUPT_MESSAGE: there is no complete batch of this format.
    """
    if len(buffer) - position < HEADER.size:
        raise BrokerError(Code.CORRUPT_MESSAGE, f"{len(buffer) - position} bytes are not a record batch")
    header = BatchHeader(*HEADER.unpack_from(buffer, position))
    if header.magic != 2 or not HEADER.size <= header.size_bytes <= len(buffer) - position:
        raise BrokerError(Code.CORRUPT_MESSAGE, f"no record batch of format 2 at byte {position}")
    return header


def verify(buffer: Buffer, position: int, header: BatchHeader) -> None:
    """Check a batch against its CRC-32C.

    Raises
    ------
    BrokerError
        CORRUPT_MESSAGE.
    """
    covered = memoryview(buffer)[position + CHECKED_FROM : position + header.size_bytes]
    if calc_crc32c(covered) != header.crc:
        raise BrokerError(Code.CORRUPT_MESSAGE, f"the batch at byte {position} fails its CRC-32C")


def verify_produced(data: Buffer, max_message_bytes: int) -> BatchHeader:
    """Check that a producer sent exactly one batch for a partition, complete, plain and not too large.

    Raises
    ------
    BrokerError
        CORRUPT_MESSAGE, MESSAGE_TOO_LARGE or INVALID_RECORD.
    """
    header = header_at(data, 0)
    if header.size_bytes > max_message_bytes:
        raise BrokerError(
            Code.MESSAGE_TOO_LARGE, f"a batch of {header.size_bytes} bytes; the limit is {max_message_bytes}"
        )
    if header.size_bytes != len(data):
        raise BrokerError(Code.INVALID_RECORD, "more than one record batch for one partition")
    verify(data, 0, header)
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        raise BrokerError(Code.INVALID_RECORD, "the record count does not fit the offsets")
    if header.attributes & REFUSED_BITS:
        raise BrokerError(Code.INVALID_RECORD, "transactional, control and log-append-time batches are refused")
    return header


def records_of(buffer: Buffer, position: int, header: BatchHeader) -> Iterator[StoredRecord]:
    """Yield the records of an uncompressed batch.

    Raises
    ------
    BrokerError
        INVALID_RECORD: the bytes do not hold `record_count` records.
    """
    body = bytes(memoryview(buffer)[position + HEADER.size : position + header.size_bytes])
    at = 0
    try:
        for _ in range(header.record_count):
            length, start = decode_varint(body, at)
            end = start + length
            if length < 0 or end > len(body):
                raise ValueError
            timestamp_delta, cursor = decode_varint(body, start + 1)  # one byte of unused attributes
            offset_delta, cursor = decode_varint(body, cursor)
            key_length, cursor = decode_varint(body, cursor)
            key = body[cursor : cursor + key_length] if key_length >= 0 else None
            value_length, cursor = decode_varint(body, cursor + max(key_length, 0))
            if cursor + max(value_length, 0) > end or not 0 <= offset_delta <= header.last_offset_delta:
                raise ValueError
            yield StoredRecord(
                offset=header.base_offset + offset_delta,
                timestamp_ms=header.base_timestamp_ms + timestamp_delta,
                key=key,
                value=body[cursor : cursor + value_length] if value_length >= 0 else None,
                raw=body[at:end],
            )
            at = end
    except (IndexError, ValueError):
        raise BrokerError(Code.INVALID_RECORD, f"the batch at byte {position} holds no whole records") from None


def place(batch: bytearray, offset: int) -> None:
    """Set a batch's first offset, and the leader epoch 0, since the leader never changes."""
    struct.pack_into(">q", batch, 0, offset)
    struct.pack_into(">i", batch, 12, 0)


def rebuilt(batch: bytes, kept: list[StoredRecord]) -> bytes:
    """Return the batch with only the records `kept`; the header stays, so their offsets and times do, too."""
    body = b"".join(record.raw for record in kept)
    changed = bytearray(batch[: HEADER.size])
    struct.pack_into(">i", changed, 8, HEADER.size - PREFIX_BYTES + len(body))
    struct.pack_into(">i", changed, HEADER.size - 4, len(kept))
    changed += body
    struct.pack_into(">I", changed, CRC_POSITION, calc_crc32c(memoryview(changed)[CHECKED_FROM:]))
    return bytes(changed)
