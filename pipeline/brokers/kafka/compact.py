"""Compaction: only the newest record of each key in a partition stays; deletions are removed after some time.

It works on closed segments, in passes. A pass notes the newest offset of each key, from the first segment that is not
compacted yet, for as many keys as memory allows. Then it rewrites all segments up to there without the records that are
older than their key's newest. A record is dropped only if a newer one with its key is on disk.

::

    000.log 100.log 200.log 300.log (open)      newest offsets of the keys in 100.log and 200.log
    000-300.swap             300.log (open)      the commit point: renamed when complete and on disk
    000.log                  300.log (open)      a .swap is finished when it is found, also at start

Source: "Log Compaction" in Kafka's documentation. Memory: about 180 bytes a key.

Example::

    plan = plan_for(log)
    if plan:
        swaps, log.compacted_offset = compacted(plan, now_ms)    # in a thread: it touches no PartitionLog
        log.swap_in(swaps)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.brokers.kafka.batch import StoredRecord, rebuilt, records_of
from pipeline.brokers.kafka.log import LogLimits, PartitionLog, walk
from pipeline.files.fsync import directory_to_disk, to_disk

# 100,000 keys are 18 MB.
KEYS_A_PASS = 100_000


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """The closed segments to compact, oldest first, and the offset from which on they were never compacted."""

    directory: Path
    segments: tuple[tuple[int, Path], ...]  # (first offset, file)
    dirty_offset: int
    end_offset: int  # the first offset of the open segment
    limits: LogLimits


def plan_for(log: PartitionLog) -> CompactionPlan | None:
    """Return the segments to compact now, or None until new segments are as large as the compacted ones."""
    if not log.limits.compact or len(log.segments) < 2:
        return None
    *closed, last = log.segments
    ends = [segment.base_offset for segment in log.segments[1:]]
    new = [s.size_bytes for s, end in zip(closed, ends, strict=True) if end > log.compacted_offset]
    if not new or 2 * sum(new) < sum(segment.size_bytes for segment in closed):
        return None
    segments = tuple((segment.base_offset, segment.path) for segment in closed)
    return CompactionPlan(log.directory, segments, log.compacted_offset, last.base_offset, log.limits)


def compacted(plan: CompactionPlan, now_ms: int, keys_a_pass: int = KEYS_A_PASS) -> tuple[list[Path], int]:
    """Rewrite the segments. Return .swap files for `PartitionLog.swap_in`, and the first offset that is left.

    It blocks, so run it in a thread. A pass that finds too many keys ends early, and the next plan starts there.
    """
    newest, end_offset = _newest_offsets(plan, keys_a_pass)
    drop_tombstones_before_ms = now_ms - plan.limits.delete_retention_ms
    swaps: list[Path] = []
    for base, following, paths in _groups(plan, end_offset):
        draft = plan.directory / f"{base:020d}.cleaned"
        with draft.open("wb") as file:
            for path in paths:
                for position, header, data in walk(path):
                    batch = data[position : position + header.size_bytes]
                    records = list(records_of(batch, 0, header))
                    kept = [
                        record
                        for record in records
                        if record.offset >= newest.get(_digest(record), 0)
                        and not (
                            record.value is None
                            and record.offset < end_offset
                            and record.timestamp_ms < drop_tombstones_before_ms
                        )
                    ]
                    if len(kept) == len(records):
                        file.write(batch)
                    elif kept:
                        file.write(rebuilt(batch, kept))
            file.flush()
            to_disk(file.fileno())
        swap = plan.directory / f"{base:020d}-{following:020d}.swap"
        draft.rename(swap)
        directory_to_disk(plan.directory)
        swaps.append(swap)
    return swaps, end_offset


def _newest_offsets(plan: CompactionPlan, keys_a_pass: int) -> tuple[dict[bytes, int], int]:
    newest: dict[bytes, int] = {}
    for _, path in plan.segments:
        for position, header, data in walk(path):
            if header.next_offset <= plan.dirty_offset:
                continue
            if len(newest) >= keys_a_pass:
                return newest, header.base_offset
            for record in records_of(data, position, header):
                newest[_digest(record)] = record.offset
    return newest, plan.end_offset


def _groups(plan: CompactionPlan, end_offset: int) -> Iterator[tuple[int, int, list[Path]]]:
    """Yield neighbours that fit into one segment together, so that compaction does not leave many tiny files."""
    bases = [base for base, _ in plan.segments]
    group: list[Path] = []
    first, size_bytes = 0, 0
    for (base, path), following in zip(plan.segments, [*bases[1:], plan.end_offset], strict=True):
        if base >= end_offset:
            break
        if group and size_bytes + path.stat().st_size > plan.limits.segment_bytes:
            yield first, base, group
            group, size_bytes = [], 0
        if not group:
            first = base
        group.append(path)
        size_bytes += path.stat().st_size
        last = following
    if group:
        yield first, last, group


def _digest(record: StoredRecord) -> bytes:
    return hashlib.blake2b(record.key or b"", digest_size=16).digest()
