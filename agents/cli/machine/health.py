"""`tierwise health [ROLE]`: whether the roles of this machine are ready."""

from __future__ import annotations

from typing import Annotated

import typer

from agents.cli.options import AsJson, SettingsFile
from agents.up.health_probe import print_health


def health(
    role: Annotated[str, typer.Argument(help="One role; default: all that run here.")] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Show whether the roles of this machine are ready. Exit code 0: all of them are."""
    raise typer.Exit(print_health(role, as_json=as_json, settings=settings))
