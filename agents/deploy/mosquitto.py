"""Write Mosquitto's configuration from the tables of `logins.py`: listeners, passwords, access rules.

Pure: text in, text out. `vault.py` writes the files with the owner that Mosquitto requires::

    >>> print(access_rules([AccessRule("camera", "write", "a/+"), AccessRule("*", "read", "b/%u")]))
    user camera
    topic write a/+
    <BLANKLINE>
    pattern read b/%u
    <BLANKLINE>
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from agents.deploy.logins import EVERYBODY, AccessRule
from pipeline.settings.addresses import MQTT_PORT, MQTT_TLS_PORT

PACKET_MAX_BYTES: Final = 17 << 20
"""A frame of 16 MiB, and the rest of its event."""

QUEUED_MAX_BYTES: Final = 256 << 20
"""Queue for one client that is away, such as a restarting agent. Publishers wait for the agent's own ack."""

ITERATIONS: Final = 101
"""Mosquitto's default. More would slow every login without need: passwords have 192 random bits."""

SALT_BYTES: Final = 12
"""The salt is derived from the password, so that the file is the same each time it is written."""


def configuration(folder: str, *, tls: bool) -> str:
    """Return the text of mosquitto.conf. `folder` is the mounted folder of the broker's secrets."""
    encrypted = f"""
listener {MQTT_TLS_PORT}
certfile {folder}/server.pem
keyfile {folder}/server-key.pem
tls_version tlsv1.2
"""
    return f"""\
# Written by `tierwise init`, and written anew at each start.
listener {MQTT_PORT}
{encrypted if tls else ""}

allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/access

persistence true
persistence_location /mosquitto/data/
autosave_interval 30
persistent_client_expiration 14d
max_packet_size {PACKET_MAX_BYTES}
max_inflight_messages 100
max_queued_messages 0
max_queued_bytes {QUEUED_MAX_BYTES}

log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages false
"""


def passwords(logins: Mapping[str, str]) -> str:
    """Return the password file: PBKDF2 with SHA-512, as ``mosquitto_passwd`` writes it."""
    return "".join(f"{name}:{hashed(secret)}\n" for name, secret in logins.items())


def hashed(secret: str) -> str:
    """Return the hash of one password in Mosquitto's form."""
    salt = hashlib.sha256(f"salt of {secret}".encode()).digest()[:SALT_BYTES]
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def access_rules(rules: Sequence[AccessRule]) -> str:
    """Return the access file. Mosquitto refuses every access without a rule."""
    blocks = []
    for login, group in groupby(rules, key=lambda rule: rule.login):
        if login == EVERYBODY:
            blocks.append("".join(f"pattern {rule.access} {rule.topic}\n" for rule in group))
        else:
            blocks.append(f"user {login}\n" + "".join(f"topic {rule.access} {rule.topic}\n" for rule in group))
    return "\n".join(blocks)
