"""The MQTT transport, and the only file that imports paho.

A `Connection` is one client of one broker on a thread of its own: everything that paho does happens there. It
connects for ever, subscribes and publishes its birth at every connect, and hands what arrives to a `Handler` in
batches. Only when the handler returns, having committed them, are they acknowledged to the broker::

    broker                Connection                 Handler (delivery.Ingest)
      | PUBLISH (up to 50)  >  | received(batch)       > | commit, fsync
      | < PUBACK (each)        |                       < | mark
      | < SUBSCRIBE (a fence)  |                         |
      | SUBACK              >  | confirmed(mark)       > | the broker has these acknowledgements for sure

Nothing is queued between the network and the handler: a slow commit slows the reading, which is the backpressure.
What is published has passed the privacy gate (`Cleared`), at QoS 1, at most 100 unacknowledged. After a disconnect
those are forgotten here: the spool, which kept them, sends them again.

    >>> probe("127.0.0.1", 1)
    'free'
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from pipeline.errors import Rejected, Retry
from pipeline.messages import FRAME_MAX_BYTES
from pipeline.privacy.gate import Cleared

log = logging.getLogger(__name__)

BATCH_MAX: Final = 50
"""Half of what iotcore has unacknowledged at a time: it fills the next batch while we commit this one."""

BATCH_MAX_BYTES: Final = 8 << 20
BATCH_WAIT_S: Final = 0.005
"""How long a message waits for company: one commit costs as much for fifty as for one."""

INFLIGHT_MAX: Final = 100
"""Published and unacknowledged. paho searches all of them at each acknowledgement: 250 us a message at 20,000."""

PAYLOAD_MAX_BYTES: Final = FRAME_MAX_BYTES + (64 << 10)
"""A frame and what an event says about it; the brokers that we start take 17 MiB."""

KEEPALIVE_S: Final = 30
CONNECT_TIMEOUT_S: Final = 5.0
BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0

FENCE_IDLE_S: Final = 0.05
FENCE_BATCHES: Final = 20
"""A fence is put when nothing came for so long, or after so many batches: each costs a commit."""

SUSPECT_MIN_BYTES: Final = 16 << 10
"""Smaller messages are within every broker's limit."""
STRIKES: Final = 3
"""Times that a broker may hang up on a message that was alone in flight, before we believe that it means it."""

