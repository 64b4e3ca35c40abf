"""The option that chooses the model of the device. It imports models, so it does not stand in `options`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from models.shipped import BACKBONE, GLIMPSE


class DeviceModelName(StrEnum):
    """The models that a device can use."""

    lite0 = BACKBONE
    glimpse = GLIMPSE


SeesWith = Annotated[
    DeviceModelName,
    typer.Option("--device-model", help="The model of the device: the backbone, or the network for weak devices."),
]
