"""The broker as a process: connections, start and stop.

Each connection has one request at a time, as in Kafka, so that answers are in order. Memory is bounded by the number of
connections, the size of requests and the size of answers. A consumer that does not read stops only its own connection.

Example::

    await serve(Path("data"), "127.0.0.1", 9092, stop=asyncio.Event(), ready=print)
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.metadata import ApiVersionsRequest

from pipeline.brokers.kafka.api import API_BY_KEY, Broker, versions_response
from pipeline.brokers.kafka.coordinator import Coordinator
from pipeline.brokers.kafka.errors import Code
from pipeline.brokers.kafka.store import MAX_REQUEST_BYTES, opened
from pipeline.errors import Stop, TierwiseError

logger = logging.getLogger(__name__)

# A new client takes the place of the connection that was silent longest, as in Kafka.
MAX_CONNECTIONS = 200
# A warning about full connections is repeated after this time at the earliest.
WARN_EVERY_S = 60.0
# A quiet connection is closed after this time, as in Kafka; the clients open it again.
IDLE_S = 600.0
# Larger requests are read one at a time, so that many of them cannot fill the memory together.
LARGE_REQUEST_BYTES = 2 * 2**20
# A request must be complete within this time.
REQUEST_S = 60.0
START = struct.Struct(">hhi")  # api key, version, correlation id: the same in all versions


class Unanswerable(TierwiseError):
    """These bytes are not a request that can be answered: the connection ends, as in Kafka."""


async def serve(directory: Path, host: str, port: int, stop: asyncio.Event, ready: Callable[[str, int], None]) -> None:
    """Run the broker until `stop` is set. `ready` is called with the address once the broker answers.

    Raises
    ------
    Stop
        Not a loopback address, a port or directory in use, or a damaged catalog.
    ExceptionGroup
        The disk failed; acknowledged records are there after a new start.
    """
    if not is_loopback(host):
        raise Stop(
            f"--host {host}: this broker has no access control and binds to loopback only. Use 127.0.0.1 here, and "
            "Apache Kafka for other machines"
        )
    with opened(directory) as store:
        groups = Coordinator(store)
        connections = Connections()
        try:
            server = await asyncio.start_server(connections.accept, host, port)
        except OSError as problem:
            raise Stop(
                f"cannot listen on {host}:{port}: {problem.strerror}. Is another broker running? Use another --port"
            ) from problem
        address, bound_port = server.sockets[0].getsockname()[:2]
        connections.broker = Broker(store, groups, address, bound_port)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work)
                for work in (store.sync_forever(), store.maintain_forever(), groups.expire_forever())
            ]
            ready(address, bound_port)
            await stop.wait()
            server.close()
            await connections.close()
            for task in background:
                task.cancel()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A client's connection, and when it sent its last request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since_s: float
    busy: bool = False
    """Whether a request is being answered."""


class Connections:
    """The connections of all clients."""

    def __init__(self) -> None:
        self.broker: Broker | None = None
        self._open: dict[asyncio.Task[None], ClientConnection] = {}
        self._large = asyncio.Semaphore(1)
        self._warned_s = -WARN_EVERY_S

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it disconnects."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            self._evict()
        connection = self._open[task] = ClientConnection(reader, writer, time.monotonic())
        try:
            await self._serve(connection)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        except Unanswerable as problem:
            logger.warning("closed the connection of %s: %s", writer.get_extra_info("peername"), problem)
        except asyncio.CancelledError:
            # Evicted, or the broker stops; asyncio's own callback would log the cancellation as an error.
            pass
        finally:
            self._open.pop(task, None)
            writer.close()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._open:
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)

    def _evict(self) -> None:
        """Close the connection that was silent longest; one whose request is being answered only if all are."""
        task, connection = min(self._open.items(), key=lambda row: (row[1].busy, row[1].since_s))
        del self._open[task]
        task.cancel()
        connection.writer.transport.abort()  # its client may not read, so an orderly end could take for ever
        now_s = time.monotonic()
        if now_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now_s
            silent_s = now_s - connection.since_s
            logger.warning("%d connections: closed one that was silent for %.0f s", MAX_CONNECTIONS, silent_s)

    async def _serve(self, connection: ClientConnection) -> None:
        reader, writer = connection.reader, connection.writer
        while True:
            async with asyncio.timeout(IDLE_S):
                size_bytes = int.from_bytes(await reader.readexactly(4), "big", signed=True)
            if not START.size <= size_bytes <= MAX_REQUEST_BYTES:
                raise Unanswerable(f"a request of {size_bytes} bytes; the limit is {MAX_REQUEST_BYTES}")
            if size_bytes > LARGE_REQUEST_BYTES:
                async with self._large:
                    answer = await self._answer(connection, size_bytes)
            else:
                answer = await self._answer(connection, size_bytes)
            if answer is not None:
                writer.write(answer)
                del answer
                await writer.drain()

    async def _answer(self, connection: ClientConnection, size_bytes: int) -> bytes | None:
        async with asyncio.timeout(REQUEST_S):
            frame = await connection.reader.readexactly(size_bytes)
        assert self.broker is not None
        connection.busy = True
        try:
            return await respond(self.broker, frame)
        finally:
            connection.busy, connection.since_s = False, time.monotonic()


async def respond(broker: Broker, frame: bytes) -> bytes | None:
    """Answer a request (without its length prefix). Return None if the protocol wants no answer (acks=0).

    Raises
    ------
    Unanswerable
        The bytes are not a request, or its response has no place for an error code.
    """
    key, version, correlation = START.unpack_from(frame)
    api = API_BY_KEY.get(key)
    if api is None or not api.oldest <= version <= api.newest:
        return _unsupported(key, version, correlation)
    try:
        request = api.request.decode(frame, version=version, header=True)
        request.API_VERSION = version
    except Exception as problem:
        # Any error of the codec: the bytes come from outside and may be anything.
        raise Unanswerable(f"request {key} version {version} cannot be decoded: {problem!r}") from problem
    try:
        response = await api.handler(broker, request)
        return None if response is None else _encoded(response, version, correlation)
    except Exception as problem:
        # A full disk, or a request that only the codec accepts: it must end one connection only.
        logger.exception("request %d version %d failed", key, version)
        raise Unanswerable(f"request {key} version {version} failed") from problem


def _unsupported(key: int, version: int, correlation: int) -> bytes:
    if key == ApiVersionsRequest.API_KEY:
        # Answered in version 0, which every client understands, with the supported versions (KIP-511).
        only = {key: API_BY_KEY[key]}
        return _encoded(versions_response(Code.UNSUPPORTED_VERSION, only), 0, correlation)
    response_class = ResponseClassRegistry._response_class_registry.get(key)
    has_place = response_class is not None and "error_code" in response_class._struct.fields
    if not has_place or not 0 <= version <= response_class.max_version:
        raise Unanswerable(f"request {key} version {version} is not supported by this broker")
    return _encoded(response_class(error_code=Code.UNSUPPORTED_VERSION), version, correlation)


def _encoded(response: Any, version: int, correlation: int) -> bytes:
    response.API_VERSION = version
    response.with_header(correlation_id=correlation)
    return bytes(response.encode(header=True, framed=True))
