"""One partition on disk: segment files, each named after its first offset, as in Apache Kafka.

Batches are appended to the last segment and never changed. They count as stored once `BrokerStore` has synced them
(`durable_offset`); readers see no record beyond that. Records are read from disk; memory holds only a sparse index,
which is made when a closed segment is first read.

Example::

    log = PartitionLog.recovered(Path("data/a.1f/0"), LogLimits())
    offset = log.append(bytearray(batch), header)
    # ... the sync of log.unsynced(), then:
    log.mark_durable(log.end_offset, log.segments[-1].size_bytes)
    data = log.read(offset, max_bytes=65536)
"""

from __future__ import annotations

import logging
import mmap
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.brokers.kafka.batch import HEADER, BatchHeader, header_at, place, records_of, verify
from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.producers import ProducerWindows
from pipeline.files.fsync import directory_to_disk, to_disk

logger = logging.getLogger(__name__)

# A read scans at most this many bytes from the nearest index entry; 1 GB of log needs 1.5 MB of index.
INDEX_INTERVAL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class LogLimits:
    """The limits of a partition; each field is the topic setting of the same name in Kafka."""

    # Small, since the open segment is read and checked when the broker starts.
    segment_bytes: int = 16 * 2**20
    # -1 means no limit. 256 MiB hold two days of a feature of 1 KB every 0.7 s.
    retention_bytes: int = 256 * 2**20
    retention_ms: int = -1
    delete_retention_ms: int = 24 * 3600 * 1000
    max_message_bytes: int = 2**20 + 12
    compact: bool = False
    delete: bool = True


@dataclass(slots=True)
class Index:
    """An entry about every `INDEX_INTERVAL_BYTES`: a batch's first offset, its position, its newest time."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    newest_ms: array[int] = field(default_factory=lambda: array("q"))

    def note(self, header: BatchHeader, position: int) -> None:
        """Add a batch to the index."""
        if not self.positions or position - self.positions[-1] >= INDEX_INTERVAL_BYTES:
            self.offsets.append(header.base_offset)
            self.positions.append(position)
            self.newest_ms.append(header.max_timestamp_ms)
        else:
            self.newest_ms[-1] = max(self.newest_ms[-1], header.max_timestamp_ms)

    def position_before(self, offset: int) -> int:
        """Return the position of the last indexed batch that begins at or before `offset`."""
        entry = bisect_right(self.offsets, offset) - 1
        return self.positions[entry] if entry >= 0 else 0


@dataclass(slots=True)
class Segment:
    """A segment file. `index` is None until the segment is first read."""

    path: Path
    base_offset: int
    size_bytes: int
    index: Index | None = None

    def indexed(self) -> Index:
        """Return the index; make it at the first call."""
        if self.index is None:
            self.index = Index()
            for position, header, _ in walk(self.path):
                self.index.note(header, position)
        return self.index


def segment_path(directory: Path, base_offset: int) -> Path:
    """Return the path of the segment that begins at this offset."""
    return directory / f"{base_offset:020d}.log"


def walk(path: Path) -> Iterator[tuple[int, BatchHeader, mmap.mmap]]:
    """Yield position, header and file of each batch, up to the last complete one."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 0
        while position < len(data):
            try:
                header = header_at(data, position)
            except BrokerError:
                return
            yield position, header, data
            position += header.size_bytes


class Unsynced(NamedTuple):
    """The work of a sync for a partition, and the partition's durable end after it."""

    file: int | None
    retired: list[int]  # to be closed after the sync
    offset: int
    last_bytes: int


