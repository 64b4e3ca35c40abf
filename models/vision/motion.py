"""Detect what moved in a frame, so that empty frames of a fixed camera need no model.

For each stream a `BackgroundModel` keeps the running mean and the running noise of a small grey picture. A pixel has
moved if it differs from its mean by more than its own noise explains. A change of light, which changes all pixels
alike, is removed first. The moved part is returned as a box in relative coordinates, with a margin, ready to be
cropped from a larger decoded size of the frame. All functions are pure.

Example::

    background, motion = look(None, frame)        # DetectedMotion(moved=True, box=Box.WHOLE, rule="first-frame")
    background, motion = look(background, frame)   # DetectedMotion(moved=False, rule="nothing-moved")

Source: a running Gaussian average per pixel (Wren et al. 1997, Pfinder), with the change of light taken out by a
robust linear fit of the frame on the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.vision.boxes import Box as Box

# The grey picture's longer side. An animal of 2% of a frame still covers about 100 of its pixels.
GREY_PX = 96
# How fast the background follows: an object that stays becomes background after about 30 frames.
LEARNING_RATE = 0.05
# A pixel has moved if it differs from its mean by this many standard deviations of its own noise...
NOISE_FACTOR = 4.0
# ...and by at least this many grey levels (cameras and JPEG flicker by a few).
LEAST_CHANGE = 12.0
# A smaller share of the frame is a leaf or an insect before the lens.
LEAST_SHARE = 0.004
# A larger share is no object: the camera was turned, or the infrared lamp went on. The whole frame is used then.
SCENE_SHARE = 0.45
# The margin of the crop as a share of its size: the heads know animals in their surroundings.
MARGIN = 0.25

Rule = Literal["first-frame", "moved", "nothing-moved", "scene-changed"]


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundModel:
    """The still picture of a stream: mean and noise of each pixel (grey levels), float32 (h, w)."""

    mean: NDArray[np.float32]
    noise: NDArray[np.float32]
    frames: int


@dataclass(frozen=True, slots=True)
class DetectedMotion:
    """The result for a frame: a `share` of the pixels moved, all within `box` (margin included)."""

    moved: bool
    box: Box
    share: float
    rule: Rule


def small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a BGR frame of any size to a longer side of `GREY_PX`."""
    height, width = frame.shape[:2]
    scale = GREY_PX / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def grey(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a BGR frame as grey float32, longer side `GREY_PX`, slightly blurred against sensor noise."""
    shades = cv2.cvtColor(small(frame), cv2.COLOR_BGR2GRAY).astype(np.float32)
    return cv2.GaussianBlur(shades, (3, 3), 0).astype(np.float32)


def look(background: BackgroundModel | None, frame: NDArray[np.uint8]) -> tuple[BackgroundModel, DetectedMotion]:
    """Compare a frame (BGR, any size) with its stream's background; return the new background and what moved."""
    now = grey(frame)
    if background is None or background.mean.shape != now.shape:
        return _start(now), DetectedMotion(True, Box.WHOLE, 1.0, "first-frame")
    change = np.abs(now - _lit_as(now, background.mean))
    moved = change > np.maximum(LEAST_CHANGE, NOISE_FACTOR * background.noise)
    regions = _regions(moved)
    share = float(sum(area for _, area in regions)) / moved.size
    if share > SCENE_SHARE:
        return _start(now), DetectedMotion(True, Box.WHOLE, share, "scene-changed")
    learned = _learn(background, now, change, moved)
    if not regions:
        return learned, DetectedMotion(False, Box.WHOLE, share, "nothing-moved")
    boxes = [box for box, _ in regions]
    around = Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )
    return learned, DetectedMotion(True, around.with_margin(MARGIN), share, "moved")


def parts(background: BackgroundModel, now: NDArray[np.float32]) -> tuple[Box, ...]:
    """Return where a frame from `grey` differs from a background: the largest region first, with margins.

    This is the whole frame if more than `SCENE_SHARE` of it differs, and nothing if nothing does.
    """
    change = np.abs(now - _lit_as(now, background.mean))
    regions = _regions(change > np.maximum(LEAST_CHANGE, NOISE_FACTOR * background.noise))
    if sum(area for _, area in regions) > SCENE_SHARE * now.size:
        return (Box.WHOLE,)
    return tuple(box.with_margin(MARGIN) for box, _ in sorted(regions, key=lambda region: -region[1]))


def _start(now: NDArray[np.float32]) -> BackgroundModel:
    return BackgroundModel(now, np.full_like(now, LEAST_CHANGE / NOISE_FACTOR), 1)


def _lit_as(now: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background in the frame's light: mean * gain + lift, fitted on the half of the pixels that fit best.

    Moving things distort the first fit over all pixels; the second fit leaves the worse half out.
    """
    fits = np.ones(now.shape, bool)
    lit = mean
    for _ in range(2):
        x, y = mean[fits], now[fits]
        spread = float(x.var())
        gain = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1.0 else 1.0
        gain = min(max(gain, 0.5), 2.0)
        lit = (mean * gain + (float(y.mean()) - gain * float(x.mean()))).astype(np.float32)
        residual = np.abs(now - lit)
        fits = residual <= np.median(residual)
    return lit


def _regions(moved: NDArray[np.bool_]) -> list[tuple[Box, int]]:
    """Return the connected regions that are large enough, as boxes with their areas in pixels."""
    closed = cv2.morphologyEx(moved.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    height, width = moved.shape
    found = []
    for left, top, wide, high, area in stats[1:count].tolist():
        if area >= LEAST_SHARE * moved.size:
            box = Box(left / width, top / height, (left + wide) / width, (top + high) / height)
            found.append((box, int(area)))
    return found


def _learn(
    background: BackgroundModel,
    now: NDArray[np.float32],
    change: NDArray[np.float32],
    moved: NDArray[np.bool_],
) -> BackgroundModel:
    """Follow the frame; ten times slower where something moved, so that a resting animal stays visible for a while."""
    # The first frames weigh more, so that an unusual first frame is soon forgotten.
    base = max(LEARNING_RATE, 1 / (background.frames + 1))
    rate = np.where(moved, LEARNING_RATE / 10, base).astype(np.float32)
    noise = background.noise + rate * (np.where(moved, background.noise, 1.25 * change) - background.noise)
    return BackgroundModel(
        (background.mean + rate * (now - background.mean)).astype(np.float32),
        noise.astype(np.float32),
        background.frames + 1,
    )
