"""What a role tells about itself: structured logs, Prometheus metrics, and `/health` and `/metrics` on loopback.

It stands beside the way of the data and never on it: nothing here sees the content of a record. A role counts into
its own `Metrics`, whose registry the frame (`role.py`) serves; log lines are an event with facts beside it::

    >>> metrics = Metrics()
    >>> metrics.received("home/cam1/garden", "frame")
    >>> metrics.value("tierwise_events_received_total", stream="home/cam1/garden", channel="frame")
    1.0

A terminal gets readable lines, anything else one JSON object a line.
"""

from __future__ import annotations

import functools
import http.server
import importlib.metadata
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.errors import Stop

if TYPE_CHECKING:
    from pipeline.messages import Result
    from pipeline.settings.settings import LogSettings

STREAMS_MAX: Final = 256
"""Streams that are counted by name. Every site has fewer; a flood of invented names must not grow a registry."""

OTHER_LABELS_MAX: Final = 64
"""Of reasons, hops and rules: our own words, so that this is only ever reached by mistake."""

CAMERA_FAULTS: Final = ("dark", "frozen", "blurred")
"""Faults of cameras that last until somebody sees to them."""

LATENCY_BUCKETS_MS: Final = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)

LIBRARY_LEVELS: Final = {
    "tuf": logging.WARNING,  # it tells which of a role's keys have not signed, as if that were wrong
    "kafka": logging.WARNING,  # tells each socket that it opens
    "kafka.net.selector": logging.ERROR,  # warns when its own loop was slow for 0.1 s, as on any busy machine
    "kafka.net.sasl": logging.ERROR,  # warns at each connection of what the settings say: no TLS below it
    "aiokafka.conn": logging.ERROR,  # the same
    "aiokafka": logging.WARNING,  # tells each step of each rebalance
    "faust": logging.WARNING,  # tells each of its dozen services that it starts and stops
    "mode": logging.WARNING,  # the same, of Faust's own frame
}
"""Loggers of libraries that cry wolf."""

LOOPBACK: Final = "127.0.0.1"

CLIENT_TIMEOUT_S: Final = 5
"""A client that connects to the HTTP port and says nothing holds a thread no longer than this."""


@functools.cache
def version() -> str:
    """The installed version of Tierwise."""
    return importlib.metadata.version("tierwise")


# --- logs ------------------------------------------------------------------------------------------------------


def configure_logs(log: LogSettings, role: str) -> None:
    """Send structlog's and the standard library's lines to stderr, in one format."""
    text = log.format == "text" or (log.format == "auto" and sys.stderr.isatty())
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        functools.partial(_name_role, role=role),
    ]
    render: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                timestamp_key="time",
                # The default shows each frame's variables: payloads and keys.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())


def _name_role(_logger: object, _method: str, line: dict[str, Any], *, role: str) -> dict[str, Any]:
    return line | {"role": role}


# --- metrics ---------------------------------------------------------------------------------------------------


