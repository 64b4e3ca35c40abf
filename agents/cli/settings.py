"""`tierwise settings`: check the settings file, or print one to start from."""

from __future__ import annotations

import typer

from agents.cli.options import SettingsFile
from pipeline.settings.settings import STARTER, Settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def check(settings: SettingsFile = None) -> None:
    """Read the settings as every role does; the exit code says whether they can be used."""
    loaded = Settings.load(settings)
    typer.echo(
        f"good: site {loaded.site}, {len(loaded.streams)} streams, {len(loaded.rules)} rules, data in {loaded.data_dir}"
    )


@app.command()
def starter() -> None:
    """Print starter settings: one camera and one room, a reason on every line."""
    typer.echo(STARTER, nl=False)
