"""Everything that the broker stores: topics and their partitions, committed offsets, and the sync to disk.

::

    DIRECTORY/lock                           held by the one broker that may use this directory
              topics.json                    the catalog, replaced as a whole
              topics/NAME.ID/PARTITION/*.log
              offsets/*.log                  committed offsets, a compacted log

Example::

    with opened(Path("data")) as store:
        log = store.log("a", 0)
        log.append(batch, header)
        await store.durable([log])     # returns after the sync that covers the append
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.brokers.kafka.batch import header_at, records_of
from pipeline.brokers.kafka.compact import compacted, plan_for
from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.log import LogLimits, PartitionLog, Unsynced, walk
from pipeline.brokers.kafka.topics import Catalog, Topic, check_new, limits_of
from pipeline.errors import Stop
from pipeline.files.fsync import replace_file, to_disk

logger = logging.getLogger(__name__)

MAINTENANCE_INTERVAL_S = 1.0
# Deleted offsets can go at once: only the broker reads this log, at its start.
OFFSETS_LIMITS = LogLimits(segment_bytes=2**20, compact=True, delete=False, delete_retention_ms=0)
# Largest request, and so the largest batch of committed offsets. A produce request holds a batch for each partition.
MAX_REQUEST_BYTES = 32 * 2**20


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """A group's committed offset in a partition."""

    offset: int
    metadata: str


OffsetKey = tuple[str, str, int]  # group, topic, partition


