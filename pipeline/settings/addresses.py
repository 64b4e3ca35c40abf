"""Reads the addresses of brokers in the settings: ``embedded``, ``host``, ``host:port``, ``mqtts://host:port``.

>>> host_port("mqtts://broker.lan", MQTT_TLS_PORT), host_port("[::1]:1884", MQTT_PORT)
(('broker.lan', 8883), ('::1', 1884))
"""

from __future__ import annotations

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
