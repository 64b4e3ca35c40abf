"""Make and keep the secrets of a deployment, in one folder for each service.

Only `tierwise init` and `tierwise credentials` see the whole vault. A service sees its own folder, which belongs to the
service's user. Running `init` again changes only what the request changed (another site, TLS, names), and renews
certificates that are about to expire::

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
"""User of our own image."""

FOLDERS: Final[Mapping[str, int]] = {
    MASTER: ROLES_UID,
    "device": ROLES_UID,
    "edge": ROLES_UID,
    "gateway": ROLES_UID,
    "stream": ROLES_UID,
    "cloud": ROLES_UID,
    "trainer": ROLES_UID,
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
"""The folders and the user id that owns each, as in the images of these services."""

SHARED: Final = frozenset({"grafana", "site-grafana"})
"""Folders into which `tierwise provision influx` later writes a token; writable for the group of our image."""

MOUNTED: Final = "/run/tierwise"
"""Mount point of a service's folder."""
KAFKA_MOUNTED: Final = "/mnt/shared/config"
"""Folder in which Kafka's image expects server.properties."""

STACK_NAMES: Final = ("localhost", "127.0.0.1", "mosquitto", "uplink", "kafka", "grafana")
"""Names of the stack's servers for clients on the same machine."""

PASSWORD_BYTES: Final = 24

ROOT: Final = "releases-root.json"
"""The trusted root of releases."""


@dataclass(frozen=True, slots=True)
class Request:
    """The settings of a deployment that its secrets depend on."""

    site: str
    other_sites: tuple[str, ...] = ()
    """Sites on other machines that may use this deployment's uplink."""
    listened: tuple[str, ...] = ()
    """Topics of other programs that the site's streams listen on."""
    tls: bool = False
    names: tuple[str, ...] = ()
    """Names and addresses under which clients elsewhere reach the servers."""
    uplink_password: str = ""
    """Password from an invitation to another deployment's uplink; empty for this deployment's own."""
    uplink_ca: str = ""
    """Certificate authority of that uplink: its PEM file as one line of Base64."""
    releases_root: str = ""
    """Trusted root of model releases, as `tierwise releases root` prints it; not secret."""
    site_influx_token: str = ""
    """Token of the operator's own InfluxDB for this site; empty for the stack's InfluxDB."""
    influx_token: str = ""
    """The same for the cloud's roles."""
    camera_login: str = ""
    """Login of the site's own camera, ``user:password``."""
    own_certificates: Path | None = None
    """A folder with the operator's own ``server.pem`` and ``server-key.pem``, and possibly ``ca.pem``."""


