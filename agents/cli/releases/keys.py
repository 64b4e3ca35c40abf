"""`tierwise releases root` and `rotate`, on the trainer's machine: public keys for tiers, new keys for signers.

$ tierwise releases root > releases-root.json       # for an edge's data folder, or `releases.root` of its settings
$ tierwise releases root --line                     # the same for the .env of a compose stack
RELEASES_ROOT=eyJzaWduYXR1cmVzIjpbeyJ...
$ tierwise releases rotate timestamp                # its key was stolen: its signatures are void from now on
"""

from __future__ import annotations

import base64
from typing import Annotated

import typer

from agents.cli.options import SettingsFile
from pipeline.clock import SystemClock
from pipeline.errors import Stop
from pipeline.settings.settings import Settings


def root(
    settings: SettingsFile = None,
    line: Annotated[bool, typer.Option("--line", help="As a line for .env.")] = False,
) -> None:
    """Print the root metadata with which tiers verify releases: public keys, nothing secret."""
    from models.releases.repository_files import Shelf

    folder = Settings.load(settings).releases_dir
    data = Shelf(folder).newest_root()
    if data is None:
        raise Stop(f"{folder}: no releases are signed here: run this on the machine where `tierwise trainer` runs")
    typer.echo(f"RELEASES_ROOT={base64.b64encode(data).decode()}" if line else data.decode())


def rotate(
    role: Annotated[str, typer.Argument(help="root, targets, snapshot or timestamp.")],
    settings: SettingsFile = None,
    threshold: Annotated[int | None, typer.Option(help="How many of its keys must sign.")] = None,
    keys: Annotated[int | None, typer.Option(help="How many keys it gets.")] = None,
) -> None:
    """Give a signing role new keys; tiers follow by themselves, from the root that they trust now."""
    from models.releases.repository import Repository

    loaded = Settings.load(settings)
    Repository.of(loaded, SystemClock()).rotate(role, keys=keys, threshold=threshold)
    typer.echo(f"{role} has new keys; a running trainer publishes them within a minute")
