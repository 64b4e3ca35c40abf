"""The loops that the device and the edge share: answer what waits in the inbox, tick, tidy, and send the outbox.

::

    inbox ──answer──> the role ──> outbox ──send──> MQTT
                        ^
                        └── tick (deadlines, every TICK_S), tidy (every TIDY_S)

A role starts the loops that it needs. All loops end with the role's stop event; `join` waits for them::

    loops = SpoolLoops(spool, clock, metrics, stop)
    loops.send(connection, "edge", settled_by="hop", measured_as="device-edge")
    loops.start("answer", partial(loops.answer, answer_batch))
    loops.start("deadlines", partial(loops.tick, tick, tidy))
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec
import structlog

from agents.role import outbox
from agents.role.telemetry import Metrics
from pipeline.clock import Clock
from pipeline.delivery import BatchSender, Sender
from pipeline.errors import Rejected, Retry
from pipeline.messages import Result, Tier
from pipeline.mqtt import Connection
from pipeline.privacy.gate import Cleared
from pipeline.spool import Item, Outgoing, Spool

log = structlog.get_logger("loops")

BATCH = 32
"""Records taken from the inbox at once: few, so that the first answer of a batch does not wait for its last."""

TICK_S = 0.5
"""Time between checks of the deadlines."""

TIDY_S = 3600.0
"""Time between removals of old records."""


class SpoolLoops:
    """The threads and senders of one role over its spool."""

    def __init__(self, spool: Spool, clock: Clock, metrics: Metrics, stop: threading.Event) -> None:
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._senders: list[BatchSender] = []

    # --- threads -----------------------------------------------------------------------------------------------

    def start(self, name: str, loop: Callable[[], None]) -> None:
        """Run a loop on a thread of its own. The loop must end soon after the stop event is set."""
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def answer(
        self,
        answer: Callable[[Sequence[Item]], None],
        has_room: Callable[[], bool] = lambda: True,
        wanted: Callable[[str], bool] = lambda _: True,
        batch: int = BATCH,
    ) -> None:
        """Pass records of the wanted topics to `answer`, batch by batch. `has_room` waits until more may come."""
        while not self._stop.is_set():
            if not has_room():
                continue
            arrivals = self._spool.arrivals.count
            items = self._spool.waiting(batch, wanted)
            if not items:
                self._spool.arrivals.wait(arrivals, TICK_S)
            answer(items)

    def tick(self, tick: Callable[[float], None], tidy: Callable[[float], None]) -> None:
        """Call `tick` every `TICK_S` and `tidy` every `TIDY_S`, with the time in UTC seconds."""
        tidied_s = -math.inf
        while not self._stop.wait(TICK_S):
            now_s, monotonic_s = self._clock.now(), self._clock.monotonic()
            try:
                tick(now_s)
                if monotonic_s - tidied_s > TIDY_S:
                    tidy(now_s)
                    tidied_s = monotonic_s
            except Retry as error:
                log.warning("deadlines wait for the store", error=str(error))

    def join(self, deadline_s: float) -> None:
        """Wait for the threads, at most this long for all of them together."""
        for thread in self._threads:
            thread.join(deadline_s / len(self._threads))

    # --- senders -----------------------------------------------------------------------------------------------

    def send(self, connection: Connection, hop: str, *, settled_by: Literal["broker", "hop"], measured_as: str) -> None:
        """Send the outbox of a hop to the site's broker or to the edge, record by record."""
        clear = partial(self._clear, measured_as)
        self._start_sender(
            Sender(
                self._spool,
                connection,
                hop,
                clear,
                settled_by=settled_by,
                refused=self._refused,
                clock=self._clock,
            )
        )

    def send_batches(self, connection: Connection, hop: str, wrap: Callable[[Sequence[Outgoing]], Cleared]) -> None:
        """Send the outbox of a hop in batches; `wrap` makes the message of a batch and passes it through the gate."""
        self._start_sender(BatchSender(self._spool, connection, hop, wrap, refused=self._refused, clock=self._clock))

    def stop_senders(self, timeout_s: float = 0.3) -> None:
        """End each sender. Records that are not settled stay in the outbox."""
        for sender in self._senders:
            sender.stop(timeout_s)

    def _start_sender(self, sender: BatchSender) -> None:
        self._senders.append(sender)
        sender.start()

    def _clear(self, measured_as: str, outgoing: Outgoing) -> Cleared:
        """Pass one record through the gate. The branch of private results belongs to the user's own clients."""
        private = outgoing.privacy.reach is Tier.DEVICE
        cleared = outbox.cleared(outgoing, to=Tier.DEVICE if private else Tier.EDGE)
        self._metrics.hop(measured_as, len(outgoing.payload))
        return cleared

    def _refused(self, outgoing: Outgoing, error: Rejected) -> None:
        if error.reason == "withheld":
            self._metrics.withheld()
        self._metrics.refused(error.reason)
        log.error(
            "a record was not sent",
            kind=outgoing.kind,
            of=outgoing.event,
            reason=error.reason,
            error=str(error),
        )


def past_deadline(result: Result, next_tier: Tier, deadline_s: float) -> Result:
    """Return the revision that states that the next tier did not answer in time."""
    return msgspec.structs.replace(
        result,
        revision=result.revision + 1,
        pending=None,
        rule="deadline",
        reason=f"{next_tier} out of reach for {deadline_s:g} s; a later answer supersedes",
    )