class Vault:
    """The secrets under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def password(self, name: str) -> str:
        """Return the password of this name. Make it if it is missing."""
        path = self._folder / MASTER / name
        if not path.exists():
            self._put(MASTER, name, secrets.token_urlsafe(PASSWORD_BYTES))
        return path.read_text("ascii").strip()

    def known(self, name: str) -> str | None:
        """Return the password of this name, or None."""
        path = self._folder / MASTER / name
        return path.read_text("ascii").strip() if path.exists() else None

    def authority(self) -> bytes:
        """Return the certificate that clients have to trust, PEM; empty without TLS."""
        path = self._folder / MASTER / "ca.pem"
        return path.read_bytes() if path.exists() else b""

    def releases_root(self) -> bytes:
        """Return the trusted root of releases, or empty bytes if none was given yet."""
        path = self._folder / MASTER / ROOT
        return path.read_bytes() if path.exists() else b""

    def sites(self) -> list[str]:
        """Return the sites that may use the uplink, sorted by name."""
        found = (path.name.removeprefix("uplink.") for path in (self._folder / MASTER).glob("uplink.*"))
        return sorted(name for name in found if topics.is_name(name))

    # --- making ----------------------------------------------------------------------------------------------

    def make(self, request: Request, now: dt.datetime) -> None:
        """Make or update every folder as the request asks.

        Raises
        ------
        Stop
            A name is invalid, a certificate of the operator cannot be used, or the folder cannot be written.
        """
        _check(request)
        try:
            for name, owner in FOLDERS.items():
                self._make_folder(name, owner)
            self._make(request, now)
        except OSError as error:
            raise Stop(
                f"{error.filename or self._folder}: {error.strerror}: `tierwise init` must be able to write there"
            ) from None

    def _make(self, request: Request, now: dt.datetime) -> None:
        self._certify(request, now)
        site = {name: self.password(f"mqtt{name if name[0] == '.' else '.' + name}") for name in AT_SITE_LOGINS}
        uplink = {name: self.password(f"uplink{name}") for name in (GATEWAY, HEALTH)}
        uplink |= {name: self.password(f"uplink.{name}") for name in {request.site, *request.other_sites}}
        cluster = {name: self.password(f"kafka.{name}") for name in KAFKA_LOGINS}
        self._broker("mosquitto", site, mosquitto.access_rules(at_site(request.site, request.listened)), request)
        self._broker("uplink", uplink, mosquitto.access_rules(AT_UPLINK), request)
        self._put("device", "mqtt-password", site[DEVICE])
        self._put("device", "camera-login", request.camera_login)
        self._put("edge", "mqtt-password", site[EDGE])
        self._put("edge", "uplink-password", request.uplink_password or uplink[request.site])
        if request.uplink_ca:
            self._put("edge", "uplink-ca.pem", _decoded("UPLINK_CA", request.uplink_ca, b"BEGIN CERTIFICATE"))
        if request.releases_root:
            for service in (MASTER, "edge", "cloud"):
                self._put(service, ROOT, _decoded("RELEASES_ROOT", request.releases_root, b'"_type":"root"'))
        self._put("gateway", "uplink-password", uplink[GATEWAY])
        for role in ("gateway", "stream", "cloud", "trainer"):
            self._put(role, "kafka-password", cluster[role])
        self._put("rights", "kafka-password", cluster["admin"])
        public = request.names[0] if request.names else "localhost"
        self._put(
            "kafka",
            "server.properties",
            kafka.properties(cluster, "kafka", public, KAFKA_MOUNTED, tls=request.tls),
        )
        for services, token in (
            (("device", "edge"), request.site_influx_token),
            (("gateway", "stream", "cloud", "trainer"), request.influx_token),
        ):
            for service in services if token else ():
                self._put(service, "influx-token", token)
        for server, keeper in (("influxdb", "series"), ("site-influxdb", "site-series")):
            token = self.password(f"{server}.token")
            self._put(server, "password", self.password(f"{server}.admin"))
            self._put(server, "admin-token", token)
            self._put(keeper, "admin-token", token)
        for server in ("grafana", "site-grafana"):
            self._put(server, "password", self.password(f"{server}.admin"))

    def _broker(self, service: str, logins: Mapping[str, str], access: str, request: Request) -> None:
        self._put(service, "mosquitto.conf", mosquitto.configuration(MOUNTED, tls=request.tls))
        self._put(service, "passwords", mosquitto.passwords(logins))
        self._put(service, "access", access)
        self._put(service, "health-password", logins[HEALTH])

    def _certify(self, request: Request, now: dt.datetime) -> None:
        if not request.tls:
            return
        server, authority = _own_pair(request.own_certificates, now) or self._signed(request.names, now)
        self._put(MASTER, "ca.pem", authority)
        for service in ("mosquitto", "uplink", "grafana", "site-grafana"):
            self._put(service, "server.pem", server.certificate)
            self._put(service, "server-key.pem", server.key)
        self._put("kafka", "keystore.pem", server.key + server.certificate)

    def _signed(self, names: Iterable[str], now: dt.datetime) -> tuple[Pair, bytes]:
        """Return a pair signed by our own authority; a new one if names changed or it expires soon."""
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

    def _make_folder(self, name: str, owner: int) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, owner, ROLES_UID)
        folder.chmod(0o770 if name in SHARED else 0o700)

    def _put(self, service: str, name: str, content: str | bytes) -> None:
        """Write a file that only the service's user may read; atomically."""
        path = self._folder / service / name
        fresh = path.with_name(f".{name}.new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), FOLDERS[service], FOLDERS[service])
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def _check(request: Request) -> None:
    for name in (request.site, *request.other_sites):
        if not topics.is_name(name):
            raise Stop(f'site "{name}" is not a valid name; use up to 63 of a-z, 0-9, - and _, and no reserved word')
    for name in request.names:
        if not name.isascii() or any(letter.isspace() or letter in "/:," for letter in name.replace(":", "")):
            raise Stop(f'PUBLIC_NAMES: "{name}" is neither a host name nor an address')


def _own_pair(folder: Path | None, now: dt.datetime) -> tuple[Pair, bytes] | None:
    """Return the operator's own server certificate and its authority, or None if there is none."""
    if folder is None:
        return None
    server, key, authority = (folder / name for name in ("server.pem", "server-key.pem", "ca.pem"))
    if not server.exists() and not key.exists():
        return None
    for path in (server, key):
        if not path.exists():
            raise Stop(
                f"{folder}: {path.name} is missing; a certificate and its key are needed, server.pem and server-key.pem"
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
        raise Stop(f"{key}: not a valid value in Base64; copy the whole line, unchanged")
    return content


def invitation(vault: Vault, site: str, address: str) -> list[str]:
    """Return the lines that another site writes into its ``.env`` to use this deployment's uplink. They are not secret.

    Raises
    ------
    Stop
        The site has no login here.
    """
    uplink_password(vault, site)
    authority = vault.authority()
    lines = [f"SITE={site}", f"UPLINK_ADDRESS={'mqtts://' if authority else ''}{address}"]
    carried = {"UPLINK_CA": authority, "RELEASES_ROOT": vault.releases_root()}
    return lines + [f"{key}={base64.b64encode(content).decode()}" for key, content in carried.items() if content]


def uplink_password(vault: Vault, site: str) -> str:
    """Return the password of another site at this deployment's uplink. Raises `Stop`: the site has no login here."""
    password = vault.known(f"uplink.{site}")
    if password is None:
        raise Stop(f'no site "{site}" may use this uplink: add it to SITES in .env, then `docker compose up -d`')
    return password


def secret_from(folder: Path | None, name: str) -> str:
    """Return a secret from elsewhere, which the operator wrote into a file of this folder; empty if there is none.

    Raises
    ------
    Stop
        The file cannot be read, or it holds anything but one word.
    """
    path = (folder or Path()) / name
    if folder is None or not path.exists():
        return ""
    try:
        words = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"{path}: cannot be read: {error}") from None
    if len(words) != 1:
        raise Stop(f"{path}: must hold the secret alone, one word without spaces; it has {len(words)} words")
    return words[0]
