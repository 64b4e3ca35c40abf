"""`tierwise picture EVENT`: the picture of an answer, from the ring that stays on its device.

There is no way to another machine's pictures: run it where the device agent runs, as its user.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, Final

import typer

from agents.cli.options import SettingsFile
from agents.device.picture_ring import Pictures
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

EVENT: Final = re.compile(r"[0-9a-f-]{8,36}")
"""An event's id, or as much of its end as `watch` shows."""


def picture(
    event: Annotated[str, typer.Argument(help="The event's id, or the last part of it as `watch` shows it.")],
    out: Annotated[Path | None, typer.Option(help="Copy the picture to this file.")] = None,
    settings: SettingsFile = None,
) -> None:
    """Where the picture of an event lies on this device; with --out a copy of it."""
    loaded = Settings.load(settings)
    if EVENT.fullmatch(event) is None:
        raise Rejected("event-invalid", f"{event}: no event's id; copy one from `tierwise watch`")
    ring = Pictures(
        loaded.data_dir / "device" / "pictures",
        max_bytes=loaded.device.pictures_mib << 20,
        max_days=loaded.device.pictures_days,
    )
    try:
        found = ring.find(event if len(event) == len("00000000-0000-0000-0000-000000000000") else f"*{event}")
    except PermissionError:
        raise Stop(
            f"{loaded.data_dir}: pictures are for this device's own user; you are another one"
        ) from None
    if found is None:
        raise Stop(
            f"{event}: no picture here. The ring keeps {loaded.device.pictures_mib} MiB of at most "
            f"{loaded.device.pictures_days} days, on the device that took it and nowhere else"
        )
    if out is not None:
        shutil.copyfile(found, out)
        found = out
    typer.echo(str(found))
