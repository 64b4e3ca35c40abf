"""What a device sees with: the backbone where it keeps up, `glimpse` where it does not; decided before the first frame.

::

    device.backbone = "on"  ──────────────────────────────> lite0
                      "off" ──────────────────────────────> glimpse
                      "auto" ──> how long does lite0 take? ──> lite0 up to KEEPS_UP_MS, else glimpse

The backbone's person check is the one that pixels may leave by. `glimpse` misses more: what it misses is in its
manifest, and `device.person_miss_rate` says whether crops may leave by its word (rule `person-check-too-weak`).
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
"""Processor time that a frame may take on the backbone: of four cameras with a frame a second each, one worker that takes longer never
catches up."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model a device sees with, and why."""

    model: str
    reason: str


def choose(settings: Settings, measured_ms: Callable[[], float]) -> Choice:
    """The model by the settings; `measured_ms` (milliseconds a frame on the backbone) is asked only where it decides."""
    device = settings.device
    if device.backbone == "on":
        return Choice(BACKBONE, 'device.backbone = "on"')
    if device.backbone == "off":
        return Choice(GLIMPSE, 'device.backbone = "off"')
    if device.send == "vector" or Privacy.USER_PRIVATE in settings.uplink.sealed:
        return Choice(BACKBONE, "the settings ask the device for vectors, which it makes")
    took_ms = measured_ms()
    if took_ms <= KEEPS_UP_MS:
        return Choice(BACKBONE, f"it takes {took_ms:.0f} ms a frame here, at most {KEEPS_UP_MS:.0f}")
    return Choice(GLIMPSE, f"{BACKBONE} takes {took_ms:.0f} ms a frame here, more than {KEEPS_UP_MS:.0f}")


def open_device_model(settings: Settings, zoo: Zoo) -> tuple[DeviceModel, str]:
    """The eye that `choose` says, and a word about it for `/health` and the log."""
    backbone = None if settings.device.backbone == "off" else zoo.device_model(BACKBONE)
    choice = choose(settings, lambda: backbone.measure_ms() if backbone else 0.0)
    eye = backbone if backbone and choice.model == BACKBONE else zoo.device_model(choice.model)
    return eye, f"{eye.name}: {choice.reason}"
