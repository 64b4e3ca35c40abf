"""What is to be published and what is not acknowledged yet, between any thread and the connection's.

Bounded: a publisher that is quicker than the broker is told to wait. It also finds the message that a broker hangs
up on (MQTT 3.1.1 has no other way to refuse one): what was in flight when the broker hung up is suspect, and goes
alone from then on; hung up on three times while alone, it is given up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.errors import Rejected, Retry
from pipeline.privacy.gate import Cleared

INFLIGHT_MAX: Final = 100
"""Published and unacknowledged. paho searches all of them at each acknowledgement: 250 us a message at 20,000."""

SUSPECT_MIN_BYTES: Final = 16 << 10
"""Smaller messages are within every broker's limit."""

STRIKES: Final = 3
"""Times that a broker may hang up on a message that was alone in flight, before we believe that it means it."""


class Publication(NamedTuple):
    cleared: Cleared
    delivered: Callable[[], object]
    refused: Callable[[Rejected], object]

    @property
    def fingerprint(self) -> int:
        return hash((self.cleared.topic, self.cleared.payload))


class Window:
    """One connection's, over all its lives."""

    def __init__(self) -> None:
        self.connected = False
        self.connects = 0
        self.problem = "not started"
        """Why there is no connection, or what the broker refuses; empty when all is well."""
        self._changed = threading.Condition()
        self._to_send: deque[Publication] = deque()
        self._inflight: dict[int, Publication] = {}
        """By packet id."""
        self._strikes: dict[int, int] = {}
        """By fingerprint, of the suspects."""

    # --- any thread --------------------------------------------------------------------------------------------

    def wait_connected(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.connected, timeout_s)

    def wait_writable(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.connected and self._has_room(), timeout_s)

    def put(self, publication: Publication) -> None:
        """To be sent next.

        Raises
        ------
        Retry
            There is no connection, or no room.
        """
        with self._changed:
            if not self.connected:
                raise Retry(f"no connection to the MQTT broker: {self.problem}")
            if not self._has_room() or (self._unacknowledged and self._is_suspect(publication)):
                raise Retry("the MQTT broker has not acknowledged what it was sent before")
            self._to_send.append(publication)

    @property
    def _unacknowledged(self) -> int:
        return len(self._to_send) + len(self._inflight)

    def _has_room(self) -> bool:
        if self._unacknowledged >= INFLIGHT_MAX:
            return False
        return not (self._strikes and any(map(self._is_suspect, (*self._to_send, *self._inflight.values()))))

    def _is_suspect(self, publication: Publication) -> bool:
        return bool(self._strikes) and publication.fingerprint in self._strikes

    # --- the connection's thread -------------------------------------------------------------------------------

    def opened(self, problem: str) -> None:
        """A new life begins; the problem does not prevent it."""
        with self._changed:
            self.connected = True
            self.connects += 1
            self.problem = problem
            self._changed.notify_all()

    def send(self, publish: Callable[[Cleared], int]) -> None:
        """Publish what is to be sent; `publish` returns the packet id, or raises `Rejected`, which is told."""
        while self._to_send:
            with self._changed:
                publication = self._to_send.popleft()
                try:
                    self._inflight[publish(publication.cleared)] = publication
                    continue
                except Rejected as error:
                    why = error
                    self._changed.notify_all()
            publication.refused(why)

    def acknowledged(self, packet_id: int) -> None:
        """The broker has this one."""
        with self._changed:
            publication = self._inflight.pop(packet_id, None)
            if publication is not None and self._strikes:
                self._strikes.pop(publication.fingerprint, None)
            self._changed.notify_all()
        if publication is not None:
            publication.delivered()

    def closed(self, problem: str) -> Publication | None:
        """This life is over; returns the message that the broker will never take, if it is sure by now."""
        with self._changed:
            inflight = list(self._inflight.values())
            self.connected = False
            self.problem = problem
            self._to_send.clear()
            self._inflight.clear()
            self._changed.notify_all()
            return self._suspect(inflight)

    def _suspect(self, inflight: list[Publication]) -> Publication | None:
        alone = len(inflight) == 1
        for publication in inflight:
            if len(publication.cleared.payload) < SUSPECT_MIN_BYTES:
                continue
            fingerprint = publication.fingerprint
            strikes = self._strikes.pop(fingerprint, 0) + alone
            if strikes >= STRIKES:
                return publication
            if len(self._strikes) < INFLIGHT_MAX:
                self._strikes[fingerprint] = strikes
        return None
