"""Connect a client to Kafka, and map its errors to ours.

Every part of this package opens its client with `opened` and uses it within `errors_mapped`, so that a role meets only
the errors of `pipeline.errors`::

    with errors_mapped(settings):
        client = opened(KafkaAdminClient, settings, "admin")   # Retry without an answer, Stop if the login is refused
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from pipeline.errors import Retry, Stop
from pipeline.kafka.batches import install
from pipeline.settings.settings import KafkaSettings

CONNECT_TIMEOUT_MS: Final = 3_000
"""A broker that takes longer counts as away: the caller keeps its records and tries again."""
REQUEST_TIMEOUT_MS: Final = 5_000
METADATA_MAX_AGE_MS: Final = 30_000
"""A client that missed a change of leader finds the new one within this time; the default is five minutes."""

_LOGIN: Final = (
    "Check security, mechanism, username and password under [kafka], and the rights of that user: docs/deploy.md"
)
_RIGHTS: Final = (
    "This login needs a right there: let an administrator run `tierwise provision kafka`, or the commands that "
    "`tierwise provision kafka --commands` prints: docs/deploy.md"
)
_TOPICS: Final = "Let its administrator create Tierwise's topics, 12 partitions each: docs/deploy.md"
_REMEDIES: Final[dict[int | str | None, str]] = {
    23: "Another program uses this consumer group: end it",
    26: "Set kafka.session_timeout_s between the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
    **dict.fromkeys((40, 44), _TOPICS),
    **dict.fromkeys((29, 30), _RIGHTS),
    **dict.fromkeys((31, 33, 34, 53, 58, 65, "KafkaConfigurationError", "AuthenticationFailedError"), _LOGIN),
}
"""By Kafka's error code, or by the class of a client's error without a code: a person has to change something."""
_FENCED: Final = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


class Fenced(Retry):
    """The group was rebalanced, and this member's commit was refused."""


@contextlib.contextmanager
def errors_mapped(settings: KafkaSettings) -> Iterator[None]:
    """Turn the client's errors into `Retry`, `Fenced` or `Stop`."""
    where = address(settings)
    try:
        yield
    except _FENCED as error:
        raise Fenced(f"Kafka at {where} gave our partitions to another member: {error}") from error
    except (kafka_errors.KafkaError, OSError) as error:
        raise fatal(error, where) or Retry(f"Kafka at {where}: {_text(error)}") from error
    except KeyError as error:  # kafka-python has no offsets of a partition that it sees no longer
        if not isinstance(error.args[0], TopicPartition):
            raise
        raise Retry(f"Kafka at {where} does not show topic {error.args[0].topic} any more") from error


def fatal(error: BaseException, where: str) -> Stop | None:
    """Return what to show a person about an error of kafka-python or aiokafka; None if a repetition may succeed."""
    code = None if isinstance(error, OSError) else getattr(error, "errno", None)
    remedy = _REMEDIES.get(code) or _REMEDIES.get(type(error).__name__)
    return Stop(f"Kafka at {where} refuses us: {_text(error)}. {remedy}") if remedy else None


def address(settings: KafkaSettings) -> str:
    """Return the addresses of the brokers, for messages."""
    return ",".join(settings.servers)


def configuration(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """Return the client's configuration; `name` becomes its client id."""
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


def _keep_last_bytes() -> None:
    """Let the client read the last bytes that a broker sent before it closed the connection: they refuse the login.

    kafka-python 3.0 throws these bytes away and reports only a lost connection. Here the bytes are passed on, and the
    next read finds the closed connection again.
    """
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        if "keeps_last_bytes" not in vars(transport):
            transport._sock_recv = _error_only_without_data(transport._sock_recv)
            transport.keeps_last_bytes = True


def _error_only_without_data(
    receive: Callable[[Any], tuple[bytes, Any]],
) -> Callable[[Any], tuple[bytes, Any]]:
    def receive_data_first(transport: Any) -> tuple[bytes, Any]:
        data, error = receive(transport)
        return (data, None) if data else (data, error)

    return receive_data_first


class _Network(KafkaNetClient):  # type: ignore[misc]  # untyped
    """Remembers why a connection was not made: the client itself reports only a timeout."""

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
        if not (self.problem and fatal(self.problem, "")):  # the timeout often cuts the last attempt short
            self.problem = error


def opened(kind: Callable[..., Any], settings: KafkaSettings, name: str, **more: Any) -> Any:
    """Return a connected client. If it fails to connect, end the network thread that it leaves behind."""
    _keep_last_bytes()
    install()
    _check_listening(settings)
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


def close_client(client: Any, timeout_s: float = 0.0) -> None:
    """Close a consumer, if there is one, without a commit."""
    if client is not None:
        with contextlib.suppress(kafka_errors.KafkaError):  # a broker that is away notices by itself
            client.close(autocommit=False, timeout_ms=round(timeout_s * 1000))


def _check_listening(settings: KafkaSettings) -> None:
    """Check that a broker listens: if none does, the client would leak a socket at each of its attempts."""
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


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