_LOGIN_REFUSED: Final = {
    "Bad user name or password": "wrong `username` or `password`",
    "Not authorized": "this client may not connect: check `username`, `password` and the broker's ACL",
    "Client identifier not valid": "it refuses our client id",
    "Unsupported protocol version": "it does not speak MQTT 3.1.1",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is, and who we are to it."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: bool = False
    ca: Path | None = None
    """Certificate authority that the broker's certificate is checked against; None: the system's."""

    def __str__(self) -> str:
        return f"{'mqtts://' if self.tls else ''}{self.host}:{self.port}"


class Message(NamedTuple):
    topic: str
    """Empty if the broker let one pass that is not UTF-8."""
    payload: bytes
    retain: bool


class Handler(Protocol):
    """What takes a connection's messages, on the connection's own thread."""

    def connected(self, session_present: bool) -> int:
        """A new connection; returns the mark of what is stored so far."""

    def received(self, batch: Sequence[Message]) -> int:
        """Commit these; they are acknowledged to the broker when it returns, with the mark of the last one.

        Raises
        ------
        Retry
            They could not be stored: the connection is cut, so that the broker delivers them again later.
        """

    def confirmed(self, mark: int) -> None:
        """The broker has our acknowledgements up to this mark: it will not deliver those messages again."""


class _Publication(NamedTuple):
    cleared: Cleared
    delivered: Callable[[], object]
    refused: Callable[[Rejected], object]

    @property
    def print(self) -> int:
        return hash((self.cleared.topic, self.cleared.payload))


def _nothing(*_: object) -> None:
    pass


class Connection:
    """One client of one broker; see the module.

    Errors that end its thread (a `Stop` from the handler, a bug) go to `threading.excepthook`.
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
        self.endpoint = endpoint
        self.client_id = client_id
        self._subscriptions = tuple(subscriptions)
        self._handler = handler
        self._birth = birth
        self._will = will
        self._persistent = persistent
        self._state = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._farewell: Cleared | None = None
        self._connected = False
        self._connects = 0
        self._problem = "not started"
        self._to_send: deque[_Publication] = deque()
        self._inflight: dict[int, _Publication] = {}
        self._strikes: dict[int, int] = {}
        """Of messages in flight when a broker hung up: they go alone until one side is proven right."""
        self._mark = 0

    # --- any thread --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, and keep connecting for ever."""
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"mqtt {self.client_id}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0, farewell: Cleared | None = None) -> None:
        """Publish the farewell if connected, disconnect, and end the thread; also when the broker is dead."""
        self._farewell = farewell
        self._stopping.set()
        self._ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    @property
    def connected(self) -> bool:
        """Subscribed, and ready to publish."""
        return self._connected

    @property
    def connects(self) -> int:
        """How often a connection was made: a change means that what was unacknowledged is to be sent again."""
        return self._connects

    @property
    def problem(self) -> str:
        """Why there is no connection, or what the broker refuses; empty when all is well."""
        return self._problem

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until there is a connection; whether there is."""
        with self._state:
            return self._state.wait_for(lambda: self._connected, timeout_s)

    def wait_writable(self, timeout_s: float) -> bool:
        """Wait until `publish` has room for one more; whether it has."""
        with self._state:
            return self._state.wait_for(self._has_room, timeout_s)

    def publish(
        self,
        cleared: Cleared,
        delivered: Callable[[], object] = _nothing,
        refused: Callable[[Rejected], object] = _nothing,
    ) -> None:
        """Publish at QoS 1. `delivered` is called once the broker has acknowledged it.

        After a disconnect it may have been published or not, and nothing is called: publish it again. `refused` is
        called if the broker hangs up on it, and on it alone, each time.

        Raises
        ------
        Retry
            There is no connection, or no room: see `wait_writable`.
        Rejected
            No broker of ours takes a payload of this size.
        """
        size_bytes = len(cleared.payload)
        if size_bytes > PAYLOAD_MAX_BYTES:
            raise Rejected(
                "too-large",
                f"{cleared.topic}: {size_bytes} bytes; at most {PAYLOAD_MAX_BYTES} can be published: send a smaller picture",
            )
        publication = _Publication(cleared, delivered, refused)
        with self._state:
            if not self._connected:
                raise Retry(f"no connection to the MQTT broker {self.endpoint}: {self._problem}")
            if not self._has_room() or (self._is_suspect(publication) and self._unacknowledged):
                raise Retry(f"the MQTT broker {self.endpoint} has not acknowledged what it was sent before")
            self._to_send.append(publication)
        self._ring()

    @property
    def _unacknowledged(self) -> int:
        return len(self._to_send) + len(self._inflight)

    def _has_room(self) -> bool:
        if not self._connected or self._unacknowledged >= INFLIGHT_MAX:
            return False
        if not self._strikes:
            return True
        return not any(map(self._is_suspect, (*self._to_send, *self._inflight.values())))

    def _is_suspect(self, publication: _Publication) -> bool:
        return bool(self._strikes) and publication.print in self._strikes

    def _ring(self) -> None:
        if self._bell is not None and threading.current_thread() is not self._thread:
            with contextlib.suppress(OSError):  # full: it has rung already; closed: nobody listens any more
                self._bell[1].send(b"!")

    # --- the connection's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._bell is not None
        with self._bell[0], self._bell[1]:
            self._connect_for_ever()

    def _connect_for_ever(self) -> None:
        delay_s = BACKOFF_MIN_S / 2
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._session()
            except (OSError, Retry) as error:
                self._lost(_why(error, self.endpoint))
            lived = time.monotonic() - began > BACKOFF_MAX_S
            delay_s = BACKOFF_MIN_S if lived else min(delay_s * 2, BACKOFF_MAX_S)
            self._stopping.wait(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    def _session(self) -> None:
        """From connect to disconnect."""
        session = _Session(self)
        try:
            session.open()
            session.loop()
        finally:
            session.close()

    def _established(self, problem: str) -> None:
        with self._state:
            self._connected = True
            self._connects += 1
            self._problem = problem
            self._state.notify_all()
        log.info("connected to the MQTT broker %s", self.endpoint)

    def _lost(self, problem: str) -> None:
        refused: _Publication | None = None
        with self._state:
            if problem != self._problem:
                log.warning("MQTT broker %s: %s", self.endpoint, problem)
            inflight = list(self._inflight.values())
            self._connected = False
            self._problem = problem
            self._to_send.clear()
            self._inflight.clear()
            alone = len(inflight) == 1
            for publication in inflight:
                if len(publication.cleared.payload) < SUSPECT_MIN_BYTES or len(self._strikes) >= INFLIGHT_MAX:
                    continue
                strikes = self._strikes.get(publication.print, 0) + alone
                self._strikes[publication.print] = strikes
                if strikes >= STRIKES:
                    del self._strikes[publication.print]
                    refused = publication
            self._state.notify_all()
        if refused is not None:
            cleared = refused.cleared
            refused.refused(
                Rejected(
                    "broker-refuses",
                    f"{cleared.topic}: the MQTT broker {self.endpoint} hung up {STRIKES} times on this message of "
                    f"{len(cleared.payload)} bytes: raise its limit for packets, or send smaller pictures",
                )
            )


class _Session:
    """One life of a connection: a paho client of its own, so that paho keeps and resends nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.handler = connection._handler
        self.batch: list[Message] = []
        self.packet_ids: list[int] = []
        self.batch_bytes = 0
        self.batch_since = 0.0
        self.subscribing: int | None = None
        self.fence: int | None = None
        self.fence_mark = 0
        self.mark = 0
        self.unfenced = 0
        self.lost = ""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            connection.client_id,
            clean_session=not connection._persistent,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(
            INFLIGHT_MAX + 2
        )  # ours is the limit; birth and farewell come on top
        client.on_connect = self.on_connect
        client.on_subscribe = self.on_subscribe
        client.on_message = self.on_message
        client.on_publish = self.on_publish
        client.on_disconnect = self.on_disconnect
        self.client = client

    def open(self) -> None:
        connection, endpoint = self.connection, self.connection.endpoint
        if endpoint.username:
            self.client.username_pw_set(endpoint.username, endpoint.password or None)
        if endpoint.tls:
            self.client.tls_set(ca_certs=str(endpoint.ca) if endpoint.ca else None)
        if (will := connection._will) is not None:
            self.client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self.client.connect(endpoint.host, endpoint.port, KEEPALIVE_S)

    def close(self) -> None:
        """Without a DISCONNECT the broker publishes the will: nobody meant to go."""
        if (sock := self.client.socket()) is not None:
            sock.close()

    def loop(self) -> None:
        connection, client = self.connection, self.client
        assert connection._bell is not None
        bell = connection._bell[0]
        while not connection._stopping.is_set():
            sock = client.socket()
            if sock is None:
                raise Retry(self.lost or "the broker closed the connection")
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            readable, writable, _ = select.select(
                [sock, bell], [sock] if client.want_write() else [], [], 0 if pending else self.wait_s()
            )
            if bell in readable:
                bell.recv(4096)
            if pending or sock in readable:
                self.read()
            if writable:
                client.loop_write()
            self.flush_if_due(time.monotonic())
            self.send()
            client.loop_misc()
        self.leave(time.monotonic() + 0.5)

    def wait_s(self) -> float:
        if self.batch:
            return BATCH_WAIT_S
        return FENCE_IDLE_S if self.unfenced else 1.0

    def read(self) -> None:
        """All that is there, as far as it fits one batch."""
        while not self.lost:
            before = len(self.batch)
            self.client.loop_read()
            if (
                len(self.batch) == before
                or len(self.batch) >= BATCH_MAX
                or self.batch_bytes >= BATCH_MAX_BYTES
            ):
                return

    def flush_if_due(self, now: float) -> None:
        if self.batch:
            full = len(self.batch) >= BATCH_MAX or self.batch_bytes >= BATCH_MAX_BYTES
            if full or now - self.batch_since >= BATCH_WAIT_S:
                self.flush()
        elif self.unfenced and now - self.batch_since >= FENCE_IDLE_S:
            self.put_fence()

    def flush(self) -> None:
        if self.handler is not None:
            self.mark = self.handler.received(self.batch)
        for packet_id in self.packet_ids:
            self.client.ack(packet_id, 1)
        self.batch = []
        self.packet_ids = []
        self.batch_bytes = 0
        self.unfenced += 1
        if self.unfenced >= FENCE_BATCHES:
            self.put_fence()

    def put_fence(self) -> None:
        """Ask something that the broker answers after it has read our acknowledgements.

        The topic, our own client id, carries nothing. (An UNSUBSCRIBE would do, but iotcore leaves it unanswered.)
        """
        if self.handler is None or not self.connection._persistent:
            self.unfenced = 0
        elif self.fence is None:
            self.unfenced = 0
            self.fence_mark = self.mark
            self.fence = self.client.subscribe(self.connection.client_id, 1)[1]

    def send(self) -> None:
        connection = self.connection
        while connection._connected and connection._to_send:
            with connection._state:
                publication = connection._to_send.popleft()
                cleared = publication.cleared
                packet_id = self.client.publish(
                    cleared.topic, cleared.payload, qos=1, retain=cleared.retain
                ).mid
                connection._inflight[packet_id] = publication

    def leave(self, deadline: float) -> None:
        """Say farewell, and leave in order, so that the will is not published."""
        client, farewell = self.client, self.connection._farewell
        if farewell is not None and self.connection._connected:
            info = client.publish(farewell.topic, farewell.payload, qos=1, retain=farewell.retain)
            while not info.is_published() and (sock := client.socket()) and time.monotonic() < deadline:
                readable, _, _ = select.select([sock], [sock] if client.want_write() else [], [], 0.02)
                client.loop_write()
                if readable:
                    client.loop_read()
        client.disconnect()
        client.loop_write()
        with self.connection._state:
            self.connection._connected = False
            self.connection._problem = "stopped"

    # --- called by paho ----------------------------------------------------------------------------------------

    def on_connect(
        self,
        client: paho.Client,
        _data: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Any,
    ) -> None:
        if reason.is_failure:
            said = str(reason)
            self.lost = f"refuses the connection: {_LOGIN_REFUSED.get(said, said)}"
            return
        if self.handler is not None:
            self.mark = self.handler.connected(flags.session_present)
        filters = [(name, 1) for name in self.connection._subscriptions]
        if filters:
            self.subscribing = client.subscribe(filters)[1]
        else:
            self.ready("")

    def ready(self, problem: str) -> None:
        if (birth := self.connection._birth) is not None:
            cleared = birth()
            self.client.publish(cleared.topic, cleared.payload, qos=1, retain=cleared.retain)
        self.connection._established(problem)

    def on_subscribe(
        self,
        _client: paho.Client,
        _data: Any,
        packet_id: int,
        reasons: list[ReasonCode],
        _properties: Any,
    ) -> None:
        if packet_id == self.subscribing:
            pairs = zip(self.connection._subscriptions, reasons, strict=True)
            denied = [name for name, reason in pairs if reason.is_failure]
            self.ready(f"the broker's ACL does not let us read {', '.join(denied)}" if denied else "")
            # What it redelivers has arrived by now, and is acknowledged before the fence is put.
            if self.batch:
                self.flush()
            self.put_fence()
        elif packet_id == self.fence:
            self.fence = None
            if self.handler is not None:
                self.handler.confirmed(self.fence_mark)

    def on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if not self.batch:
            self.batch_since = time.monotonic()
        self.batch.append(Message(topic, bytes(message.payload), message.retain))
        self.batch_bytes += len(message.payload)
        if message.qos:
            self.packet_ids.append(message.mid)

    def on_publish(
        self, _client: paho.Client, _data: Any, packet_id: int, _reason: Any, _properties: Any
    ) -> None:
        connection = self.connection
        with connection._state:
            publication = connection._inflight.pop(packet_id, None)
            if publication is not None and connection._strikes:
                connection._strikes.pop(publication.print, None)
            connection._state.notify_all()
        if publication is not None:
            publication.delivered()

    def on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self.lost = self.lost or f"the connection was lost ({reason})"


def _why(error: Exception, endpoint: Endpoint) -> str:
    """What a person should know about a failed connection, and do."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): name its authority in `ca`"
        case ssl.SSLError():
            return f"no TLS on this port ({error.reason}): use mqtts:// only where the broker offers it"
        case socket.gaierror():
            return f"the name {endpoint.host} is not known: check `address`"
        case ConnectionRefusedError():
            return "nothing listens there: start the broker, or check `address`"
        case TimeoutError():
            return f"no answer within {CONNECT_TIMEOUT_S:.0f} s: check `address` and the firewall"
        case _:
            return str(error)


def probe(host: str, port: int, timeout_s: float = 1.0) -> Literal["mqtt", "other", "free"]:
    """What listens there: something that speaks MQTT (with or without a login), something else, or nothing."""
    client_id = b"tierwise-probe"
    header = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client_id).to_bytes(2, "big") + client_id
    try:
        sock = socket.create_connection((host, port), timeout_s)
    except OSError:
        return "free"
    with sock:
        try:
            sock.settimeout(timeout_s)
            sock.sendall(bytes((0x10, len(header))) + header)
            answer = sock.recv(4)
            sock.sendall(b"\xe0\x00")
        except OSError:
            return "other"
    return "mqtt" if answer[:2] == b"\x20\x02" else "other"
