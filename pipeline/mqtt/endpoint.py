"""The address of a broker, a probe of what listens there, and explanations of failed connections for people.

>>> str(Endpoint("broker.example", 8883, tls=True))
'mqtts://broker.example:8883'
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CONNECT_TIMEOUT_S: Final = 5.0

PROBE_ID: Final = b"tierwise-probe"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a broker, and the login that we use there."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: bool = False
    ca: Path | None = None
    """The certificate authority to check the broker's certificate with; None for the system's own."""

    def __str__(self) -> str:
        return f"{'mqtts://' if self.tls else ''}{self.host}:{self.port}"


class _ClosingSocket(ssl.SSLSocket):
    """Closes itself if the handshake fails; paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return the TLS context that checks the broker's certificate and its name.

    Raises
    ------
    OSError
        The file `ca` cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=endpoint.ca)
    context.sslsocket_class = _ClosingSocket
    return context


def explain(error: Exception, endpoint: Endpoint) -> str:
    """Return for people why there is no connection, and what to check."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): name its authority in `ca`"
        case ssl.SSLError():
            return f"no TLS on this port ({error.reason}): use mqtts:// only where the broker offers it"
        case ConnectionResetError() if endpoint.tls:
            return (
                "it closed the connection before TLS began: use mqtts:// and this port only where the broker offers TLS"
            )
        case socket.gaierror():
            return f"the name {endpoint.host} is not known: check `address`"
        case ConnectionRefusedError():
            return "nothing listens there: start the broker, or check `address`"
        case TimeoutError():
            return f"no answer within {CONNECT_TIMEOUT_S:.0f} s: check `address` and the firewall"
        case FileNotFoundError():
            return f"there is no file {endpoint.ca}: check `ca`"
        case _:
            return str(error)


def probe(host: str, port: int, timeout_s: float = 1.0) -> Literal["mqtt", "other", "free"]:
    """Return what listens there: an MQTT broker (with or without a login), something else, or nothing."""
    header = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(PROBE_ID).to_bytes(2, "big") + PROBE_ID
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
