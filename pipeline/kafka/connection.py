"""How a client gets to Kafka, and what becomes of the client's errors.

Every part of this package opens its client with `opened` and uses it within `errors_mapped`, so that whatever Kafka
or its client says reaches a role as one of ours::

    with errors_mapped(settings):
        client = opened(KafkaAdminClient, settings, "admin")   # Retry where nobody answers, Stop where we are refused
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from pipeline.errors import Retry, Stop
from pipeline.settings.settings import KafkaSettings

CONNECT_TIMEOUT_MS: Final = 3_000
"""A broker that takes longer is as good as away: the caller keeps what it has and comes back."""
REQUEST_TIMEOUT_MS: Final = 5_000
METADATA_MAX_AGE_MS: Final = 30_000
"""A client that missed a new leader finds it this soon; the default is five minutes."""

_FINAL: Final = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthorizationError,
    kafka_errors.KafkaConfigurationError,
)
_FENCED: Final = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


class Fenced(Retry):
    """The group went on without this member's commit."""


@contextlib.contextmanager
def errors_mapped(settings: KafkaSettings) -> Iterator[None]:
    where = address(settings)
    try:
        yield
    except _FENCED as error:
        raise Fenced(f"Kafka at {where} gave our partitions to another member: {error}") from error
    except _FINAL as error:
        raise Stop(
            f"Kafka at {where} refuses us: {_said(error)}. Check security, mechanism, username and password under [kafka], "
            "and the rights of that user"
        ) from error
    except (kafka_errors.KafkaError, OSError) as error:
        raise Retry(f"Kafka at {where}: {_said(error)}") from error


def address(settings: KafkaSettings) -> str:
    return ",".join(settings.servers)


def configuration(settings: KafkaSettings, name: str) -> dict[str, Any]:
    sasl = {
        "sasl_mechanism": settings.mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password,
    }
    return {
        "bootstrap_servers": list(settings.servers),
        "client_id": f"tierwise-{name}",
        "security_protocol": settings.security,
        "ssl_cafile": settings.ca or None,
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    } | (sasl if settings.security.startswith("SASL_") else {})


def _hear_out() -> None:
    """Let the client read what a broker says in the same breath as it hangs up: that it refuses the login.

    kafka-python 3.0 throws those bytes away and tells of a lost connection alone; what it read is handed on here, and
    the end is found again by its next read.
    """
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        if "hears_out" not in vars(transport):
            transport._sock_recv = _patient(transport._sock_recv)
            transport.hears_out = True


def _patient(received: Callable[[Any], tuple[bytes, Any]]) -> Callable[[Any], tuple[bytes, Any]]:
    def patiently(transport: Any) -> tuple[bytes, Any]:
        data, error = received(transport)
        return (data, None) if data else (data, error)

    return patiently


class _Network(KafkaNetClient):  # type: ignore[misc]  # untyped
    """Remembers why a connection was not made: the client itself only says that it took too long."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.problem: BaseException | None = None
        self._connect = self._manager.get_connection
        self._manager.get_connection = self._watched

    def _watched(self, *given: Any, **more: Any) -> Any:
        connection = self._connect(*given, **more)
        connection.init_future.add_errback(self._note)
        return connection

    def _note(self, error: BaseException) -> None:
        if not isinstance(self.problem, _FINAL):  # the last try is often cut short by the end of the time
            self.problem = error


def opened(kind: Callable[..., Any], settings: KafkaSettings, name: str, **more: Any) -> Any:
    """A connected client. One that fails to connect leaves its network thread behind: end it."""
    _hear_out()
    _knock(settings)
    networks: list[_Network] = []

    def network(**given: Any) -> _Network:
        networks.append(_Network(**given))
        return networks[-1]

    try:
        return kind(**configuration(settings, name), **more, kafka_client=network)
    except BaseException as error:
        for each in networks:
            each.close()
            if isinstance(error, kafka_errors.KafkaTimeoutError) and each.problem is not None:
                raise each.problem.with_traceback(None) from None  # its frames would keep sockets open
        raise


def _knock(settings: KafkaSettings) -> None:
    """See whether anybody listens: where nobody does, the client would leak a socket an attempt, for seconds."""
    refused: OSError | None = None
    for server in settings.servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_MS / 1000).close()
        except OSError as error:
            refused = error
        else:
            return
    if refused is not None:
        raise refused


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
