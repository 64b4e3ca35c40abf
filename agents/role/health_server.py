"""The HTTP server of a role: `/health` and `/metrics`, on loopback unless the settings say otherwise."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.errors import Stop

if TYPE_CHECKING:
    from agents.role.telemetry import Metrics

LOOPBACK: Final = "127.0.0.1"

WAKE_EVERY_S: Final = 60.0
"""The server looks this often whether to end; `close` wakes it."""

CLIENT_TIMEOUT_S: Final = 5
"""A connection without a request is closed after this time, since it holds a thread."""


class HealthServer:
    """Serve `/health` and `/metrics` of one role, on loopback."""

    def __init__(self, health: Callable[[], tuple[bool, Mapping[str, Any]]], metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._server: http.server.ThreadingHTTPServer | None = None
        self._port = 0

    def open(self, port: int, key: str) -> int:
        """Listen on this port (0: any free one) and return the port. `key` names the setting in the error.

        Raises
        ------
        Stop
            The port is in use.
        """
        try:
            server = http.server.ThreadingHTTPServer(
                (LOOPBACK, port), functools.partial(_Handler, self._health, self._metrics)
            )
        except OSError as error:
            raise Stop(
                f"cannot listen on {LOOPBACK}:{port} for /health and /metrics: {error.strerror}. "
                f"End what uses the port, or set `{key}` to another one (0: any free port, -1: none)"
            ) from None
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(WAKE_EVERY_S,), name="http", daemon=True).start()
        self._server, self._port = server, int(server.server_address[1])
        return self._port

    def close(self) -> None:
        """Stop serving and close the port."""
        if self._server is not None:
            ending = threading.Thread(target=self._server.shutdown, daemon=True)
            ending.start()
            while ending.is_alive():
                with contextlib.suppress(OSError):
                    socket.create_connection((LOOPBACK, self._port), CLIENT_TIMEOUT_S).close()  # wakes it
                ending.join(0.1)
            self._server.server_close()
            self._server = None


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server_version = "tierwise"
    sys_version = ""

    def __init__(self, health: Callable[[], tuple[bool, Mapping[str, Any]]], metrics: Metrics, *request: Any) -> None:
        self._health = health
        self._metrics = metrics
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answer one request."""
        match self.path.partition("?")[0]:
            case "/health":
                ready, body = self._health()
                self._answer(200 if ready else 503, "application/json", json.dumps(body).encode() + b"\n")
            case "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, self._metrics.exposition())
            case _:
                self._answer(404, "text/plain", b"not found; this server has /health and /metrics\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests: a scrape every few seconds would hide the lines that matter."""
