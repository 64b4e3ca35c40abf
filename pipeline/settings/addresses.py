"""Reads the addresses of brokers in the settings: ``embedded``, ``host``, ``host:port``, ``mqtts://host:port``.

>>> host_port("mqtts://broker.lan", MQTT_TLS_PORT), host_port("[::1]:1884", MQTT_PORT)
(('broker.lan', 8883), ('::1', 1884))
"""

from __future__ import annotations

import re
from typing import Final

EMBEDDED: Final = "embedded"
"""Stands for the broker that `tierwise up` starts by itself, on loopback."""
LOOPBACK: Final = "127.0.0.1"
TLS_SCHEME: Final = "mqtts://"
MQTT_PORT: Final = 1883
MQTT_TLS_PORT: Final = 8883
KAFKA_PORT: Final = 9092


def host_port(address: str, default_port: int) -> tuple[str, int]:
    """Return host and port of an address. Raises `ValueError` if it is not an address."""
    rest = address.removeprefix(TLS_SCHEME)
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or any(letter.isspace() for letter in host):
        raise ValueError("no host")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError("no port")
    return host, int(port)


_LOGIN: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET: Final = re.compile(r"(?i)([?&][^=&]*(?:user|login|pass|pwd|token|key|auth|secret)[^=&]*=)[^&#\s]*")


def without_login(text: str) -> str:
    """Return the text with `***` for user names, passwords and tokens in addresses, for logs and people.

    >>> without_login("rtsp://admin:hunter2@10.0.0.9/1?token=abc&x=1")
    'rtsp://***@10.0.0.9/1?token=***&x=1'
    """
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", text))
