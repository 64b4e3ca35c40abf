"""A single session, from connect to disconnect; the only file that imports paho.

Each session has a new paho client, so paho keeps nothing beyond a disconnect and sends nothing again: the spool does
that. `Connection` opens one session after another::

    session = Session(client, window)
    session.open()
    session.run(stopping, bell)      # until it is stopped, or the connection is lost (Retry)
    session.close()
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from pipeline.errors import Rejected, Retry
from pipeline.mqtt.endpoint import CONNECT_TIMEOUT_S, Endpoint, tls_context
from pipeline.mqtt.window import INFLIGHT_MAX, Window
from pipeline.privacy.gate import Cleared

BATCH_MAX: Final = 500
"""Messages of a batch while more of them wait: a commit of many costs little more than a commit of one."""

BATCH_ENOUGH: Final = 50
"""A batch of so many does not wait for others. Half of the messages that iotcore sends without an acknowledgement: it
sends the next batch while we commit this."""

BATCH_MAX_BYTES: Final = 8 << 20
BATCH_WAIT_S: Final = 0.005
"""Time for which the first message of a batch waits for others. A commit of fifty costs as much as a commit of one."""

FENCE_IDLE_S: Final = 0.05
FENCE_BATCHES: Final = 20
"""A fence is sent after this idle time, or after this many batches: each fence costs a commit."""

PUBACK: Final = b"\x40\x02"
"""The packet's type and length; the packet id follows them."""

WRITE_TIMEOUT_S: Final = 5.0

KEEPALIVE_S: Final = 30
IDLE_S: Final = 1.0
"""Time between checks of the keepalive of an idle connection."""

FAREWELL_S: Final = 0.5
"""Time that the broker has to acknowledge the farewell."""

REFUSALS: Final = {
    "Bad user name or password": "wrong `username` or `password`",
    "Not authorized": "check `username`, `password` and the broker's ACL",
    "Client identifier not valid": "it refuses our client id",
    "Unsupported protocol version": "it does not speak MQTT 3.1.1",
}
"""Explanations of CONNACK's return codes, by paho's names."""


class Message(NamedTuple):
    """A message as it arrived."""

    topic: str
    """Empty if the broker passed on a topic that is not UTF-8."""
    payload: bytes
    retain: bool


class Handler(Protocol):
    """Takes a connection's messages, on the connection's own thread."""

    def connected(self, session_present: bool) -> int:
        """Note a new connection. Return the mark of the last message stored so far."""

    def received(self, batch: Sequence[Message]) -> int:
        """Commit these messages and return the mark of the last; then they are acknowledged to the broker.

        Raises
        ------
        Retry
            They could not be stored: the connection is cut, so that the broker delivers them again later.
        """

    def confirmed(self, mark: int) -> None:
        """Note that the broker has our acknowledgements up to this mark: it will not deliver those messages again."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a connection: its login, subscriptions, handler and announcements."""

    endpoint: Endpoint
    client_id: str
    subscriptions: tuple[str, ...]
    handler: Handler | None
    birth: Callable[[], Cleared] | None
    will: Cleared | None
    persistent: bool


