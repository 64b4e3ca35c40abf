"""`tierwise health [ROLE]`: what the roles that run on this machine say about themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from agents.cli.options import AsJson, SettingsFile
from agents.up.health_probe import print_health


def health(
    role: Annotated[str, typer.Argument(help="One role; otherwise all that run here.")] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Ask the roles of this machine how they are. Exit code 0: all of them are ready."""
    raise typer.Exit(print_health(role, as_json=as_json, settings=settings))
