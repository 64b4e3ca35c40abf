"""The two loops between the MQTT connection and the spool.

::

    broker > Connection > Ingest > inbox ... outbox > Sender > Connection > broker
                                                     ^ settled by the broker's or the next hop's acknowledgement

`Ingest` commits every message before it is acknowledged. `Sender` passes the records of the outbox through the gate and
sends each one again and again until it is settled. `BatchSender` does the same for uplink and downlink, where every
message costs a header. These loops do not know what the messages mean: an agent gives `admit`, which lets a message in,
and `clear`, which lets a record out::

    ingest = Ingest(spool, "site", admit)
    connection = Connection(endpoint, "tierwise-home-cam1", subscriptions=[...], handler=ingest)
    sender = Sender(spool, connection, "edge", clear, settled_by="hop", refused=refused)
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

from pipeline.clock import Clock, SystemClock
from pipeline.errors import Rejected, Retry
from pipeline.messages import UPLINK_MAX_BYTES
from pipeline.mqtt import Connection, Message
from pipeline.privacy.gate import Cleared
from pipeline.spool import Arrival, Outgoing, Receipt, Spool, Transaction

log = logging.getLogger(__name__)

REPEAT_MIN_S: Final = 5.0
REPEAT_MAX_S: Final = 60.0
"""A record that the next hop has not acknowledged is sent again after 5, 10, 20, 40, 60, 60 ... seconds."""

SEND_MAX: Final = 50
"""Records read from the outbox at a time: a record that is withdrawn after it was read may still be sent."""

BATCH_MAX: Final = 200
"""The same for batches: the most records in one batch."""

OVERHEAD_BYTES: Final = 16
"""The most bytes that a batch adds to each record."""

IDLE_S: Final = 1.0
"""An idle sender looks this often for records that are due again."""

Admit = Callable[[Message, Transaction], Arrival | None]
"""Lets a message in. Returns the arrival to store, or None if the transaction has done everything already (put a
refusal into the outbox, or settled an acknowledgement of the next hop)."""


def repeat_delay_s(attempts: int, jitter: float) -> float:
    """Return how long to wait for the next hop's acknowledgement after this many sends; `jitter` is from 0 to 1.

    >>> [repeat_delay_s(n, 0.5) for n in (1, 2, 3, 4, 5, 6)]
    [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    """
    doubled: float = REPEAT_MIN_S * 2 ** min(attempts - 1, 10)
    return min(doubled, REPEAT_MAX_S) * (0.8 + 0.4 * jitter)


Committed = Callable[[list[Receipt], Transaction], None]
"""Called within the transaction with the receipts of a batch. An agent puts its acknowledgements into the outbox here,
so that a kill between commit and publish only delays them."""


def _demand_room(receipts: list[Receipt], _tx: Transaction) -> None:
    if any(receipt.full for receipt in receipts):
        raise Retry("the spool is full")


class Ingest:
    """Commits a connection's messages, a batch at a time. `link` names the connection in the spool."""

    def __init__(self, spool: Spool, link: str, admit: Admit, committed: Committed = _demand_room) -> None:
        self._spool = spool
        self._link = link
        self._admit = admit
        self._committed = committed

    def connected(self, session_present: bool) -> int:
        """See `mqtt.Handler`."""
        return self._spool.reconnected(self._link, session_present=session_present)

    def received(self, batch: Sequence[Message]) -> int:
        """See `mqtt.Handler`."""
        with self._spool.transaction() as tx:
            arrivals = [arrival for message in batch if (arrival := self._admit(message, tx)) is not None]
            if arrivals:
                self._committed(tx.receive(arrivals, self._link), tx)
        return self._spool.mark

    def confirmed(self, mark: int) -> None:
        """See `mqtt.Handler`."""
        self._spool.broker_acknowledged(self._link, mark)


def pack(waiting: Sequence[Outgoing], limit_bytes: int = UPLINK_MAX_BYTES) -> list[Outgoing]:
    """Return the next batch: records of the first one's topic, in order, as many as fit, but at least one."""
    batch: list[Outgoing] = []
    size_bytes = 0
    for record in waiting:
        if record.topic != waiting[0].topic:
            continue
        size_bytes += len(record.payload) + OVERHEAD_BYTES
        if batch and size_bytes > limit_bytes:
            break
        batch.append(record)
    return batch


class BatchSender:
    """Sends one hop's outbox in batches, on a thread of its own, until each record is settled.

    `wrap` makes the message of a batch and passes it through the gate. If `wrap` or the broker refuses a batch, each of
    its records is sent alone. A record that is refused alone is settled and passed to `refused`.

    `settled_by` names the acknowledgement that settles a record: the broker's, if no hop behind it answers, or the next
    hop's, which the agent settles when it arrives. The next hop must acknowledge the records that it refuses, too: a
    topic has at most `spool.store.INFLIGHT_MAX` unsettled records, and later records wait for them.
    """

    def __init__(
        self,
        spool: Spool,
        connection: Connection,
        hop: str,
        wrap: Callable[[Sequence[Outgoing]], Cleared],
        *,
        refused: Callable[[Outgoing, Rejected], None],
        settled_by: Literal["broker", "hop"] = "hop",
        pack: Callable[[Sequence[Outgoing]], list[Outgoing]] = pack,
        read_max: int = BATCH_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._spool = spool
        self._connection = connection
        self._hop = hop
        self._wrap = wrap
        self._refused = refused
        self._settled_by = settled_by
        self._pack = pack
        self._read_max = read_max
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._wake = spool.queued(hop)
        self._done: deque[Outgoing] = deque()
        self._alone: set[int] = set()
        """The `seq` of records whose batch the broker refused: each is sent alone."""
        self._connects = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send in the background."""
        self._thread = threading.Thread(target=self._run, name=f"send {self._hop}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread. Unsettled records stay in the outbox."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._settle_done()
                busy = self._connection.wait_writable(IDLE_S) and self._send_due()
            except Retry as error:
                log.warning("cannot send to %s now: %s", self._hop, error)
                self._stopping.wait(IDLE_S)
                continue
            if not busy:
                self._wake.wait(IDLE_S)
        with contextlib.suppress(Retry):  # the records are sent again after the next start
            self._settle_done()

    def _send_due(self) -> bool:
        """Send the due records for which there is room. Return whether more may be due."""
        if self._connects != self._connection.connects:
            self._connects = self._connection.connects
            self._spool.make_due(self._hop)
        due = left = self._spool.outgoing(self._hop, self._read_max, self._clock.monotonic())
        while left:
            batch = self._pack(left)
            if any(record.seq in self._alone for record in batch):
                batch = batch[:1]
            sent = {record.seq for record in batch}
            left = [record for record in left if record.seq not in sent]
            if self._stopping.is_set() or not self._connection.wait_writable(IDLE_S):
                return False
            self._send(batch)
        return len(due) == self._read_max

    def _send(self, batch: Sequence[Outgoing]) -> None:
        try:
            cleared = self._wrap(batch)
        except Rejected as error:
            if len(batch) == 1:
                self._refuse(batch[0], error)
            else:
                for record in batch:
                    self._send([record])
            return
        # Noted before it is published: an acknowledgement may settle a record before the next line runs.
        attempts = max(record.attempts for record in batch) + 1
        delay_s = repeat_delay_s(attempts, random.random())  # noqa: S311 - no secret
        self._spool.attempted(self._hop, [record.id for record in batch], self._clock.monotonic() + delay_s)
        self._publish(batch, cleared)

    def _publish(self, batch: Sequence[Outgoing], cleared: Cleared) -> None:
        def delivered() -> None:
            self._alone.difference_update([record.seq for record in batch])
            if self._settled_by == "broker":
                self._done.extend(batch)
                self._wake.set()

        def refused(error: Rejected) -> None:
            if len(batch) == 1:
                self._refuse(batch[0], error)
            else:
                self._alone.update([record.seq for record in batch])

        try:
            self._connection.publish(cleared, delivered, refused)
        except Rejected as error:
            refused(error)

    def _refuse(self, record: Outgoing, error: Rejected) -> None:
        self._alone.discard(record.seq)
        self._done.append(record)
        self._wake.set()
        self._refused(record, error)

    def _settle_done(self) -> None:
        """Settle all acknowledged records in one commit."""
        done = [self._done.popleft() for _ in range(len(self._done))]
        if not done:
            return
        try:
            with self._spool.transaction() as tx:
                tx.settle_exactly(done)
        except Retry:
            self._done.extendleft(reversed(done))
            raise


class Sender(BatchSender):
    """Sends one hop's outbox record by record; `clear` passes a record through the gate."""

    def __init__(
        self,
        spool: Spool,
        connection: Connection,
        hop: str,
        clear: Callable[[Outgoing], Cleared],
        *,
        settled_by: Literal["broker", "hop"],
        refused: Callable[[Outgoing, Rejected], None],
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            spool,
            connection,
            hop,
            lambda batch: clear(batch[0]),
            refused=refused,
            settled_by=settled_by,
            pack=lambda waiting: [waiting[0]],
            read_max=SEND_MAX,
            clock=clock,
        )