class PartitionLog:
    """The batches of one partition. Not for several threads at once."""

    def __init__(self, directory: Path, limits: LogLimits) -> None:
        self.directory = directory
        self.limits = limits
        self.segments: list[Segment] = []
        self.end_offset = 0
        self.durable_offset = 0
        self.producers = ProducerWindows()
        # Keys are compacted up to here. A restart forgets this, which costs one more compaction.
        self.compacted_offset = 0
        # Called when durable_offset has grown, for consumers that wait for records.
        self.listeners: set[Callable[[], None]] = set()
        self._durable_bytes = 0  # of the last segment
        self._file: int | None = None  # the last segment, once something is appended or read
        self._retired: list[int] = []  # rolled files, closed after the sync that may still use them

    @classmethod
    def recovered(cls, directory: Path, limits: LogLimits) -> PartitionLog:
        """Open a partition. Cut a torn tail off its last segment, and keep the tail in a file beside it."""
        log = cls(directory, limits)
        for swap in sorted(directory.glob("*.swap")):
            finish_swap(swap)
        for draft in directory.glob("*.cleaned"):
            draft.unlink()
        paths = sorted(directory.glob("*.log"))
        log.segments = [Segment(path, int(path.stem), path.stat().st_size) for path in paths]
        if not log.segments:
            return log
        last = log.segments[-1]
        last.index = Index()
        good_bytes, log.end_offset = 0, last.base_offset
        for position, header, data in walk(last.path):
            try:
                verify(data, position, header)
            except BrokerError:
                break
            if header.base_offset < log.end_offset:
                break
            last.index.note(header, position)
            log.producers.note(header, header.base_offset)
            good_bytes, log.end_offset = position + header.size_bytes, header.next_offset
        if good_bytes < last.size_bytes:
            _cut(last.path, good_bytes)
            last.size_bytes = good_bytes
        to_disk(log._descriptor())
        log.mark_durable(log.end_offset, last.size_bytes)
        return log

    @property
    def start_offset(self) -> int:
        """The offset of the first record."""
        return self.segments[0].base_offset if self.segments else 0

    def append(self, batch: bytearray, header: BatchHeader) -> int:
        """Append a verified batch. Return its first offset; for a repeated batch that of the first time.

        Raises
        ------
        BrokerError
            KAFKA_STORAGE_ERROR: the disk is full; OUT_OF_ORDER_SEQUENCE_NUMBER or INVALID_PRODUCER_EPOCH.
        """
        known = self.producers.offset_of(header)
        if known is not None:
            return known
        offset = self.end_offset
        place(batch, offset)
        try:
            segment = self._segment_for(len(batch))
            written = os.pwrite(self._descriptor(), batch, segment.size_bytes)
            if written != len(batch):
                raise OSError(f"only {written} of {len(batch)} bytes were written")
        except OSError as problem:
            # The written bytes are beyond size_bytes: the next append overwrites them, a restart cuts them off.
            logger.error("cannot append to %s: %s. Is the disk full?", self.directory, problem)
            raise BrokerError(Code.KAFKA_STORAGE_ERROR, f"cannot append: {problem}") from problem
        stored = msgspec.structs.replace(header, base_offset=offset)
        segment.indexed().note(stored, segment.size_bytes)
        self.producers.note(stored, offset)
        segment.size_bytes += len(batch)
        self.end_offset = stored.next_offset
        return offset

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Return about `max_bytes` from the batch that holds `offset` on, but at least this whole batch.

        The last batch may be cut, which Kafka's clients expect. At the end of the log the result is empty.

        Raises
        ------
        BrokerError
            OFFSET_OUT_OF_RANGE; KAFKA_STORAGE_ERROR: the file is damaged.
        """
        if not self.start_offset <= offset <= self.durable_offset:
            raise BrokerError(
                Code.OFFSET_OUT_OF_RANGE, f"{offset} is not in {self.start_offset}..{self.durable_offset}"
            )
        if offset == self.durable_offset:
            return b""
        for segment in self._segments_from(offset):
            with self._opened(segment) as file:
                for position, header in self._headers(segment, file, segment.indexed().position_before(offset)):
                    if header.next_offset > offset:
                        last = segment is self.segments[-1]
                        left = (self._durable_bytes if last else segment.size_bytes) - position
                        return os.pread(file, min(left, max(max_bytes, header.size_bytes)), position)
        return b""

    def offset_at(self, timestamp_ms: int) -> tuple[int, int] | None:
        """Return offset and time of the first record at `timestamp_ms` or later, or None.

        For a compressed batch they are those of the batch's first record.
        """
        for segment in self._segments_from(self.start_offset):
            index = segment.indexed()
            entry = next((i for i, newest in enumerate(index.newest_ms) if newest >= timestamp_ms), None)
            if entry is None:
                continue
            with self._opened(segment) as file:
                for position, header in self._headers(segment, file, index.positions[entry]):
                    if header.max_timestamp_ms < timestamp_ms:
                        continue
                    if header.compressed:
                        return header.base_offset, header.base_timestamp_ms
                    batch = os.pread(file, header.size_bytes, position)
                    for record in records_of(batch, 0, header):
                        if record.timestamp_ms >= timestamp_ms:
                            return record.offset, record.timestamp_ms
        return None

    def trim(self, now_ms: int) -> None:
        """Remove the oldest closed segments that exceed the topic's retention.

        A compacted partition has no limit of size, since it is as large as its keys. Age counts from the last append.
        """
        limits = self.limits
        total_bytes = sum(segment.size_bytes for segment in self.segments)
        while limits.delete and len(self.segments) > 1:
            oldest = self.segments[0]
            too_large = (
                not limits.compact
                and limits.retention_bytes >= 0
                and total_bytes - oldest.size_bytes >= limits.retention_bytes
            )
            age_ms = now_ms - oldest.path.stat().st_mtime * 1000
            if not too_large and not 0 <= limits.retention_ms < age_ms:
                return
            logger.info("retention removes %s", oldest.path)
            del self.segments[0]
            total_bytes -= oldest.size_bytes
            oldest.path.unlink()

    def unsynced(self) -> Unsynced:
        """Return the work of the next sync; call `mark_durable` after it."""
        retired, self._retired = self._retired, []
        if self.durable_offset == self.end_offset:
            return Unsynced(None, retired, self.durable_offset, self._durable_bytes)
        return Unsynced(self._descriptor(), retired, self.end_offset, self.segments[-1].size_bytes)

    def mark_durable(self, offset: int, last_bytes: int) -> None:
        """Let consumers see the records before `offset`, which are on disk (`last_bytes` of the last segment)."""
        if offset > self.durable_offset:
            self.durable_offset, self._durable_bytes = offset, last_bytes
            for listener in self.listeners:
                listener()

    def swap_in(self, swaps: list[Path]) -> None:
        """Replace segments by the compacted files that were made from them."""
        for swap in swaps:
            base, following = (int(part) for part in swap.stem.split("-"))
            path = finish_swap(swap)
            kept = [s for s in self.segments if not base <= s.base_offset < following]
            kept.append(Segment(path, base, path.stat().st_size))
            self.segments = sorted(kept, key=lambda segment: segment.base_offset)

    def close(self) -> None:
        """Release the open file; the next sync closes it."""
        if self._file is not None:
            self._retired.append(self._file)
            self._file = None

    def _segment_for(self, batch_bytes: int) -> Segment:
        last = self.segments[-1] if self.segments else None
        if last is not None and (last.size_bytes == 0 or last.size_bytes + batch_bytes <= self.limits.segment_bytes):
            return last
        if last is not None:
            # The closed segment must be on disk before the next one starts: only the last may have a torn tail.
            to_disk(self._descriptor())
            self.mark_durable(self.end_offset, last.size_bytes)
            self.close()
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            directory_to_disk(self.directory.parent)
            directory_to_disk(self.directory.parent.parent)
        path = segment_path(self.directory, self.end_offset)
        path.touch()
        directory_to_disk(self.directory)
        self.segments.append(Segment(path, self.end_offset, 0, Index()))
        self._durable_bytes = 0
        return self.segments[-1]

    def _descriptor(self) -> int:
        if self._file is None:
            self._file = os.open(self.segments[-1].path, os.O_RDWR)
        return self._file

    @contextmanager
    def _opened(self, segment: Segment) -> Iterator[int]:
        if segment is self.segments[-1]:
            yield self._descriptor()
            return
        file = os.open(segment.path, os.O_RDONLY)
        try:
            yield file
        finally:
            os.close(file)

    def _segments_from(self, offset: int) -> list[Segment]:
        first = bisect_right(self.segments, offset, key=lambda segment: segment.base_offset) - 1
        return self.segments[max(first, 0) :]

    def _headers(self, segment: Segment, file: int, position: int) -> Iterator[tuple[int, BatchHeader]]:
        end = self._durable_bytes if segment is self.segments[-1] else segment.size_bytes
        while position < end:
            head = os.pread(file, HEADER.size, position)
            header = BatchHeader(*HEADER.unpack(head)) if len(head) == HEADER.size else None
            if header is None or header.magic != 2 or not HEADER.size <= header.size_bytes <= end - position:
                logger.error("%s is damaged at byte %d: restore it, or delete the topic", segment.path, position)
                raise BrokerError(Code.KAFKA_STORAGE_ERROR, f"{segment.path.name} is damaged at byte {position}")
            yield position, header
            position += header.size_bytes


def finish_swap(swap: Path) -> Path:
    """Remove the segments that a compacted file replaces, and rename it. This can be repeated after a crash."""
    base, following = (int(part) for part in swap.stem.split("-"))
    for path in swap.parent.glob("*.log"):
        if base <= int(path.stem) < following:
            path.unlink()
    path = segment_path(swap.parent, base)
    swap.rename(path)
    directory_to_disk(swap.parent)
    return path


def _cut(path: Path, good_bytes: int) -> None:
    aside = path.with_suffix(f".cut-at-{good_bytes}")
    with path.open("r+b") as file:
        file.seek(good_bytes)
        aside.write_bytes(file.read())
        file.truncate(good_bytes)
        os.fsync(file.fileno())
    logger.warning(
        "%s ended in a torn or damaged batch: cut at byte %d, what was cut is in %s",
        path,
        good_bytes,
        aside.name,
    )
