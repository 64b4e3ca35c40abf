"""Choose the model of a device before the first frame: the backbone if it is fast enough, or else `glimpse`.

::

    device.backbone = "on"  ──────────────────────────────> lite0
                      "off" ──────────────────────────────> glimpse
                      "auto" ──> measure lite0 ──> lite0 up to KEEPS_UP_MS, else glimpse

Policy lets pixels leave a device on the strength of its person check. The check of `glimpse` misses more persons than
that of the backbone. Its manifest holds the rate, and `device.person_miss_rate` decides whether crops may leave a
device that runs it (rule `person-check-too-weak`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from models.shipped import BACKBONE, GLIMPSE, Zoo
from models.vision.tier_models import DeviceModel
from pipeline.messages import Privacy
from pipeline.settings.settings import Settings

KEEPS_UP_MS: Final = 250.0
"""Processor time that a frame may take on the backbone: with four cameras of one frame a second each, a worker that
takes longer never catches up."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model of a device, and the reason for it."""

    model: str
    reason: str


def choose(settings: Settings, measured_ms: Callable[[], float]) -> ModelChoice:
    """Choose a model by the settings. Call `measured_ms` (a frame on the backbone) only if they leave it open."""
    device = settings.device
    if device.backbone == "on":
        return ModelChoice(BACKBONE, 'device.backbone = "on"')
    if device.backbone == "off":
        return ModelChoice(GLIMPSE, 'device.backbone = "off"')
    if device.send == "vector" or Privacy.USER_PRIVATE in settings.uplink.sealed:
        return ModelChoice(BACKBONE, "the settings ask the device for vectors, which only this model makes")
    took_ms = measured_ms()
    if took_ms <= KEEPS_UP_MS:
        return ModelChoice(BACKBONE, f"it takes {took_ms:.0f} ms a frame here, at most {KEEPS_UP_MS:.0f}")
    return ModelChoice(GLIMPSE, f"{BACKBONE} takes {took_ms:.0f} ms a frame here, more than {KEEPS_UP_MS:.0f}")


def open_device_model(settings: Settings, zoo: Zoo) -> tuple[DeviceModel, str]:
    """Open the model that `choose` names, and return it with the reason, for `/health` and the log."""
    backbone = None if settings.device.backbone == "off" else zoo.device_model(BACKBONE)
    choice = choose(settings, lambda: backbone.measure_ms() if backbone else 0.0)
    model = backbone if backbone and choice.model == BACKBONE else zoo.device_model(choice.model)
    return model, f"{model.name}: {choice.reason}"
