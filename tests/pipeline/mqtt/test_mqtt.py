"""Our MQTT client where no broker is needed, or a strange one is."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline.delivery import REPEAT_MAX_S, repeat_delay_s
from pipeline.mqtt import Connection, Endpoint, probe


class OneAnswer:
    """Accepts connections on loopback, and answers whatever comes with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(self.answer)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[OneAnswer]:
    made = OneAnswer(request.param)
    yield made
    made.close()


def problem_of(endpoint: Endpoint) -> str:
    """What a connection says about this endpoint, once it says something."""
    connection = Connection(endpoint, "client")
    connection.start()
    try:
        for _ in range(200):
            if connection.problem != "not started":
                break
            connection.wait_connected(0.02)
        assert not connection.connected
        return connection.problem
    finally:
        connection.stop()


@pytest.mark.parametrize("server", [b"\x20\x02\x00\x05"], indirect=True)
def test_a_refused_login_says_what_to_check(server: OneAnswer) -> None:
    assert "check `username`, `password` and the broker's ACL" in problem_of(Endpoint("127.0.0.1", server.port))


@pytest.mark.slow
@pytest.mark.parametrize("server", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], indirect=True)
def test_tls_to_a_port_without_it_says_so(server: OneAnswer) -> None:
    assert "no TLS on this port" in problem_of(Endpoint("127.0.0.1", server.port, tls=True))
    gc.collect()  # a socket left open here would fail this test, and not whichever runs when it is collected


def test_a_dead_address_says_that_nothing_listens() -> None:
    assert "nothing listens there" in problem_of(Endpoint("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (b"\x20\x02\x00\x00", "mqtt"),
        (b"\x20\x02\x00\x05", "mqtt"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "other"),
        (b"", "other"),
    ],
    indirect=["server"],
)
def test_a_probe_tells_mqtt_from_other_servers(server: OneAnswer, kind: str) -> None:
    assert probe("127.0.0.1", server.port) == kind


def test_a_probe_of_a_free_port_says_free() -> None:
    assert probe("127.0.0.1", 1) == "free"


def test_repeats_come_ever_later_up_to_a_bound() -> None:
    delays = [repeat_delay_s(n, 0.5) for n in range(1, 2000)]
    assert delays == sorted(delays)
    assert delays[-1] == REPEAT_MAX_S
