"""Structured logs of a role: readable lines on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import functools
import io
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

from pipeline.credentials import hidden

if TYPE_CHECKING:
    from pipeline.settings.settings import LogSettings

LIBRARY_LEVELS: Final = {
    "tuf": logging.WARNING,  # reports each key that has not signed, although a threshold of keys suffices
    "pyftpdlib": logging.ERROR,  # reports each session, each refused command, and its own start
    "kafka": logging.WARNING,  # reports each socket that it opens
    "kafka.net.selector": logging.ERROR,  # warns whenever its loop was 0.1 s late, as on any busy machine
    "kafka.net.sasl": logging.ERROR,  # warns at each connection without TLS, which the settings chose
    "aiokafka.conn": logging.ERROR,  # the same
    "aiokafka": logging.WARNING,  # reports each step of each rebalance
    "faust": logging.WARNING,  # reports the start and stop of each of its dozen services
    "mode": logging.WARNING,  # the same, for Faust's service framework
}
"""Levels for loggers of libraries that report normal events as problems."""

COORDINATOR_STARTS: Final = re.compile(r"\[Error 1[456]\]")
"""Kafka's codes for a group coordinator that is loading, not available or elsewhere. A fresh broker makes the topic of
its groups at the first join, and both clients report each of their attempts until then as an error. They repeat it by
themselves; a role that stays outside its group says so at `/health`."""


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
            _hide_credentials,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                timestamp_key="time",
                exception_formatter=_plain_traceback,
            ),
        ]
        if text
        else [structlog.processors.format_exc_info, _hide_credentials, structlog.processors.JSONRenderer(default=str)]
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
    handler.addFilter(_is_news)
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())


def _hide_credentials(_logger: object, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    return {key: hidden(value) if isinstance(value, str) else value for key, value in line.items()}


def _plain_traceback(out: TextIO, error: Any) -> None:
    """Write a traceback without variables (the default shows payloads and keys) and without credentials."""
    written = io.StringIO()
    structlog.dev.plain_traceback(written, error)
    out.write(hidden(written.getvalue()))


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for a library's line about a group coordinator that is still starting."""
    of_kafka = record.name.partition(".")[0] in ("kafka", "aiokafka")
    return not (of_kafka and COORDINATOR_STARTS.search(record.getMessage()))


def _name_role(_logger: object, _method: str, line: dict[str, Any], *, role: str) -> dict[str, Any]:
    return line | {"role": role}
