"""The embedded broker's store: group commit, topics, committed offsets. On a real directory, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.brokers.kafka import store as store_module
from pipeline.brokers.kafka.batch import header_at
from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.log import LogLimits, PartitionLog
from pipeline.brokers.kafka.store import BrokerStore, Committed, opened
from pipeline.brokers.kafka.topics import MOST_PARTITIONS, limits_of
from pipeline.errors import Stop


def append(log: PartitionLog) -> int:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1000)
    builder.append(0, 0, b"key", b"value", [])
    batch = bytearray(builder.build())
    return log.append(batch, header_at(batch, 0))


def run(directory: Path, work: Callable[[BrokerStore], Coroutine[Any, Any, None]]) -> None:
    """Open the store, serve its syncs, and do `work`."""

    async def main() -> None:
        with opened(directory) as store:
            sync = asyncio.create_task(store.sync_forever())
            try:
                await work(store)
            finally:
                sync.cancel()
                await asyncio.wait([sync])

    asyncio.run(main())


def test_all_who_wait_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(store_module, "to_disk", synced.append)

    async def work(store: BrokerStore) -> None:
        store.create("a", 2, 1, {})
        logs = [store.log("a", 0), store.log("a", 1)]

        async def produce(number: int) -> None:
            log = logs[number % 2]
            offset = append(log)
            assert log.durable_offset <= offset
            await store.durable([log])
            assert log.durable_offset > offset

        await asyncio.gather(*(produce(number) for number in range(100)))
        assert len(synced) == 2

    run(tmp_path, work)


def test_when_the_disk_fails_nothing_is_acknowledged_and_the_broker_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError("I/O error")

    async def main() -> None:
        with opened(tmp_path) as store:
            store.create("a", 1, 1, {})
            append(store.log("a", 0))
            with monkeypatch.context() as patch:
                patch.setattr(store_module, "to_disk", fail)
                waiting = asyncio.create_task(store.durable([store.log("a", 0)]))
                with pytest.raises(OSError, match="I/O error"):
                    await store.sync_forever()
            assert not waiting.done()
            assert store.log("a", 0).durable_offset == 0
            waiting.cancel()

    asyncio.run(main())


def test_committed_offsets_and_topics_are_there_again(tmp_path: Path) -> None:
    async def write(store: BrokerStore) -> None:
        store.create("a", 3, 1, {"cleanup.policy": "compact"})
        for offset in range(50):
            await store.commit_offsets({("g", "a", 0): Committed(offset, "note"), ("h", "a", 1): Committed(1, "")})
        await store.commit_offsets({("h", "a", 1): None})

    async def check(store: BrokerStore) -> None:
        assert store.committed == {("g", "a", 0): Committed(49, "note")}
        assert store.catalog.topics["a"].partitions == 3
        assert store.log("a", 2).limits.compact

    run(tmp_path, write)
    run(tmp_path, check)


def test_deleting_a_topic_forgets_its_records_and_offsets(tmp_path: Path) -> None:
    async def write(store: BrokerStore) -> None:
        store.create("a", 1, 1, {})
        append(store.log("a", 0))
        await store.durable([store.log("a", 0)])
        await store.commit_offsets({("g", "a", 0): Committed(1, "")})
        await store.delete("a")
        with pytest.raises(BrokerError):
            store.log("a", 0)
        assert list((tmp_path / "topics").iterdir()) == []

    async def check(store: BrokerStore) -> None:
        assert store.committed == {}
        store.create("a", 1, 1, {})
        assert store.log("a", 0).end_offset == 0

    run(tmp_path, write)
    run(tmp_path, check)


def test_what_a_killed_deletion_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    async def nothing(_store: BrokerStore) -> None:
        assert not (tmp_path / "topics" / "a.1234").exists()

    run(tmp_path, nothing)
    (tmp_path / "topics" / "a.1234" / "0").mkdir(parents=True)
    run(tmp_path, nothing)


def test_a_directory_is_held_by_one_store(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Stop, match="pid"), opened(tmp_path):
        pass


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", "x" * 241, "ümlaut", "a\n"])
def test_a_topic_name_that_could_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with opened(tmp_path) as store, pytest.raises(BrokerError) as refused:
        store.create(name, 1, 1, {})
    assert refused.value.code is Code.INVALID_TOPIC_EXCEPTION


def test_all_topics_together_have_a_limit_of_partitions(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create("a", MOST_PARTITIONS - 1, 1, {})
        with pytest.raises(BrokerError) as refused:
            store.create("b", 2, 1, {})
    assert refused.value.code is Code.INVALID_PARTITIONS


def test_settings_of_a_topic_become_its_limits() -> None:
    limits = limits_of({"cleanup.policy": "compact,delete", "retention.ms": "60000", "segment.bytes": "1048576"})
    assert limits == LogLimits(compact=True, delete=True, retention_ms=60_000, segment_bytes=2**20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("segment.bytes", "1"),
        ("retention.ms", "-2"),
        ("max.message.bytes", "99999999"),
        ("retention.ms", None),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: str | None) -> None:
    with pytest.raises(BrokerError) as refused:
        limits_of({name: value})
    assert refused.value.code is Code.INVALID_CONFIG
