"""A client of a broker on a thread of its own, which reconnects for ever.

Example::

    connection = Connection(endpoint, "tierwise-home-cam1", subscriptions=[filter], handler=ingest)
    connection.start()
    connection.publish(clear(answer, topic, to=Tier.EDGE))
    connection.stop(farewell=offline)
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.errors import Rejected, Retry
from pipeline.messages import FRAME_MAX_BYTES
from pipeline.mqtt.endpoint import Endpoint, explain
from pipeline.mqtt.session import Client, Handler, Session
from pipeline.mqtt.window import STRIKES, Publication, Window
from pipeline.privacy.gate import Cleared

log = logging.getLogger(__name__)

PAYLOAD_MAX_BYTES: Final = FRAME_MAX_BYTES + (64 << 10)
"""A frame and the rest of its event. The brokers that we start take 17 MiB."""

BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0


def _nothing(*_: object) -> None:
    pass


class Connection:
    """A client of one broker. Its methods may be called from any thread.

    An error that ends its own thread (a `Stop` from the handler, a bug) goes to `threading.excepthook`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        handler: Handler | None = None,
        birth: Callable[[], Cleared] | None = None,
        will: Cleared | None = None,
        persistent: bool = True,
    ) -> None:
        """`birth` makes the message published at every connect; the broker publishes `will` if the connection breaks.

        A client that is not persistent has no session at the broker: it misses messages while it is away.
        """
        self.endpoint = endpoint
        self._client = Client(endpoint, client_id, tuple(subscriptions), handler, birth, will, persistent)
        self._window = Window()
        self._stopping = threading.Event()
        self._farewell: Cleared | None = None
        self._thread: threading.Thread | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> None:
        """Connect in the background, and reconnect for ever."""
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"mqtt {self._client.client_id}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0, farewell: Cleared | None = None) -> None:
        """Publish the farewell if connected, disconnect, and end the thread, even if the broker is dead."""
        self._farewell = farewell
        self._stopping.set()
        self._ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    @property
    def connected(self) -> bool:
        """Return whether the client has subscribed and can publish."""
        return self._window.connected

    @property
    def connects(self) -> int:
        """The number of connections so far. When it changes, send unacknowledged messages again."""
        return self._window.connects

    @property
    def problem(self) -> str:
        """Why there is no connection, or what the broker refuses; empty if all is well."""
        return self._window.problem

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until there is a connection. Return whether there is one."""
        return self._window.wait_connected(timeout_s)

    def wait_writable(self, timeout_s: float) -> bool:
        """Wait until `publish` has room for a message. Return whether it has."""
        return self._window.wait_writable(timeout_s)

    def publish(
        self,
        cleared: Cleared,
        delivered: Callable[[], object] = _nothing,
        refused: Callable[[Rejected], object] = _nothing,
    ) -> None:
        """Publish at QoS 1. `delivered` is called once the broker has acknowledged the message.

        After a disconnect neither function is called: publish the message again. `refused` is called if the broker
        closes the connection each time when it gets this message alone, or if MQTT allows no such topic. Both functions
        run on the connection's thread.

        Raises
        ------
        Retry
            There is no connection, or no room: see `wait_writable`.
        Rejected
            The payload is larger than our brokers take.
        """
        size_bytes = len(cleared.payload)
        if size_bytes > PAYLOAD_MAX_BYTES:
            raise Rejected(
                "too-large",
                f"{cleared.topic}: {size_bytes} bytes; at most {PAYLOAD_MAX_BYTES} can be published: send a smaller picture",
            )
        self._window.put(Publication(cleared, delivered, refused))
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and threading.current_thread() is not self._thread:
            with contextlib.suppress(OSError):  # full: it has rung already; closed: the thread has ended
                self._bell[1].send(b"!")

    # --- the connection's own thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._bell is not None
        try:
            with self._bell[0], self._bell[1]:
                self._connect_for_ever(self._bell[0])
        finally:
            self._window.closed("stopped")

    def _connect_for_ever(self, bell: socket.socket) -> None:
        delay_s = BACKOFF_MIN_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._live(bell)
            except (OSError, Retry) as error:
                self._lost(explain(error, self.endpoint))
            if time.monotonic() - began > BACKOFF_MAX_S:
                delay_s = BACKOFF_MIN_S
            self._stopping.wait(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)

    def _live(self, bell: socket.socket) -> None:
        session = Session(self._client, self._window)
        try:
            session.open()
            session.run(self._stopping, bell)
            session.leave(self._farewell)
        finally:
            session.close()

    def _lost(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("MQTT broker %s: %s", self.endpoint, problem)
        hung_up_on = self._window.closed(problem)
        if hung_up_on is None:
            return
        cleared = hung_up_on.cleared
        hung_up_on.refused(
            Rejected(
                "broker-refuses",
                f"{cleared.topic}: the MQTT broker {self.endpoint} closed the connection {STRIKES} times at this message "
                f"of {len(cleared.payload)} bytes: raise its limit for packets, or send smaller pictures",
            )
        )