class _Names:
    """Label values as they come, up to a bound; then `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            if name in self._seen:
                return name
            if len(self._seen) >= self._most:
                return "other"
            self._seen.add(name)
            return name


class Metrics:
    """What every role counts, in a registry of its own. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._streams = _Names(STREAMS_MAX)
        self._words = _Names(OTHER_LABELS_MAX)
        self._received = Counter(
            "tierwise_events_received_total",
            "Frames and readings committed, by stream.",
            ["stream", "channel"],
            registry=self.registry,
        )
        self._answered = Counter(
            "tierwise_answered_total",
            "Answers published, by the rule that stopped or forwarded the event.",
            ["tier", "rank", "rule"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "tierwise_latency_ms",
            "Milliseconds from an event's receipt by the device agent to this tier's answer.",
            ["tier"],
            buckets=LATENCY_BUCKETS_MS,
            registry=self.registry,
        )
        self._refused = Counter(
            "tierwise_refused_total",
            "Input refused for good, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._withheld = Counter(
            "tierwise_withheld_total", "Records that the privacy gate kept.", registry=self.registry
        )
        self._hop_bytes = Counter(
            "tierwise_hop_bytes_total", "Payload bytes sent over a hop.", ["hop"], registry=self.registry
        )
        self._hop_records = Counter(
            "tierwise_hop_records_total", "Records sent over a hop.", ["hop"], registry=self.registry
        )
        self._drifted = Counter(
            "tierwise_drift_total",
            "Times that a stream left its past, by rule.",
            ["stream", "rule"],
            registry=self.registry,
        )
        self._asked = Counter(
            "tierwise_asks_total", "Labels asked for, by rule.", ["rule"], registry=self.registry
        )
        self._fault = Gauge(
            "tierwise_camera_fault",
            "1 while a camera is dark, frozen or blurred.",
            ["stream", "fault"],
            registry=self.registry,
        )
        self._backlog = Gauge(
            "tierwise_backlog",
            "Records that wait for the next hop's acknowledgement.",
            ["hop"],
            registry=self.registry,
        )

        self._updates = Counter(
            "tierwise_updates_total",
            "Steps of releases towards taking effect, by the stage that was reached and the rule that led there.",
            ["stage", "rule"],
            registry=self.registry,
        )
        self._model = Info("tierwise_model", "The model whose heads serve.", registry=self.registry)

    def received(self, stream: str, channel: str, count: int = 1) -> None:
        """Count committed events of a stream (`home/cam1/garden`) on a channel (`frame`, `reading`)."""
        self._received.labels(self._streams(stream), self._words(channel)).inc(count)

    def answered(self, result: Result) -> None:
        """Count one published answer, and how long it took."""
        self._answered.labels(result.tier, result.rank, self._words(result.rule)).inc()
        self._latency.labels(result.tier).observe(result.latency_ms)

    def refused(self, reason: str, count: int = 1) -> None:
        self._refused.labels(self._words(reason)).inc(count)

    def withheld(self, count: int = 1) -> None:
        self._withheld.inc(count)

    def hop(self, hop: str, size_bytes: int) -> None:
        """Count one record sent over a hop (`device-edge`)."""
        name = self._words(hop)
        self._hop_bytes.labels(name).inc(size_bytes)
        self._hop_records.labels(name).inc()

    def update(self, stage: str, rule: str) -> None:
        """Count a step of a release towards taking effect, or back."""
        self._updates.labels(self._words(stage), self._words(rule)).inc()

    def serves(self, model: str) -> None:
        """Name the model that serves from now on."""
        self._model.info({"model": model})

    def drifted(self, stream: str, rule: str) -> None:
        """Count a drift, or a broken camera, of a stream (`home/cam1/garden`)."""
        self._drifted.labels(self._streams(stream), self._words(rule)).inc()

    def asked(self, rule: str) -> None:
        self._asked.labels(self._words(rule)).inc()

    def camera(self, stream: str, fault: str) -> None:
        """Set what is wrong with a camera; nothing, where `fault` is empty."""
        name = self._streams(stream)
        for each in CAMERA_FAULTS:
            self._fault.labels(name, each).set(each == fault)

    def backlog(self, hop: str, measure: Callable[[], float]) -> None:
        """Let every scrape measure how much waits for a hop."""
        self._backlog.labels(hop).set_function(functools.partial(_measured, measure))

    def value(self, name: str, **labels: str) -> float:
        """One sample, 0.0 where there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """All samples in the Prometheus text format."""
        return generate_latest(self.registry)


def _measured(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except (
        Exception
    ):  # whatever a store that is just closing raises: one gauge must not fail the whole scrape
        return float("nan")


# --- HTTP ------------------------------------------------------------------------------------------------------


class HealthServer:
    """`/health` and `/metrics` of one role, on loopback."""

    def __init__(self, health: Callable[[], tuple[bool, Mapping[str, Any]]], metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._server: http.server.ThreadingHTTPServer | None = None

    def open(self, port: int, key: str) -> int:
        """Listen on this port (0: any free one); the port taken. `key` names the setting in the error.

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
        threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True).start()
        self._server = server
        return int(server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server_version = "tierwise"
    sys_version = ""

    def __init__(
        self, health: Callable[[], tuple[bool, Mapping[str, Any]]], metrics: Metrics, *request: Any
    ) -> None:
        self._health = health
        self._metrics = metrics
        super().__init__(*request)

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/health":
                ready, body = self._health()
                self._answer(200 if ready else 503, "application/json", json.dumps(body).encode() + b"\n")
            case "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, self._metrics.exposition())
            case _:
                self._answer(404, "text/plain", b"there are /health and /metrics here\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: a scrape each few seconds would drown what matters."""
