"""The folder of a deployment's secrets: made once, kept for ever, a room in it for each service.

Only `tierwise init` and `tierwise credentials` see all of it; a service sees its own room, which belongs to that
service's user. Running it again changes nothing but what the request changed (another site, TLS, names), and renews what
is about to end::

    vault/      every password, the authority's key     (init, credentials)
    device/     mqtt-password                            (the device agent)
    uplink/     mosquitto.conf, passwords, access, ...   (the uplink's Mosquitto)
    ...

Passwords are 192 random bits, spelled in 32 characters that no configuration file has to quote.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agents.deploy import certificates, kafka, mosquitto
from agents.deploy.certificates import Authority, Pair
from agents.deploy.logins import (
    AT_SITE_LOGINS,
    AT_UPLINK,
    DEVICE,
    EDGE,
    GATEWAY,
    HEALTH,
    KAFKA_LOGINS,
    at_site,
)
from pipeline import topics
from pipeline.errors import Stop

MASTER: Final = "vault"
ROLES_UID: Final = 10001
"""Of our own image."""

ROOMS: Final[Mapping[str, int]] = {
    MASTER: ROLES_UID,
    "device": ROLES_UID,
    "edge": ROLES_UID,
    "gateway": ROLES_UID,
    "stream": ROLES_UID,
    "cloud": ROLES_UID,
    "rights": ROLES_UID,
    "series": ROLES_UID,
    "site-series": ROLES_UID,
    "mosquitto": 1883,
    "uplink": 1883,
    "kafka": 1000,
    "influxdb": 1000,
    "site-influxdb": 1000,
    "grafana": 472,
    "site-grafana": 472,
}
"""The rooms, and who owns each: users as the images of these services have them."""

SHARED: Final = frozenset({"grafana", "site-grafana"})
"""Rooms into which `tierwise provision influx` puts a token later: writable for the group of our image."""

MOUNTED: Final = "/run/tierwise"
"""Where every service finds its room."""
KAFKA_MOUNTED: Final = "/mnt/shared/config"
"""Where Kafka's image looks for server.properties."""

STACK_NAMES: Final = ("localhost", "127.0.0.1", "mosquitto", "uplink", "kafka", "grafana")
"""What the servers of a stack are called by those who are on the same machine."""

PASSWORD_BYTES: Final = 24

ROOT: Final = "releases-root.json"
"""The trusted root of releases."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a deployment wants of its secrets."""

    site: str
    other_sites: tuple[str, ...] = ()
    """Sites elsewhere that may use this deployment's uplink."""
    tls: bool = False
    names: tuple[str, ...] = ()
    """Under which servers are reached from elsewhere."""
    uplink_password: str = ""
    """Of an invitation to another deployment's uplink; empty: this deployment's own."""
    uplink_ca: str = ""
    """That uplink's authority: its PEM file in Base64, one line as an environment file takes it."""
    releases_root: str = ""
    """What edges and cloud trust releases by, as `tierwise releases root` prints it; nothing secret."""
    site_influx_token: str = ""
    """Of an InfluxDB of the operator's own, for this site; empty: the stack's own gives one."""
    influx_token: str = ""
    """The same, for the cloud's roles."""
    own_certificates: Path | None = None
    """A folder that may hold ``server.pem`` and ``server-key.pem`` (and ``ca.pem``) of the operator's own."""


