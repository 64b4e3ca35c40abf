"""Sends an outbox in batches that are small enough to repeat: uplink and downlink, where every message costs a header.

`pack` decides what goes into a batch (pure); `BatchSender` drives it until the other side acknowledged. On a metered link
a record is repeated rarely: at once after a reconnect, else after 5 s, doubling to a minute, as `delivery.Sender` does.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.delivery import repeat_delay_s
from pipeline.errors import Rejected, Retry
from pipeline.messages import UPLINK_MAX_BYTES
from pipeline.mqtt import Connection
from pipeline.privacy.gate import Cleared
from pipeline.spool import Outgoing, Spool

log = structlog.get_logger("batching")

RECORDS_MAX: Final = 200
"""In a batch, whatever their size."""

OVERHEAD_BYTES: Final = 16
"""What a batch adds to each record, at most."""

IDLE_S: Final = 0.5
"""How long the sender sleeps when nothing is due; something new wakes it at once."""


def pack(waiting: Sequence[Outgoing], limit_bytes: int = UPLINK_MAX_BYTES) -> list[Outgoing]:
    """The records of the next batch: of the first one's topic, in order, as many as fit; always at least one."""
    batch: list[Outgoing] = []
    size = 0
    for record in waiting:
        if record.topic != waiting[0].topic:
            continue
        size += len(record.payload) + OVERHEAD_BYTES
        if batch and (size > limit_bytes or len(batch) == RECORDS_MAX):
            break
        batch.append(record)
    return batch


class BatchSender:
    """Sends one hop's outbox batch by batch, on a thread of its own, until the next hop's acknowledgement settles it."""

    def __init__(
        self,
        spool: Spool,
        connection: Connection,
        hop: str,
        wrap: Callable[[Sequence[Outgoing]], Cleared],
        *,
        refused: Callable[[Outgoing, Rejected], None],
        clock: Clock,
    ) -> None:
        """`wrap` makes the message and passes the gate; what it refuses is tried record by record, and told."""
        self._spool = spool
        self._connection = connection
        self._hop = hop
        self._wrap = wrap
        self._refused = refused
        self._clock = clock
        self._stopping = threading.Event()
        self._wake = spool.queued(hop)
        self._connects = 0
        self._thread = threading.Thread(target=self._run, name=f"send {hop}", daemon=True)

    def start(self) -> None:
        """Send in the background."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread. What is not settled stays in the outbox."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._connection.wait_connected(IDLE_S):
                continue
            if self._connection.connects != self._connects:
                self._connects = self._connection.connects
                self._spool.make_due(self._hop)
            self._wake.clear()
            batch = pack(self._spool.outgoing(self._hop, RECORDS_MAX, self._clock.now()))
            if batch:
                self._send(batch)
            else:
                self._wake.wait(IDLE_S)

    def _send(self, batch: Sequence[Outgoing]) -> None:
        try:
            cleared = self._wrap(batch)
            self._connection.publish(cleared)
        except Retry:
            self._stopping.wait(IDLE_S)
            return
        except Rejected as error:
            self._part(batch, error)
            return
        attempts = max(record.attempts for record in batch) + 1
        next_at = self._clock.now() + repeat_delay_s(attempts, random.random())  # noqa: S311 - jitter, no secret
        self._spool.attempted(self._hop, [record.id for record in batch], next_at)

    def _part(self, batch: Sequence[Outgoing], error: Rejected) -> None:
        """Something in the batch may not leave: find it, so that the rest does."""
        if len(batch) > 1:
            for record in batch:
                self._send([record])
            return
        self._spool.settle(self._hop, [batch[0].id])
        self._refused(batch[0], error)