class Session:
    """One session with a broker, driven by the connection's thread."""

    def __init__(self, client: Client, window: Window) -> None:
        self._client = client
        self._handler = client.handler
        self._window = window
        self._batch: list[Message] = []
        self._batch_bytes = 0
        self._batch_since = 0.0
        self._packet_ids: list[int] = []
        """The packets of the batch that have to be acknowledged."""
        self._mark = 0
        self._unfenced = 0
        """Batches acknowledged since the last fence was sent."""
        self._fence: int | None = None
        """Packet id of a fence that the broker has not answered."""
        self._fence_mark = 0
        self._subscribing: int | None = None
        self._lost = ""
        mqtt = paho.Client(
            CallbackAPIVersion.VERSION2,
            client.client_id,
            clean_session=not client.persistent,
            manual_ack=True,
        )
        mqtt.connect_timeout = CONNECT_TIMEOUT_S
        mqtt.max_inflight_messages_set(INFLIGHT_MAX + 2)  # the window's limit, birth and farewell
        mqtt.on_connect = self._on_connect
        mqtt.on_subscribe = self._on_subscribe
        mqtt.on_message = self._on_message
        mqtt.on_publish = self._on_publish
        mqtt.on_disconnect = self._on_disconnect
        self._mqtt = mqtt

    def open(self) -> None:
        """Open the TCP and TLS connection.

        Raises
        ------
        OSError
            See `endpoint.explain`.
        """
        endpoint, will = self._client.endpoint, self._client.will
        if endpoint.username:
            self._mqtt.username_pw_set(endpoint.username, endpoint.password or None)
        if endpoint.tls:
            self._mqtt.tls_set_context(tls_context(endpoint))
        if will is not None:
            self._mqtt.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self._mqtt.connect(endpoint.host, endpoint.port, KEEPALIVE_S)

    def run(self, stopping: threading.Event, bell: socket.socket) -> None:
        """Read, pass on, acknowledge and send until `stopping` is set; `bell` becomes readable to end a wait.

        Raises
        ------
        Retry
            The connection was lost or refused, or the handler could not store the messages.
        """
        mqtt = self._mqtt
        while not stopping.is_set():
            sock = mqtt.socket()
            if sock is None:
                raise Retry(self._lost or "the broker closed the connection")
            buffered = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            readable, writable, _ = select.select(
                [sock, bell], [sock] if mqtt.want_write() else [], [], 0 if buffered else self._wait_s()
            )
            if bell in readable:
                bell.recv(4096)
            if buffered or sock in readable:
                self._read()
            if writable:
                mqtt.loop_write()
            self._flush_if_due(time.monotonic())
            if self._window.connected:
                self._window.send(self._publish)
            mqtt.loop_misc()

    def leave(self, farewell: Cleared | None) -> None:
        """Publish the farewell and disconnect properly, so that the broker does not publish the will."""
        mqtt = self._mqtt
        if farewell is not None and self._window.connected:
            info = mqtt.publish(farewell.topic, farewell.payload, qos=1, retain=farewell.retain)
            deadline = time.monotonic() + FAREWELL_S
            while not info.is_published() and (sock := mqtt.socket()) and time.monotonic() < deadline:
                readable, _, _ = select.select([sock], [sock] if mqtt.want_write() else [], [], 0.02)
                mqtt.loop_write()
                if readable:
                    mqtt.loop_read()
        mqtt.disconnect()
        mqtt.loop_write()

    def close(self) -> None:
        """Close the socket. Without `leave` before it, the broker publishes the will."""
        if (sock := self._mqtt.socket()) is not None:
            sock.close()

    def _wait_s(self) -> float:
        if self._batch:
            return BATCH_WAIT_S
        return FENCE_IDLE_S if self._unfenced else IDLE_S

    def _is_full(self) -> bool:
        return len(self._batch) >= BATCH_MAX or self._batch_bytes >= BATCH_MAX_BYTES

    def _read(self) -> None:
        """Read all waiting messages that fit into the batch."""
        while not self._lost and not self._is_full():
            before = len(self._batch)
            self._mqtt.loop_read()
            if len(self._batch) == before:
                return

    def _flush_if_due(self, now: float) -> None:
        if self._batch:
            if len(self._batch) >= BATCH_ENOUGH or self._is_full() or now - self._batch_since >= BATCH_WAIT_S:
                self._flush()
        elif self._unfenced and now - self._batch_since >= FENCE_IDLE_S:
            self._put_fence()

    def _flush(self) -> None:
        """Pass the batch to the handler, then acknowledge it."""
        if self._handler is not None:
            self._mark = self._handler.received(self._batch)
        self._acknowledge()
        self._batch = []
        self._batch_bytes = 0
        self._packet_ids = []
        self._unfenced += 1
        if self._unfenced >= FENCE_BATCHES:
            self._put_fence()

    def _acknowledge(self) -> None:
        """Write all PUBACKs at once: paho writes each alone, which costs as much as all its other work together."""
        sock = self._mqtt.socket()
        if sock is None or self._mqtt.want_write():
            for packet_id in self._packet_ids:
                self._mqtt.ack(packet_id, 1)  # paho queues it behind the packet that is being written
            return
        packets = b"".join(PUBACK + packet_id.to_bytes(2, "big") for packet_id in self._packet_ids)
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while packets:
            if time.monotonic() > deadline:
                raise Retry(f"the broker took nothing for {WRITE_TIMEOUT_S:.0f} s")
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                packets = packets[sock.send(packets) :]
                continue
            select.select([], [sock], [], WRITE_TIMEOUT_S)

    def _put_fence(self) -> None:
        """Send a request that the broker answers after it has read our acknowledgements.

        It subscribes to our own client id, a topic without messages. (iotcore does not answer an UNSUBSCRIBE.)
        """
        if self._handler is None or not self._client.persistent:
            self._unfenced = 0
        elif self._fence is None:
            self._unfenced = 0
            self._fence_mark = self._mark
            self._fence = self._mqtt.subscribe(self._client.client_id, 1)[1]

    def _publish(self, cleared: Cleared) -> int:
        """Publish and return the packet id. Raises `Rejected` (``topic-invalid``) if MQTT allows no such topic."""
        try:
            return self._mqtt.publish(cleared.topic, cleared.payload, qos=1, retain=cleared.retain).mid
        except ValueError as error:
            raise Rejected(
                "topic-invalid",
                f"{cleared.topic[:200]!r}: MQTT allows no such topic ({error}): use names of a-z, 0-9, - and _",
            ) from None

    def _ready(self, problem: str) -> None:
        if self._client.birth is not None:
            self._publish(self._client.birth())
        self._window.opened(problem)

    # --- called by paho ----------------------------------------------------------------------------------------

    def _on_connect(
        self, _mqtt: paho.Client, _data: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            name = str(reason)
            self._lost = f"it refuses the connection: {REFUSALS.get(name, name)}"
            return
        if self._handler is not None:
            self._mark = self._handler.connected(flags.session_present)
        if self._client.subscriptions:
            self._subscribing = self._mqtt.subscribe([(name, 1) for name in self._client.subscriptions])[1]
        else:
            self._ready("")

    def _on_subscribe(
        self, _mqtt: paho.Client, _data: Any, packet_id: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if packet_id == self._subscribing:
            answers = zip(self._client.subscriptions, reasons, strict=True)
            denied = ", ".join(name for name, reason in answers if reason.is_failure)
            self._ready(denied and f"it does not let us read {denied}: check its ACL")
            # The messages that the broker delivers again have arrived by now: acknowledge them before the fence.
            if self._batch:
                self._flush()
            self._put_fence()
        elif packet_id == self._fence:
            self._fence = None
            if self._handler is not None:
                self._handler.confirmed(self._fence_mark)

    def _on_message(self, _mqtt: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if not self._batch:
            self._batch_since = time.monotonic()
        self._batch.append(Message(topic, bytes(message.payload), message.retain))
        self._batch_bytes += len(message.payload)
        if message.qos:
            self._packet_ids.append(message.mid)

    def _on_publish(
        self, _mqtt: paho.Client, _data: Any, packet_id: int, _reason: ReasonCode, _properties: Any
    ) -> None:
        self._window.acknowledged(packet_id)

    def _on_disconnect(self, _mqtt: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._lost = self._lost or f"the connection was lost ({reason})"
