"""Whole batches inside a Faust app: a handler gets all records that a fetch returned from a partition.

Faust still manages the group, the rebalances, the recovery of tables and the commits. But its stream of single events
costs 0.4 ms for each event, and acknowledges an event even if its processing failed. A handler gets the records of one
partition and returns when all their effects are stored; only then their offsets count as done::

    app = faust.App(...)
    handle_batches(app, {topics.INGEST: router})       # async def router(partition, records) -> None

A handler that raises ends the app (`app.crash_reason`) without a commit; after a restart the batch is delivered again.
So a handler must tolerate repetition. `store` writes to a Faust table from a handler.

This file uses attributes that Faust does not promise, so Faust's version is pinned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import faust
import msgspec
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord

Handler = Callable[[int, Sequence[ConsumedRecord]], Awaitable[None]]
"""Takes the partition's number and its next records, in order."""

log = logging.getLogger(__name__)


def handle_batches(app: faust.App, handlers: Mapping[str, Handler]) -> None:
    """Pass the records of these topics to their handlers; call this before the app is started."""
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    app.transport.handlers = dict(handlers)
    for name in handlers:
        app.topics.add(app.topic(name))


async def store(table: Any, partition: int, changes: Mapping[str, Any]) -> None:
    """Set keys of a Faust table (None deletes a key), and wait until its changelog holds the changes.

    Faust's own ``table[key] = value`` finds the partition by the current event of a stream, which does not exist here.
    """
    sent = [
        table.send_changelog(partition, key, value, value_serializer="raw" if value is None else None)
        for key, value in changes.items()
    ]
    await asyncio.gather(*sent)
    _remember(table, changes)


async def store_many(deliver: Deliver, table: Any, partition: int, changes: Mapping[str, Any]) -> None:
    """Do the same as `store` for many keys: delivered in batches, it costs a tenth."""
    rows = [
        ProducerRecord(msgspec.json.encode(key), None if value is None else msgspec.json.encode(value))
        for key, value in changes.items()
    ]
    await deliver(table.changelog_topic.get_topic_name(), partition, rows)
    _remember(table, changes)


def _remember(table: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            table.data.pop(key, None)
        else:
            table.data[key] = value


class BatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust is only half typed
    """Faust's consumer; the records of topics with a handler bypass Faust's path for single events."""

    logger = driver.logger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._next: dict[TP, int] = {}
        """The offset after the last finished record, by partition that a handler serves."""
        super().__init__(*args, **kwargs)

    @property
    def _handlers(self) -> Mapping[str, Handler]:
        handlers: Mapping[str, Handler] = self.transport.handlers
        return handlers

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        generation = self.app.consumer_generation_id
        records, active = await super()._wait_next_records(timeout)
        if not records or self.should_stop or not self.flow_active:
            return records, active
        ours = {tp: records.pop(tp) for tp in [*records] if tp.topic in self._handlers}
        if ours:
            everything = asyncio.gather(*(self._handle(tp, taken, generation) for tp, taken in ours.items()))
            waited = await self.wait_first(everything, self.suspend_flow.wait())
            if everything not in waited.done or generation != self.app.consumer_generation_id:
                return {}, active  # rebalanced meanwhile: Faust goes back to the committed offsets
        return records, active

    async def _handle(self, tp: TP, taken: Sequence[ConsumedRecord], generation: int) -> None:
        done = max(self._next.get(tp, 0), self._committed_offset[tp] or 0)
        if done and taken[0].offset > done:
            log.error("%s/%d: retention deleted records %d to %d unread", *tp, done, taken[0].offset - 1)
        taken = [record for record in taken if record.offset >= done]
        if taken:
            await self._handlers[tp.topic](tp.partition, taken)
            if generation == self.app.consumer_generation_id:
                self._next[tp] = taken[-1].offset + 1
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from (tp for tp in self._next if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._next.get(tp) if tp.topic in self._handlers else super()._new_offset(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the offsets of partitions that another worker gets."""
        for tp in revoked:
            self._next.pop(tp, None)
        await super().on_partitions_revoked(revoked)


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's transport with `BatchConsumer`."""

    Consumer = BatchConsumer
    handlers: Mapping[str, Handler] = {}
