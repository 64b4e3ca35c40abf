"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", "-s", help="The settings file; otherwise $TIERWISE_SETTINGS, otherwise ./tierwise.toml."
    ),
]

ParentPid = Annotated[int | None, typer.Option("--parent-pid", hidden=True)]
"""A role ends when its parent, the process with this id, has ended."""

EdgeModelTitle = Annotated[
    str,
    typer.Option(
        "--edge-model",
        metavar="NAME@VERSION",
        help="A model of your own for families; otherwise `edge.model` of the settings, otherwise the released one.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

EVENT_HELP: Final = "An event: its id, 4 or more characters of it, or `last`."

By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who labels; otherwise who is logged in here.")]

Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="The event's device, if the edge of this machine does not know it."
    ),
]
