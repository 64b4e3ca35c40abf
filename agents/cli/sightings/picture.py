"""`tierwise sightings picture EVENT`: the picture of an event, from the ring that stays on its device.

Pictures do not travel: run it where the device agent runs, as its user.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import EVENT_HELP, SettingsFile
from agents.client.pictures import find_picture
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings


def picture(
    event: Annotated[str, typer.Argument(metavar="EVENT", help=EVENT_HELP)],
    out: Annotated[Path | None, typer.Option(help="Copy the picture to this file.")] = None,
    settings: SettingsFile = None,
) -> None:
    """Print the path of an event's picture on this device; with --out copy it."""
    loaded = Settings.load(settings)
    try:
        found = find_picture(loaded, event)
    except Rejected as error:
        if error.reason != "unknown-event":
            raise
        raise Stop(
            f"{event}: no picture here. The ring keeps {loaded.device.pictures_mib} MiB of at most "
            f"{loaded.device.pictures_days} days, on the device that took it and nowhere else"
        ) from None
    if out is not None:
        shutil.copyfile(found, out)
        found = out
    typer.echo(str(found))