class Vault:
    """Reads and makes secrets under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def password(self, name: str) -> str:
        """The password of this name, made now if there is none."""
        path = self._folder / MASTER / name
        if not path.exists():
            self._put(MASTER, name, secrets.token_urlsafe(PASSWORD_BYTES))
        return path.read_text("ascii").strip()

    def known(self, name: str) -> str | None:
        """The password of this name, if there is one."""
        path = self._folder / MASTER / name
        return path.read_text("ascii").strip() if path.exists() else None

    def authority(self) -> bytes:
        """The certificate that clients have to trust, PEM; empty without TLS."""
        path = self._folder / MASTER / "ca.pem"
        return path.read_bytes() if path.exists() else b""

    def releases_root(self) -> bytes:
        """What releases are trusted by, as it was given; empty: it was not yet."""
        path = self._folder / MASTER / ROOT
        return path.read_bytes() if path.exists() else b""

    def sites(self) -> list[str]:
        """Sites that may use the uplink, by name."""
        found = (path.name.removeprefix("uplink.") for path in (self._folder / MASTER).glob("uplink.*"))
        return sorted(name for name in found if topics.is_name(name))

    # --- making ----------------------------------------------------------------------------------------------

    def make(self, request: Request, now: dt.datetime) -> None:
        """Bring every room up to what the request asks for.

        Raises
        ------
        Stop
            A name in it is none, a certificate of the operator's cannot be used, or the folder cannot be written.
        """
        _check(request)
        try:
            for room, owner in ROOMS.items():
                self._open(room, owner)
            self._make(request, now)
        except OSError as error:
            raise Stop(
                f"{error.filename or self._folder}: {error.strerror}: `tierwise init` must be able to write there"
            ) from None

    def _make(self, request: Request, now: dt.datetime) -> None:
        self._certify(request, now)
        site = {
            name: self.password(f"mqtt{name if name[0] == '.' else '.' + name}") for name in AT_SITE_LOGINS
        }
        uplink = {name: self.password(f"uplink{name}") for name in (GATEWAY, HEALTH)}
        uplink |= {name: self.password(f"uplink.{name}") for name in {request.site, *request.other_sites}}
        cluster = {name: self.password(f"kafka.{name}") for name in KAFKA_LOGINS}
        self._broker("mosquitto", site, mosquitto.access_rules(at_site(request.site)), request)
        self._broker("uplink", uplink, mosquitto.access_rules(AT_UPLINK), request)
        self._put("device", "mqtt-password", site[DEVICE])
        self._put("edge", "mqtt-password", site[EDGE])
        self._put("edge", "uplink-password", request.uplink_password or uplink[request.site])
        if request.uplink_ca:
            self._put("edge", "uplink-ca.pem", _decoded("UPLINK_CA", request.uplink_ca, b"BEGIN CERTIFICATE"))
        if request.releases_root:
            for room in (MASTER, "edge", "cloud"):
                self._put(room, ROOT, _decoded("RELEASES_ROOT", request.releases_root, b'"_type":"root"'))
        self._put("gateway", "uplink-password", uplink[GATEWAY])
        for role in ("gateway", "stream", "cloud"):
            self._put(role, "kafka-password", cluster[role])
        self._put("rights", "kafka-password", cluster["admin"])
        public = request.names[0] if request.names else "localhost"
        self._put(
            "kafka",
            "server.properties",
            kafka.properties(cluster, "kafka", public, KAFKA_MOUNTED, tls=request.tls),
        )
        for rooms, token in (
            (("device", "edge"), request.site_influx_token),
            (("gateway", "stream", "cloud"), request.influx_token),
        ):
            for room in rooms if token else ():
                self._put(room, "influx-token", token)
        for server, keeper in (("influxdb", "series"), ("site-influxdb", "site-series")):
            token = self.password(f"{server}.token")
            self._put(server, "password", self.password(f"{server}.admin"))
            self._put(server, "admin-token", token)
            self._put(keeper, "admin-token", token)
        for server in ("grafana", "site-grafana"):
            self._put(server, "password", self.password(f"{server}.admin"))

    def _broker(self, room: str, logins: Mapping[str, str], access: str, request: Request) -> None:
        self._put(room, "mosquitto.conf", mosquitto.configuration(MOUNTED, tls=request.tls))
        self._put(room, "passwords", mosquitto.passwords(logins))
        self._put(room, "access", access)
        self._put(room, "health-password", logins[HEALTH])

    def _certify(self, request: Request, now: dt.datetime) -> None:
        if not request.tls:
            return
        server, authority = _own_pair(request.own_certificates, now) or self._signed(request.names, now)
        self._put(MASTER, "ca.pem", authority)
        for room in ("mosquitto", "uplink", "grafana", "site-grafana"):
            self._put(room, "server.pem", server.certificate)
            self._put(room, "server-key.pem", server.key)
        self._put("kafka", "keystore.pem", server.key + server.certificate)

    def _signed(self, names: Iterable[str], now: dt.datetime) -> tuple[Pair, bytes]:
        """Our own authority's pair; made anew where names changed or its end is near."""
        master, wanted = self._folder / MASTER, (*STACK_NAMES, *names)
        if not (master / "own-ca-key.pem").exists():
            made = Authority.make("Tierwise, this deployment", now)
            self._put(MASTER, "own-ca.pem", made.pair.certificate)
            self._put(MASTER, "own-ca-key.pem", made.pair.key)
        authority = Authority(_pair(master / "own-ca.pem", master / "own-ca-key.pem"))
        files = (master / "own-server.pem", master / "own-server-key.pem")
        if not files[1].exists() or not certificates.is_current(_pair(*files), wanted, now):
            server = authority.sign(wanted, now)
            self._put(MASTER, files[0].name, server.certificate)
            self._put(MASTER, files[1].name, server.key)
        return _pair(*files), authority.pair.certificate

    # --- files -----------------------------------------------------------------------------------------------

    def _open(self, room: str, owner: int) -> None:
        folder = self._folder / room
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, owner, ROLES_UID)
        folder.chmod(0o770 if room in SHARED else 0o700)

    def _put(self, room: str, name: str, content: str | bytes) -> None:
        """Write a file for its room's owner alone; whole or not at all."""
        path = self._folder / room / name
        fresh = path.with_name(f".{name}.new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), ROOMS[room], ROOMS[room])
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def _check(request: Request) -> None:
    for name in (request.site, *request.other_sites):
        if not topics.is_name(name):
            raise Stop(
                f'site "{name}" is no name; use a-z, 0-9, - and _, at most 63, and none of our own words'
            )
    for name in request.names:
        if not name.isascii() or any(letter.isspace() or letter in "/:," for letter in name.replace(":", "")):
            raise Stop(f'PUBLIC_NAMES: "{name}" is neither a host name nor an address')


def _own_pair(folder: Path | None, now: dt.datetime) -> tuple[Pair, bytes] | None:
    """The operator's own server certificate and what its clients have to trust; None where there is none."""
    if folder is None:
        return None
    server, key, authority = (folder / name for name in ("server.pem", "server-key.pem", "ca.pem"))
    if not server.exists() and not key.exists():
        return None
    for path in (server, key):
        if not path.exists():
            raise Stop(
                f"{folder}: {path.name} is missing: a certificate and its key are needed, server.pem and server-key.pem"
            )
    pair = _pair(server, key)
    certificates.check(pair, str(folder), now)
    return pair, authority.read_bytes() if authority.exists() else b""


def _pair(certificate: Path, key: Path) -> Pair:
    return Pair(certificate.read_bytes(), key.read_bytes())


def _decoded(key: str, text: str, mark: bytes) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = b""
    if mark not in content:
        raise Stop(f"{key}: is not what it should be, in Base64: copy the whole line as it was printed")
    return content


def invitation(vault: Vault, site: str, address: str) -> list[str]:
    """What another site writes into its ``.env`` to use this deployment's uplink.

    Raises
    ------
    Stop
        The site has no login here.
    """
    password = vault.known(f"uplink.{site}")
    if password is None:
        raise Stop(
            f'no site "{site}" may use this uplink: add it to SITES in .env, then `docker compose up -d`'
        )
    authority = vault.authority()
    lines = [
        f"SITE={site}",
        f"UPLINK_ADDRESS={'mqtts://' if authority else ''}{address}",
        f"UPLINK_PASSWORD={password}",
    ]
    carried = {"UPLINK_CA": authority, "RELEASES_ROOT": vault.releases_root()}
    return lines + [
        f"{key}={base64.b64encode(content).decode()}" for key, content in carried.items() if content
    ]
