"""`tierwise init`: make every secret of a deployment, once. The compose stack runs it first.

$ tierwise init --vault /secrets
secrets are ready: site home; TLS is off
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import SettingsFile
from agents.deploy.vault import Request, Vault, secret_from
from pipeline.errors import Stop
from pipeline.settings.file import SECRETS
from pipeline.settings.settings import FILE_VARIABLE, Settings

VaultFolder = Annotated[
    Path,
    typer.Option("--vault", envvar="VAULT", help="Folder of all secrets, with a folder for each service."),
]


def init(
    vault: VaultFolder,
    site: Annotated[str, typer.Option(envvar="SITE", help="This site's name.")] = "home",
    sites: Annotated[
        str, typer.Option(envvar="SITES", help="Other sites that may use this uplink, with commas between.")
    ] = "",
    settings: SettingsFile = None,
    tls: Annotated[str, typer.Option(envvar="TLS", help="`on`: certificates, and ports with TLS.")] = "",
    names: Annotated[
        str,
        typer.Option(envvar="PUBLIC_NAMES", help="Host names and addresses for certificates, with commas between."),
    ] = "",
    certificates: Annotated[
        Path | None,
        typer.Option(envvar="CERTIFICATES", help="Folder of your own server.pem and server-key.pem."),
    ] = None,
    uplink_password: Annotated[
        str, typer.Option(envvar="UPLINK_PASSWORD", help="From an invitation to another uplink.")
    ] = "",
    uplink_ca: Annotated[str, typer.Option(envvar="UPLINK_CA", help="Its authority: a PEM file in Base64.")] = "",
    releases_root: Annotated[
        str, typer.Option(envvar="RELEASES_ROOT", help="The output of `tierwise releases root --line`.")
    ] = "",
    site_influx_token: Annotated[
        str, typer.Option(envvar="SITE_INFLUX_TOKEN", help="Of your own InfluxDB, for this site.")
    ] = "",
    influx_token: Annotated[str, typer.Option(envvar="INFLUX_TOKEN", help="Of your own InfluxDB, for the cloud.")] = "",
    secrets: Annotated[
        Path | None,
        typer.Option(
            envvar="GIVEN",
            help="Folder whose files hold these secrets: uplink-password, site-influx-token, influx-token, camera-login.",
        ),
    ] = None,
    moved: Annotated[str, typer.Option(envvar="MOVED", hidden=True)] = "",
) -> None:
    """Make logins, certificates and broker configuration; existing ones stay as they are.

    The device may read the topics that streams of the settings listen on. Run it again when these change.
    """
    if moved.strip():
        files = " and ".join(f"secrets/{name} (was {name.upper().replace('-', '_')})" for name in moved.split())
        raise Stop(f".env holds secrets, which anyone who may use Docker could read: move them to {files}")
    request = Request(
        site=site,
        other_sites=_names(sites),
        listened=_listened(site, settings),
        tls=tls == "on",
        names=_names(names),
        uplink_password=uplink_password or secret_from(secrets, "uplink-password"),
        uplink_ca=uplink_ca,
        releases_root=releases_root,
        site_influx_token=site_influx_token or secret_from(secrets, "site-influx-token"),
        influx_token=influx_token or secret_from(secrets, "influx-token"),
        camera_login=secret_from(secrets, "camera-login"),
        own_certificates=certificates,
    )
    if tls not in ("", "on"):
        raise typer.BadParameter(f'"{tls}" is neither "on" nor empty', param_hint="TLS")
    Vault(vault).make(request, dt.datetime.now(dt.UTC))
    others = f", uplink also for {', '.join(request.other_sites)}" if request.other_sites else ""
    typer.echo(f"secrets are ready: site {site}{others}; TLS is {'on' if request.tls else 'off'}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _listened(site: str, file: Path | None) -> tuple[str, ...]:
    """Return the other programs' topics in the settings, if there are settings.

    Secrets are left out: the settings may name files that `init` is about to write.
    """
    environ = {f"TIERWISE_{section}__{key}_FILE".upper().replace(".", "__"): "" for section, key in SECRETS.items()}
    environ |= {key: value for key, value in os.environ.items() if key == FILE_VARIABLE} | {"TIERWISE_SITE": site}
    streams = Settings.load(file, environ).streams.values()
    return tuple(stream.topic for stream in streams if stream.topic)
