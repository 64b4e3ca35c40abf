"""The photos before the demo's cameras: from scikit-image's wheel, panned and zoomed as a camera would see them.

The photos are in the public domain or CC0, as scikit-image's documentation of `skimage.data` says: the cat Chelsea
(CC0, Stéfan van der Walt), the astronaut Eileen Collins (NASA, public domain), a cup of coffee (CC0, Rachel
Michetti). They are read from the installed wheel; no photo is part of Tierwise.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from models.vision import images
from pipeline.errors import Stop

FRAME_PX: Final = (640, 480)
"""Width and height of the demo's cameras: VGA, as many cheap cameras send."""

JPEG_QUALITY: Final = 85


@dataclass(frozen=True, slots=True)
class DemoScene:
    """One subject that comes into the view of one camera."""

    stream: str
    photo: str
    subject: str
    """The subject in words."""


SCENES: Final = (
    DemoScene("cam1/garden", "chelsea.png", "a cat"),
    DemoScene("cam2/door", "astronaut.png", "a person"),
    DemoScene("cam3/kitchen", "coffee.png", "a cup of coffee"),
)


def photo_folder() -> Path:
    """Return the folder of scikit-image's photos. Raises `Stop` if it is not installed."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise Stop(
            "the demo's photos come with scikit-image: pip install 'tierwise[demo]', or use your own: --source DIR"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def frames(photo: images.Picture, count: int, start: int = 0) -> Iterator[images.Picture]:
    """Yield `count` views of a photo, (480, 640, 3) uint8 BGR: zoomed between the whole and three quarters, and panned.

    `start` is where an earlier visit ended, so that no two visits are the same.
    """
    width, height = FRAME_PX
    rows, columns = photo.shape[:2]
    for index in range(start, start + count):
        zoom = 0.875 + 0.125 * math.cos(index / 2.0)
        high = min(rows, columns * height / width) * zoom
        wide = high * width / height
        left = (columns - wide) * (0.5 + 0.5 * math.sin(index / 3.0))
        top = (rows - high) * (0.5 + 0.5 * math.cos(index / 5.0))
        corners = np.array([[left, top], [left + wide, top], [left, top + high]], np.float32)
        view = cv2.getAffineTransform(corners, np.array([[0, 0], [width, 0], [0, height]], np.float32))
        yield np.asarray(cv2.warpAffine(photo, view, FRAME_PX, flags=cv2.INTER_LINEAR), np.uint8)


def jpegs(scene: DemoScene, count: int, start: int = 0) -> Iterator[bytes]:
    """Yield the frames of one visit as JPEGs."""
    photo = images.decode((photo_folder() / scene.photo).read_bytes())
    for frame in frames(photo, count, start):
        yield images.encode_jpeg(frame, JPEG_QUALITY)