@contextmanager
def opened(directory: Path) -> Iterator[BrokerStore]:
    """Recover the store in `directory` and lock it.

    Raises
    ------
    Stop
        Another broker uses it, or its catalog is damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise Stop(
                f"another broker (pid {lock.read().strip() or 'unknown'}) uses {directory}: stop it, or use another --dir"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        store = BrokerStore(directory)
        try:
            store.recover()
            yield store
        finally:
            store.close()


class BrokerStore:
    """Topics, partitions and offsets. For one thread: only syncs and compaction run beside the event loop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.catalog = Catalog("", {})
        self.committed: dict[OffsetKey, Committed] = {}
        self._logs: dict[tuple[str, int], PartitionLog] = {}
        self._offsets = PartitionLog(directory / "offsets", OFFSETS_LIMITS)
        self._unsynced: dict[PartitionLog, None] = {}
        self._synced: asyncio.Future[None] | None = None  # of the sync that will begin next
        self._wanted = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._maintaining = asyncio.Lock()

    def recover(self) -> None:
        """Read the catalog, check every partition's open segment, load the committed offsets."""
        path, data = self.directory / "topics.json", self.directory / "topics"
        if path.exists():
            try:
                self.catalog = msgspec.json.decode(path.read_bytes(), type=Catalog)
            except msgspec.DecodeError as problem:
                raise Stop(f"{path} cannot be read ({problem}): restore it, or move {self.directory} away") from problem
        elif data.exists() and any(data.iterdir()):
            raise Stop(f"{path} is missing, but there are topics: restore it, or move {self.directory} away")
        else:
            data.mkdir(exist_ok=True)
            self._save(Catalog(secrets.token_urlsafe(16), {}))
        for name, topic in self.catalog.topics.items():
            self._open(name, topic)
        for orphan in {entry.name for entry in data.iterdir()} - {t.directory for t in self.catalog.topics.values()}:
            logger.info("removing the rest of a deleted topic: %s", orphan)
            shutil.rmtree(data / orphan)
        self._offsets = PartitionLog.recovered(self.directory / "offsets", OFFSETS_LIMITS)
        for segment in self._offsets.segments:
            for position, header, bytes_ in walk(segment.path):
                for record in records_of(bytes_, position, header):
                    key = msgspec.json.decode(record.key or b"", type=OffsetKey)
                    if record.value is None:
                        self.committed.pop(key, None)
                    else:
                        self.committed[key] = msgspec.json.decode(record.value, type=Committed)

    def close(self) -> None:
        """Sync all appended batches and close the files."""
        self._disk.shutdown()
        for log in [*self._logs.values(), self._offsets]:
            _sync([log.unsynced()])
            log.close()
            _sync([log.unsynced()])

    def log(self, topic: str, partition: int) -> PartitionLog:
        """Return a partition. Raises `BrokerError` (UNKNOWN_TOPIC_OR_PARTITION) if it does not exist."""
        log = self.find(topic, partition)
        if log is None:
            raise BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION, f"no partition {partition} of a topic {topic!r}")
        return log

    def find(self, topic: str, partition: int) -> PartitionLog | None:
        """Return a partition, or None if it does not exist."""
        return self._logs.get((topic, partition))

    def create(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        """Create a topic; it is on disk when this returns.

        Raises
        ------
        BrokerError
            The name, a number or a setting is not possible.
        """
        self.check_create(name, partitions, replicas, configs)
        topic = Topic(f"{name}.{secrets.token_hex(4)}", partitions, configs)
        self._save(Catalog(self.catalog.cluster_id, {**self.catalog.topics, name: topic}))
        self._open(name, topic)

    def check_create(self, name: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        """Raise the error that `create` would raise."""
        check_new(name, partitions, replicas, self.catalog.topics)
        limits_of(configs)

    async def delete(self, name: str) -> None:
        """Delete a topic with its records and its committed offsets.

        Raises
        ------
        BrokerError
            UNKNOWN_TOPIC_OR_PARTITION.
        """
        self.log(name, 0)
        async with self._maintaining:
            topic = self.catalog.topics[name]
            self._save(Catalog(self.catalog.cluster_id, {n: t for n, t in self.catalog.topics.items() if n != name}))
            logs = [self._logs.pop((name, partition)) for partition in range(topic.partitions)]
            for log in logs:
                log.close()
            await self.durable(logs)
            shutil.rmtree(self.directory / "topics" / topic.directory, ignore_errors=True)
        await self.commit_offsets({key: None for key in self.committed if key[1] == name})

    async def commit_offsets(self, offsets: dict[OffsetKey, Committed | None]) -> None:
        """Store committed offsets (None forgets one); they are on disk when this returns.

        Raises
        ------
        BrokerError
            KAFKA_STORAGE_ERROR.
        """
        if not offsets:
            return
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=False,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=MAX_REQUEST_BYTES,
        )
        now_ms = time.time_ns() // 1_000_000
        for offset_delta, (key, committed) in enumerate(offsets.items()):
            value = None if committed is None else msgspec.json.encode(committed)
            builder.append(offset_delta, now_ms, msgspec.json.encode(key), value, [])
        batch = bytearray(builder.build())
        self._offsets.append(batch, header_at(batch, 0))
        for key, committed in offsets.items():
            if committed is None:
                self.committed.pop(key, None)
            else:
                self.committed[key] = committed
        await self.durable([self._offsets])

    def request_sync(self, logs: Iterable[PartitionLog]) -> asyncio.Future[None]:
        """Return a future that is done when the appended batches of `logs` are on disk; all waiters share one sync."""
        self._unsynced.update(dict.fromkeys(logs))
        if self._synced is None:
            self._synced = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return self._synced

    async def durable(self, logs: Iterable[PartitionLog]) -> None:
        """Return when the appended batches of `logs` are on disk."""
        await asyncio.shield(self.request_sync(logs))

    async def sync_forever(self) -> None:
        """Serve `request_sync`, for ever.

        Raises
        ------
        OSError
            The disk failed. Its content is unknown then, so the broker has to end and recover.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            assert self._synced is not None
            synced, self._synced = self._synced, None
            logs, self._unsynced = list(self._unsynced), {}
            unsynced = [log.unsynced() for log in logs]
            try:
                await loop.run_in_executor(self._disk, _sync, unsynced)
            except OSError as problem:
                logger.critical(
                    "cannot sync: %s. The broker ends; acknowledged records are there after a restart",
                    problem,
                )
                raise
            for log, done in zip(logs, unsynced, strict=True):
                log.mark_durable(done.offset, done.last_bytes)
            synced.set_result(None)

    async def maintain_forever(self) -> None:
        """Apply retention and compaction at intervals, for ever."""
        while True:
            await asyncio.sleep(MAINTENANCE_INTERVAL_S)
            now_ms = time.time_ns() // 1_000_000
            for log in [*self._logs.values(), self._offsets]:
                async with self._maintaining:
                    if log.directory.exists():
                        await self._maintain(log, now_ms)

    async def _maintain(self, log: PartitionLog, now_ms: int) -> None:
        try:
            log.trim(now_ms)
            plan = plan_for(log)
            if plan is not None:
                swaps, log.compacted_offset = await asyncio.to_thread(compacted, plan, now_ms)
                log.swap_in(swaps)
        except (OSError, BrokerError) as problem:
            logger.error("cannot tidy %s: %s. Is the disk full?", log.directory, problem)

    def _save(self, catalog: Catalog) -> None:
        replace_file(self.directory / "topics.json", msgspec.json.encode(catalog))
        self.catalog = catalog

    def _open(self, name: str, topic: Topic) -> None:
        limits = limits_of(topic.configs)
        for partition in range(topic.partitions):
            directory = self.directory / "topics" / topic.directory / str(partition)
            self._logs[name, partition] = PartitionLog.recovered(directory, limits)


def _sync(pending: Iterable[Unsynced]) -> None:
    for unsynced in pending:
        if unsynced.file is not None:
            to_disk(unsynced.file)
        for file in unsynced.retired:
            os.close(file)
