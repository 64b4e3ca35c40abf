"""The pictures that the device agent of this machine keeps, for the commands that its user runs."""

from __future__ import annotations

from pathlib import Path

from agents.client import event_ids
from agents.device.picture_ring import Pictures, kept
from pipeline.errors import Stop
from pipeline.settings.settings import Settings


def folder(settings: Settings) -> Path:
    """Return where the device agent keeps pictures, named by their events."""
    return settings.data_dir / "device" / "pictures"


def picture_of(settings: Settings, event: str) -> Path | None:
    """Return the picture of an event; None if it is no longer kept. Raises `OSError` for another user's pictures."""
    return Pictures(
        folder(settings),
        max_bytes=settings.device.pictures_mib << 20,
        max_days=settings.device.pictures_days,
    ).find(event)


def find_picture(settings: Settings, text: str) -> Path:
    """Return the picture of an event: `last`, a whole id, or any part of one.

    Raises
    ------
    Rejected
        ``event-invalid``: no part of an id; ``unknown-event``; ``event-ambiguous``, with the candidates.
    Stop
        The pictures belong to another user.
    """
    try:
        found = {path.stem: path for path in kept(folder(settings))}
    except PermissionError:
        raise Stop(f"{folder(settings)} belongs to another user: run this as the device's own") from None
    return found[event_ids.find(text, list(found), "with a picture on this device")]
