"""`tierwise settings`: check the settings file, or print one to start from."""

from __future__ import annotations

import typer

from agents.cli.options import SettingsFile
from pipeline.settings.settings import STARTER, Settings


def check(settings: SettingsFile = None) -> None:
    """Read the settings as every role does. Exit code 0: they can be used."""
    loaded = Settings.load(settings)
    typer.echo(
        f"good: site {loaded.site}, {len(loaded.streams)} streams, {len(loaded.rules)} rules, data in {loaded.data_dir}"
    )


def starter() -> None:
    """Print starter settings: one camera and one room, with a comment on each line."""
    typer.echo(STARTER, nl=False)
