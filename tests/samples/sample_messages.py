"""What the tests of the agents share: one camera, photos, answers about them, and the released eyes, loaded once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec

from agents.demo.scenes import photo_folder
from models.series.occupancy import OccupancyModel
from models.shipped import load_zoo
from models.site_learning.site_head import BackgroundSums
from models.vision import images
from models.vision.tier_models import CloudModel, DeviceModel, EdgeModel
from pipeline import clock, ids
from pipeline.messages import Event, Levels, Privacy, Rank, Result, Task, Tier
from pipeline.settings.settings import DeviceSettings, Settings, StreamSettings
from pipeline.topics import Parsed

NOW_S = 1_700_000_000.0
SOURCE = "home/cam1/garden"
GARDEN = Parsed("home", "cam1", "frame", "garden")

OPEN = Levels(Privacy.EDGE_PRIVATE, Privacy.PUBLIC, Privacy.PUBLIC, Privacy.EDGE_PRIVATE, Privacy.PUBLIC)
"""Levels of a garden camera that helps the cloud: pictures stay at the site."""

CAMERA = StreamSettings(
    pixels=Privacy.EDGE_PRIVATE,
    feature=Privacy.PUBLIC,
    result=Privacy.PUBLIC,
    reason="as in the starter settings",
)


def settings(folder: Path | str = "data", **changes: Any) -> Settings:
    """One garden camera at home."""
    base = Settings(
        data=str(folder),
        streams={SOURCE: CAMERA},
        device=DeviceSettings(sighting_gap_s=30, edge_deadline_s=10),
    )
    return msgspec.structs.replace(base, **changes)


def event_id(number: int = 1, time_s: float = NOW_S) -> str:
    """The same for the same number and time."""
    return ids.derived(time_s, str(number))


def result(event: str, **changes: Any) -> Result:
    """The device's answer about a frame of the garden, which the edge may still refine."""
    fields: dict[str, Any] = {
        "event": event,
        "time": clock.rfc3339(NOW_S),
        "site": "home",
        "device": "cam1",
        "stream": "garden",
        "sighting": event,
        "task": Task.WILDLIFE,
        "tier": Tier.DEVICE,
        "revision": 1,
        "pending": Tier.EDGE,
        "rank": Rank.KINGDOM,
        "label": "animal",
        "path": ("animal",),
        "probability": 0.9,
        "privacy": Privacy.PUBLIC,
        "rule": "ask-the-edge",
        "reason": "the stream wants species: ask the edge",
        "model": "lite0@1",
        "latency_ms": 30.0,
    }
    return Result(**(fields | changes))


def event(told: Result, **changes: Any) -> Event:
    """What goes to the edge about this answer."""
    fields: dict[str, Any] = {
        "result": told,
        "boot": 1,
        "sequence": 1,
        "received_s": NOW_S,
        "wants": Rank.SPECIES,
        "levels": OPEN,
    }
    return Event(**(fields | changes))


def photo(name: str) -> images.Picture:
    """One of scikit-image's: chelsea.png is a cat, astronaut.png a person, coffee.png a cup."""
    return images.decode((photo_folder() / name).read_bytes())


def photo_jpeg(name: str) -> bytes:
    return images.encode_jpeg(photo(name))


@functools.cache
def device_model() -> DeviceModel:
    return load_zoo().device_model()


@functools.cache
def edge_model() -> EdgeModel:
    return load_zoo().edge_model()


@functools.cache
def background() -> BackgroundSums:
    return BackgroundSums.of(load_zoo().sums())


@functools.cache
def occupancy() -> OccupancyModel:
    return load_zoo().occupancy()


@functools.cache
def cloud_model() -> CloudModel:
    return load_zoo().cloud_model()
