"""The messages to publish and those in flight, shared by any thread and the connection's thread.

The window is bounded: a publisher that is quicker than the broker has to wait. It also finds the message at which a
broker closes the connection (MQTT 3.1.1 has no other way to refuse a message). The messages in flight at that moment
are suspects and are sent alone from then on. If the broker closes the connection three times at a message that was
alone, the message is given up::

    window.put(Publication(cleared, delivered, refused))     # any thread
    window.send(publish)                                     # the connection's thread
    window.acknowledged(packet_id)                           # calls delivered()
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.errors import Rejected, Retry
from pipeline.privacy.gate import Cleared

INFLIGHT_MAX: Final = 100
"""Unacknowledged messages. paho searches all of them at each acknowledgement: 250 us a message at 20,000."""

SUSPECT_MIN_BYTES: Final = 16 << 10
"""Every broker's limit allows smaller messages."""

STRIKES: Final = 3
"""A message is given up if the broker closes the connection so often while only this message is in flight."""


class Publication(NamedTuple):
    """A message to publish, and the functions to call with the outcome."""

    cleared: Cleared
    delivered: Callable[[], object]
    refused: Callable[[Rejected], object]

    @property
    def fingerprint(self) -> int:
        """A hash that is equal for equal messages."""
        return hash((self.cleared.topic, self.cleared.payload))


class Window:
    """The window of one connection, over all its sessions."""

    def __init__(self) -> None:
        self.connected = False
        self.connects = 0
        self.problem = "not started"
        """Why there is no connection, or what the broker refuses; empty if all is well."""
        self._changed = threading.Condition()
        self._to_send: deque[Publication] = deque()
        self._inflight: dict[int, Publication] = {}
        """Messages in flight, by packet id."""
        self._strikes: dict[int, int] = {}
        """Closed connections, by the fingerprint of each suspect."""

    # --- any thread --------------------------------------------------------------------------------------------

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until there is a connection. Return whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self.connected, timeout_s)

    def wait_writable(self, timeout_s: float) -> bool:
        """Wait until `put` has room for a message. Return whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self.connected and self._has_room(), timeout_s)

    def put(self, publication: Publication) -> None:
        """Add a message to be sent.

        Raises
        ------
        Retry
            There is no connection, or no room.
        """
        with self._changed:
            if not self.connected:
                raise Retry(f"no connection to the MQTT broker: {self.problem}")
            if not self._has_room() or (self._unacknowledged and self._is_suspect(publication)):
                raise Retry("the MQTT broker has not acknowledged the messages sent before")
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
        """Begin a session. `problem` is a lesser problem, such as a refused subscription, or empty."""
        with self._changed:
            self.connected = True
            self.connects += 1
            self.problem = problem
            self._changed.notify_all()

    def send(self, publish: Callable[[Cleared], int]) -> None:
        """Publish the added messages. `publish` returns a packet id; if it raises `Rejected`, `refused` is called."""
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
        """Note that the broker has this message."""
        with self._changed:
            publication = self._inflight.pop(packet_id, None)
            if publication is not None and self._strikes:
                self._strikes.pop(publication.fingerprint, None)
            self._changed.notify_all()
        if publication is not None:
            publication.delivered()

    def closed(self, problem: str) -> Publication | None:
        """End the session. Return the message that the broker will never take, if it is found by now."""
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
