"""The embedded broker's partitions on disk: recovery, index, retention, compaction. No sockets, no event loop."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.brokers.kafka.batch import header_at, rebuilt, records_of, verify, verify_produced
from pipeline.brokers.kafka.compact import compacted, plan_for
from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.log import INDEX_INTERVAL_BYTES, LogLimits, PartitionLog, walk
from pipeline.brokers.kafka.producers import ProducerWindows

LIMITS = LogLimits(segment_bytes=2_000)
COMPACT = replace(LIMITS, compact=True, delete=False, delete_retention_ms=1_000)

Row = tuple[bytes, bytes | None]


def batch_of(*rows: Row, at_ms: int = 1_000, producer: tuple[int, int, int] = (-1, -1, -1)) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, False, *producer, 2**24)
    for delta, (key, value) in enumerate(rows):
        builder.append(delta, at_ms + delta, key, value, [])
    return bytearray(builder.build())


def append(log: PartitionLog, *rows: Row, at_ms: int = 1_000) -> int:
    batch = batch_of(*rows, at_ms=at_ms)
    offset = log.append(batch, header_at(batch, 0))
    sync(log)
    return offset


def sync(log: PartitionLog) -> None:
    done = log.unsynced()
    for file in done.retired:
        os.close(file)
    log.mark_durable(done.offset, done.last_bytes)


def close(log: PartitionLog) -> None:
    log.close()
    sync(log)


def contents(log: PartitionLog) -> list[tuple[int, bytes | None, bytes | None]]:
    """All records from the start on, read as a consumer reads them: offset, key, value."""
    found: list[tuple[int, bytes | None, bytes | None]] = []
    offset = log.start_offset
    while data := log.read(offset, 700):
        position = 0
        while position < len(data):
            try:
                header = header_at(data, position)
            except BrokerError:
                break  # the last batch may be cut short
            verify(data, position, header)
            found += [(r.offset, r.key, r.value) for r in records_of(data, position, header) if r.offset >= offset]
            position += header.size_bytes
            following = header.next_offset
        offset = following
    return found


def compact_fully(log: PartitionLog, now_ms: int, keys_a_pass: int = 1_000) -> None:
    while plan := plan_for(log):
        before = log.compacted_offset
        swaps, log.compacted_offset = compacted(plan, now_ms, keys_a_pass)
        log.swap_in(swaps)
        assert log.compacted_offset > before


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "topic" / "0"


def test_records_get_consecutive_offsets_across_segments_and_a_restart(directory: Path) -> None:
    log = PartitionLog.recovered(directory, LIMITS)
    for number in range(60):
        assert append(log, (b"k", b"%d" % number), (b"k", b"x" * 40)) == 2 * number
    assert len(log.segments) > 3
    expected = contents(log)
    assert [offset for offset, _, _ in expected] == list(range(120))
    close(log)
    again = PartitionLog.recovered(directory, LIMITS)
    assert contents(again) == expected
    assert append(again, (b"k", b"next")) == 120
    close(again)


def test_readers_see_only_what_was_synced(directory: Path) -> None:
    log = PartitionLog.recovered(directory, LIMITS)
    append(log, (b"k", b"durable"))
    batch = batch_of((b"k", b"not yet"))
    log.append(batch, header_at(batch, 0))
    woken: list[int] = []
    log.listeners.add(lambda: woken.append(log.durable_offset))
    assert [value for _, _, value in contents(log)] == [b"durable"]
    with pytest.raises(BrokerError) as refused:
        log.read(2, 100)
    assert refused.value.code is Code.OFFSET_OUT_OF_RANGE
    sync(log)
    assert woken == [2]
    assert [value for _, _, value in contents(log)] == [b"durable", b"not yet"]
    close(log)


@given(cut=st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_a_torn_tail_is_cut_at_the_last_whole_batch_and_kept_aside(cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "0"
        log = PartitionLog.recovered(directory, LogLimits())
        for number in range(5):
            append(log, (b"k", b"%d" % number))
        close(log)
        path = log.segments[-1].path
        size_bytes = path.stat().st_size
        kept_bytes = max(size_bytes - cut, 0)
        os.truncate(path, kept_bytes)
        again = PartitionLog.recovered(directory, LogLimits())
        whole = kept_bytes // (size_bytes // 5)
        assert [value for _, _, value in contents(again)] == [b"%d" % n for n in range(whole)]
        assert bool(list(directory.glob("*.cut-at-*"))) == bool(kept_bytes % (size_bytes // 5))
        assert append(again, (b"k", b"next")) == whole
        close(again)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_one_damaged_bit_costs_no_batch_before_it(position: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "0"
        log = PartitionLog.recovered(directory, LogLimits())
        for number in range(5):
            append(log, (b"k", b"%d" % number))
        close(log)
        path = log.segments[-1].path
        data = bytearray(path.read_bytes())
        position %= len(data)
        data[position] ^= 1 << bit
        path.write_bytes(data)
        again = PartitionLog.recovered(directory, LogLimits())
        before = position // (len(data) // 5)
        assert [value for _, _, value in contents(again)][:before] == [b"%d" % n for n in range(before)]
        close(again)


def test_a_producer_is_told_what_is_wrong_with_its_batch() -> None:
    good = batch_of((b"k", b"v"))
    assert verify_produced(good, 1_000).record_count == 1
    transactional = bytearray(good)
    transactional[22] |= 0x10
    for data, code in (
        (good[:-1], Code.CORRUPT_MESSAGE),
        (good[:20], Code.CORRUPT_MESSAGE),
        (b"", Code.CORRUPT_MESSAGE),
        (good + good, Code.INVALID_RECORD),
        (transactional, Code.CORRUPT_MESSAGE),
        (batch_of((b"k", b"v" * 2_000)), Code.MESSAGE_TOO_LARGE),
    ):
        with pytest.raises(BrokerError) as refused:
            verify_produced(data, 1_000)
        assert refused.value.code is code


def test_the_index_finds_every_offset_and_time(directory: Path) -> None:
    log = PartitionLog.recovered(directory, LogLimits(segment_bytes=10 * INDEX_INTERVAL_BYTES))
    for number in range(600):
        append(log, (b"k", b"x" * 500), (b"k", b"y" * 500), at_ms=10 * number)
    assert len(log.segments) > 3
    close(log)
    again = PartitionLog.recovered(directory, log.limits)
    for offset in range(0, 1_200, 7):
        header = header_at(again.read(offset, 0), 0)
        assert header.base_offset <= offset < header.next_offset
    for number in range(0, 600, 11):
        assert again.offset_at(10 * number) == (2 * number, 10 * number)
        assert again.offset_at(10 * number + 1) == (2 * number + 1, 10 * number + 1)
    assert again.offset_at(1_000_000) is None
    index_entries = sum(len(segment.indexed().offsets) for segment in again.segments)
    assert index_entries <= 600 * 1_100 / INDEX_INTERVAL_BYTES + len(again.segments)
    close(again)


def test_retention_removes_whole_old_segments_by_size(directory: Path) -> None:
    log = PartitionLog.recovered(directory, replace(LIMITS, retention_bytes=5_000))
    for number in range(200):
        append(log, (b"k", b"%d" % number))
    end = log.end_offset
    log.trim(now_ms=0)
    total = sum(segment.size_bytes for segment in log.segments)
    assert 5_000 <= total <= 5_000 + LIMITS.segment_bytes
    assert sorted(directory.glob("*.log")) == [segment.path for segment in log.segments]
    assert log.end_offset == end
    assert contents(log)[0][0] == log.start_offset > 0
    with pytest.raises(BrokerError):
        log.read(log.start_offset - 1, 100)
    close(log)


def test_retention_removes_old_segments_by_age_but_never_the_open_one(directory: Path) -> None:
    log = PartitionLog.recovered(directory, replace(LIMITS, retention_ms=60_000))
    for number in range(100):
        append(log, (b"k", b"%d" % number))
    newest_ms = int(log.segments[-1].path.stat().st_mtime * 1000)
    segments = len(log.segments)
    log.trim(newest_ms)
    assert len(log.segments) == segments
    log.trim(newest_ms + 3_600_000)
    assert len(log.segments) == 1
    close(log)


def test_a_compacted_partition_is_never_cut_by_size(directory: Path) -> None:
    log = PartitionLog.recovered(directory, replace(COMPACT, delete=True, retention_bytes=100))
    for number in range(100):
        append(log, (b"%d" % number, b"v"))
    log.trim(now_ms=0)
    assert len(contents(log)) == 100
    close(log)


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.none() | st.binary(max_size=40)), max_size=150
    ),
    batch_size=st.integers(1, 5),
    keys_a_pass=st.integers(1, 5),
    rounds=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_compaction_never_loses_the_newest_value_of_a_key(
    rows: list[Row], batch_size: int, keys_a_pass: int, rounds: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = PartitionLog.recovered(Path(name) / "0", replace(COMPACT, segment_bytes=400))
        newest: dict[bytes, bytes | None] = {}
        share = -(-len(rows) // rounds) or 1
        for start in range(0, len(rows), share):
            part = rows[start : start + share]
            for at in range(0, len(part), batch_size):
                append(log, *part[at : at + batch_size])
            newest.update(part)
            compact_fully(log, now_ms=10**9, keys_a_pass=keys_a_pass)
            replayed: dict[bytes | None, bytes | None] = {}
            offsets = []
            for offset, key, value in contents(log):
                offsets.append(offset)
                replayed[key] = value
            assert offsets == sorted(offsets)
            alive = {key: value for key, value in newest.items() if value is not None}
            assert {key: value for key, value in replayed.items() if value is not None} == alive
        close(log)


def test_compaction_shrinks_the_log_and_survives_a_restart(directory: Path) -> None:
    log = PartitionLog.recovered(directory, COMPACT)
    for number in range(500):
        append(log, (b"%d" % (number % 5), b"%d" % number))
    before = sum(segment.size_bytes for segment in log.segments)
    compact_fully(log, now_ms=0)
    assert sum(segment.size_bytes for segment in log.segments) < before / 5
    expected = contents(log)
    close(log)
    again = PartitionLog.recovered(directory, COMPACT)
    assert contents(again) == expected
    assert append(again, (b"1", b"new")) == 500
    close(again)


def test_a_deletion_stays_for_its_grace_and_then_goes(directory: Path) -> None:
    log = PartitionLog.recovered(directory, COMPACT)
    append(log, (b"gone", b"value"), at_ms=1_000)
    append(log, (b"gone", None), at_ms=2_000)
    for number in range(100):
        append(log, (b"%d" % (number % 3), b"v"), at_ms=3_000)
    compact_fully(log, now_ms=2_500)
    assert [value for _, key, value in contents(log) if key == b"gone"] == [None]
    for number in range(100):
        append(log, (b"%d" % (number % 3), b"v"), at_ms=3_000)
    compact_fully(log, now_ms=9_000)
    assert [value for _, key, value in contents(log) if key == b"gone"] == []
    close(log)


@pytest.mark.parametrize("moment", ["draft written", "swap renamed", "old files half removed"])
def test_a_compaction_that_was_killed_is_finished_or_forgotten(directory: Path, moment: str) -> None:
    log = PartitionLog.recovered(directory, COMPACT)
    for number in range(300):
        append(log, (b"%d" % (number % 5), b"%d" % number))
    close(log)
    plan = plan_for(log)
    assert plan is not None
    swaps, _ = compacted(plan, 0)
    if moment == "draft written":
        for swap in swaps:
            swap.rename(swap.with_suffix(".cleaned"))
    if moment == "old files half removed":
        plan.segments[0][1].unlink()
    again = PartitionLog.recovered(directory, COMPACT)
    newest = {key: value for _, key, value in contents(again)}
    assert newest == {b"%d" % n: b"%d" % (295 + n) for n in range(5)}
    assert not [path for path in directory.iterdir() if path.suffix != ".log"]
    close(again)


def test_a_batch_without_some_records_keeps_offsets_times_and_a_right_checksum() -> None:
    batch = batch_of((b"a", b"1"), (b"b", b"2"), (b"c", b"3"))
    records = list(records_of(batch, 0, header_at(batch, 0)))
    smaller = rebuilt(bytes(batch), [records[0], records[2]])
    header = header_at(smaller, 0)
    verify(smaller, 0, header)
    assert [(r.offset, r.timestamp_ms, r.key) for r in records_of(smaller, 0, header)] == [
        (0, 1_000, b"a"),
        (2, 1_002, b"c"),
    ]
    assert header.next_offset == 3


@given(st.binary(max_size=300))
def test_bytes_that_are_no_batch_are_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BrokerError):
        verify_produced(data, 1_000)


def test_a_full_disk_is_refused_and_the_log_goes_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PartitionLog.recovered(directory, LIMITS)
    append(log, (b"k", b"1"))
    batch = batch_of((b"k", b"2"))
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:30], at))
    with pytest.raises(BrokerError) as refused:
        log.append(bytearray(batch), header_at(batch, 0))
    assert refused.value.code is Code.KAFKA_STORAGE_ERROR
    monkeypatch.undo()
    assert append(log, (b"k", b"3")) == 1
    assert [value for _, _, value in contents(log)] == [b"1", b"3"]
    close(log)


def test_repeated_batches_are_known_after_a_restart(directory: Path) -> None:
    log = PartitionLog.recovered(directory, LIMITS)
    batch = batch_of((b"k", b"v"), (b"k", b"w"), producer=(7, 0, 0))
    header = header_at(batch, 0)
    assert log.append(bytearray(batch), header) == 0
    sync(log)
    close(log)
    again = PartitionLog.recovered(directory, LIMITS)
    assert again.append(bytearray(batch), header) == 0
    assert again.end_offset == 2
    close(again)


def test_a_producer_with_an_old_epoch_or_a_gap_is_refused_and_sequences_wrap() -> None:
    def header(epoch: int, sequence: int) -> object:
        return header_at(batch_of((b"k", b"v"), producer=(7, epoch, sequence)), 0)

    windows = ProducerWindows()
    windows.note(header(1, 2**31 - 1), 50)  # type: ignore[arg-type]
    assert windows.offset_of(header(1, 2**31 - 1)) == 50  # type: ignore[arg-type]
    assert windows.offset_of(header(1, 0)) is None  # type: ignore[arg-type]
    assert windows.offset_of(header(2, 0)) is None  # type: ignore[arg-type]
    for epoch, sequence, code in (
        (0, 0, Code.INVALID_PRODUCER_EPOCH),
        (1, 5, Code.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (2, 5, Code.OUT_OF_ORDER_SEQUENCE_NUMBER),
    ):
        with pytest.raises(BrokerError) as refused:
            windows.offset_of(header(epoch, sequence))  # type: ignore[arg-type]
        assert refused.value.code is code


def test_an_empty_file_has_no_batches(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert list(walk(tmp_path / "empty.log")) == []
