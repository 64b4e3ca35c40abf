"""`tierwise version`."""

from __future__ import annotations

import typer

from agents.role import telemetry


def version() -> None:
    """Which version this is."""
    typer.echo(telemetry.version())
