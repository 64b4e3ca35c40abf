"""`tierwise provision kafka|influx`: give logins their rights at the servers, once these run.

$ tierwise provision kafka
topics are there; 68 rights are given
$ tierwise provision influx --token edge=write:/login/edge/influx-token
bucket tierwise keeps 30 days; tokens for edge
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, TypeVar, cast

import typer

from agents.cli.options import SettingsFile
from agents.deploy.influx import Influx
from agents.deploy.logins import AT_KAFKA
from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.rights import Right
from pipeline.settings.settings import KafkaSettings, Settings

PATIENCE_S: Final = 120.0
"""A server that was just started has this long to answer."""
RETRY_S: Final = 2.0

T = TypeVar("T")


def kafka(
    settings: SettingsFile = None,
    commands: Annotated[
        bool, typer.Option("--commands", help="Only print the commands of Kafka's own tools that do the same.")
    ] = False,
) -> None:
    """Make Kafka's topics, and give each role's login its rights."""
    from pipeline import kafka as cluster  # needs an extra that an edge's machine may lack

    loaded = Settings.load(settings).kafka
    if commands:
        typer.echo("\n".join(kafka_commands(AT_KAFKA, cluster.topic_configurations(loaded), loaded)))
        return
    patiently(lambda: cluster.create_topics(loaded))
    rights = patiently(lambda: cluster.grant(loaded, AT_KAFKA))
    typer.echo(f"topics are there; {rights} rights are given")


def kafka_commands(
    rights: Iterable[Right], configurations: Mapping[str, Mapping[str, str]], kafka: KafkaSettings
) -> list[str]:
    """Return commands of Kafka's own tools for an administrator, who may rename the logins. Pure."""
    server = f"--bootstrap-server {kafka.servers[0]} --command-config admin.properties"
    created = [
        f"kafka-topics.sh {server} --create --if-not-exists --topic {name} --partitions {topics.PARTITIONS} "
        f"--replication-factor {kafka.replication}"
        + "".join(f" --config {key}={value}" for key, value in configuration.items())
        for name, configuration in configurations.items()
    ]
    return created + [
        f"kafka-acls.sh {server} --add --allow-principal User:{right.login} --{right.kind.lower()} {right.name}"
        + (" --resource-pattern-type prefixed" if right.prefixed else "")
        + "".join(f" --operation {operation.title()}" for operation in right.operations)
        for right in rights
    ]


class Token(NamedTuple):
    """A token to make: for whom, for which action, and the file that gets it."""

    name: str
    action: Literal["read", "write"]
    file: Path

    @classmethod
    def parse(cls, text: str) -> Token:
        """Parse ``NAME=read:FILE`` or ``NAME=write:FILE``."""
        name, _, rest = text.partition("=")
        action, _, file = rest.partition(":")
        if action not in ("read", "write") or not name or not file:
            raise typer.BadParameter(f'"{text}": write NAME=read:FILE or NAME=write:FILE', param_hint="--token")
        return cls(name, cast('Literal["read", "write"]', action), Path(file))


def influx(
    url: Annotated[str, typer.Option(envvar="INFLUX_URL")],
    admin_token_file: Annotated[Path, typer.Option(envvar="INFLUX_ADMIN_TOKEN_FILE")],
    token: Annotated[list[str], typer.Option(help="NAME=read:FILE or NAME=write:FILE; several times.")],
    org: Annotated[str, typer.Option()] = "tierwise",
    bucket: Annotated[str, typer.Option()] = "tierwise",
    keep_days: Annotated[int, typer.Option(envvar="INFLUX_KEEP_DAYS", min=1)] = 30,
    grafana_file: Annotated[
        Path | None, typer.Option(help="Also write Grafana's data source here, with the token of `grafana`.")
    ] = None,
) -> None:
    """Make InfluxDB's bucket and a token for each user; a token that the server still accepts stays."""
    wanted_tokens = [Token.parse(text) for text in token]
    server = Influx(url, _read(admin_token_file), org)
    bucket_id = patiently(lambda: server.bucket(bucket, keep_days))
    for wanted in wanted_tokens:
        kept = _read(wanted.file) if wanted.file.exists() else ""
        if not kept or not patiently(lambda: server.accepts(kept, wanted.action, bucket_id)):  # noqa: B023  # called at once
            secret = patiently(lambda: server.renew_token(wanted.name, wanted.action, bucket_id))  # noqa: B023
            _write(wanted.file, secret)
        if wanted.name == "grafana" and grafana_file is not None:
            _write(grafana_file, data_source(url, org, bucket, _read(wanted.file)))
    typer.echo(f"bucket {bucket} keeps {keep_days} days; tokens for {', '.join(each.name for each in wanted_tokens)}")


def data_source(url: str, org: str, bucket: str, token: str) -> str:
    """Return Grafana's provisioning file for InfluxDB, in Flux. YAML takes JSON's strings as they are."""
    return f"""\
# Written by `tierwise provision influx`.
apiVersion: 1
datasources:
  - name: Tierwise
    uid: tierwise
    type: influxdb
    access: proxy
    isDefault: true
    editable: false
    url: {url}
    jsonData:
      version: Flux
      organization: {org}
      defaultBucket: {bucket}
      timeInterval: 10s
    secureJsonData:
      token: "{token}"
"""


def patiently(call: Callable[[], T]) -> T:
    """Return the result of a call, also from a server that is still starting. Raises its `Retry` after `PATIENCE_S`."""
    wait = threading.Event()
    for _ in range(round(PATIENCE_S / RETRY_S)):
        try:
            return call()
        except Retry:
            wait.wait(RETRY_S)
    return call()


def _read(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError as error:
        raise Stop(f"{file}: cannot be read ({error.strerror}): `tierwise init` makes it") from None


def _write(file: Path, content: str) -> None:
    """Write a file completely or not at all. All may read it: its folder admits only its service and us."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_text(content, "utf-8")
        fresh.chmod(0o644)
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(file)
    except OSError as error:
        raise Stop(f"{file}: cannot be written: {error.strerror}") from None
