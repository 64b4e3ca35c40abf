"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", "-s", help="The settings file; otherwise $TIERWISE_SETTINGS, otherwise ./tierwise.toml."
    ),
]

ParentPid = Annotated[int | None, typer.Option("--parent-pid", hidden=True)]
"""Of roles: end when this process, their parent, is gone."""

EdgeModelTitle = Annotated[
    str,
    typer.Option(
        "--edge-model",
        metavar="NAME@VERSION",
        help="A model of your own for families; otherwise `edge.model` of the settings, otherwise the released one.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
