"""`tierwise credentials`: print logins for people, from the secrets that `tierwise init` made.

$ docker compose run --rm init credentials
MQTT of this site      localhost:1883
  camera               q3X…              publishes photos and readings
  ...
$ docker compose run --rm init credentials --site barn     # lines for the .env of another site
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import typer

from agents.cli.deploying.init import VaultFolder
from agents.cli.options import AsJson
from agents.deploy.logins import CAMERA, HOME_ASSISTANT, KAFKA_READER, OWNER, VIEWER
from agents.deploy.vault import Vault, invitation, uplink_password

NAME_WIDTH: Final = 16
PASSWORD_WIDTH: Final = 34


class Login(NamedTuple):
    """A login of a person at a server."""

    where: str
    name: str
    secret: str
    """Name of the secret in the vault."""
    purpose: str


LOGINS: Final = (
    Login("mqtt", CAMERA, f"mqtt.{CAMERA}", "publishes photos and readings"),
    Login("mqtt", VIEWER, f"mqtt.{VIEWER}", "reads answers that may leave their device"),
    Login("mqtt", OWNER, f"mqtt.{OWNER}", "both, and reads private answers: the user's own clients"),
    Login("mqtt", HOME_ASSISTANT, f"mqtt.{HOME_ASSISTANT}", "for Home Assistant's MQTT integration"),
    Login("grafana", "admin", "grafana.admin", "dashboards of public data"),
    Login("site-grafana", "admin", "site-grafana.admin", "dashboards of this site"),
    Login("influxdb", "admin", "influxdb.admin", "time series of public data"),
    Login("site-influxdb", "admin", "site-influxdb.admin", "time series of this site"),
    Login("kafka", KAFKA_READER, f"kafka.{KAFKA_READER}", "reads every topic (SASL PLAIN)"),
)
"""Logins of people. The logins of services are not shown, since no person types them."""

TITLES: Final = {
    "mqtt": "MQTT of this site",
    "grafana": "Grafana",
    "site-grafana": "Grafana of this site",
    "influxdb": "InfluxDB",
    "site-influxdb": "InfluxDB of this site",
    "kafka": "Kafka, with TLS=on",
}


def credentials(
    vault: VaultFolder,
    site: Annotated[str, typer.Option(help="Print what this other site needs to use our uplink.")] = "",
    password: Annotated[
        bool, typer.Option("--password", help="With --site: print only its password, for its uplink-password file.")
    ] = False,
    addresses: Annotated[
        str,
        typer.Option(
            envvar="ADDRESSES",
            help="The address of each server, as mqtt=localhost:1883, with commas between.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print names, passwords and addresses for people; or an invitation for another site."""
    kept = Vault(vault)
    where = dict(pair.split("=", 1) for pair in addresses.split(",") if "=" in pair)
    if password:
        if not site:
            raise typer.BadParameter("name the site: --site NAME --password", param_hint="--password")
        typer.echo(uplink_password(kept, site))
        return
    if site:
        for line in invitation(kept, site, where.get("uplink", "localhost:8884")):
            typer.echo(line)
        return
    found = list(_known(kept))
    if not found:
        typer.echo("no secrets yet: `docker compose up -d` makes them", err=True)
        raise typer.Exit(1)
    if as_json:
        for login, secret in found:
            typer.echo(
                json.dumps(
                    {
                        "where": login.where,
                        "address": where.get(login.where, ""),
                        "name": login.name,
                        "password": secret,
                    }
                )
            )
        return
    shown = ""
    for login, secret in found:
        if login.where != shown:
            shown = login.where
            typer.echo(f"{TITLES[shown]:<{NAME_WIDTH + 6}} {where.get(shown, '')}".rstrip())
        typer.echo(f"  {login.name:<{NAME_WIDTH}} {secret:<{PASSWORD_WIDTH}} {login.purpose}")


def _known(vault: Vault) -> Iterator[tuple[Login, str]]:
    for login in LOGINS:
        secret = vault.known(login.secret)
        if secret is not None:
            yield login, secret
