"""The option that says what the device sees with; apart from `options`, which commands without models read, too."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from models.shipped import BACKBONE, GLIMPSE


class DeviceModelName(StrEnum):
    """What a device can see with."""

    lite0 = BACKBONE
    glimpse = GLIMPSE


SeesWith = Annotated[
    DeviceModelName,
    typer.Option(
        "--device-model", help="What the device sees with: the backbone, or the network of weak devices."
    ),
]
