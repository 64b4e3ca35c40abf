"""`tierwise init`: every secret of a deployment, made once. What the compose stack runs before anything else.

$ tierwise init --vault /secrets
made for site home: logins for 4 people and 13 services; TLS is off
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from agents.deploy.vault import Request, Vault

VaultFolder = Annotated[
    Path,
    typer.Option("--vault", envvar="VAULT", help="Folder of all secrets, a room in it for each service."),
]


def init(
    vault: VaultFolder = Path("/secrets"),
    site: Annotated[str, typer.Option(envvar="SITE", help="This site's name.")] = "home",
    sites: Annotated[
        str, typer.Option(envvar="SITES", help="Other sites that may use this uplink, comma between.")
    ] = "",
    tls: Annotated[str, typer.Option(envvar="TLS", help="`on`: certificates, and ports with TLS.")] = "",
    names: Annotated[
        str,
        typer.Option(envvar="PUBLIC_NAMES", help="Host names and addresses for certificates, comma between."),
    ] = "",
    certificates: Annotated[
        Path | None,
        typer.Option(envvar="CERTIFICATES", help="Folder of your own server.pem and server-key.pem."),
    ] = None,
    uplink_password: Annotated[
        str, typer.Option(envvar="UPLINK_PASSWORD", help="Of an invitation to another uplink.")
    ] = "",
    uplink_ca: Annotated[
        str, typer.Option(envvar="UPLINK_CA", help="Its authority: a PEM file in Base64.")
    ] = "",
    releases_root: Annotated[
        str, typer.Option(envvar="RELEASES_ROOT", help="What `tierwise releases root --line` printed.")
    ] = "",
    site_influx_token: Annotated[
        str, typer.Option(envvar="SITE_INFLUX_TOKEN", help="Of your own InfluxDB, for this site.")
    ] = "",
    influx_token: Annotated[
        str, typer.Option(envvar="INFLUX_TOKEN", help="Of your own InfluxDB, for the cloud.")
    ] = "",
) -> None:
    """Make logins, certificates and broker configuration; what is there stays as it is."""
    request = Request(
        site=site,
        other_sites=_words(sites),
        tls=tls == "on",
        names=_words(names),
        uplink_password=uplink_password,
        uplink_ca=uplink_ca,
        releases_root=releases_root,
        site_influx_token=site_influx_token,
        influx_token=influx_token,
        own_certificates=certificates,
    )
    if tls not in ("", "on"):
        raise typer.BadParameter(f'"{tls}" is neither "on" nor empty', param_hint="TLS")
    Vault(vault).make(request, dt.datetime.now(dt.UTC))
    others = f", uplink also for {', '.join(request.other_sites)}" if request.other_sites else ""
    typer.echo(f"secrets are ready: site {site}{others}; TLS is {'on' if request.tls else 'off'}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
