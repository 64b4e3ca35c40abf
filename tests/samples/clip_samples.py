"""Short videos: a grey scene, through which a white square may walk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from models.vision.images import Picture

CODECS = {".avi": "MJPG"}
"""MPEG-4 in all other containers."""


def scene(step: int | None = None) -> Picture:
    """Return the scene, and the square after so many steps."""
    picture = np.full((120, 160, 3), 90, np.uint8)
    if step is not None:
        picture[40:80, 4 * step : 4 * step + 40] = 250
    return picture


def film(path: Path, frames: Sequence[Picture], rate: float = 10.0) -> Path:
    """Write a video of these frames."""
    codec = cv2.VideoWriter_fourcc(*CODECS.get(path.suffix, "mp4v"))  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(path), codec, rate, (160, 120))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def walk(path: Path) -> Path:
    """Write a clip of six seconds in whose fourth second a square walks through the scene."""
    return film(path, [scene(at - 30 if 30 <= at < 40 else None) for at in range(60)])
