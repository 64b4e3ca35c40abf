"""Compare frames of a fixed camera trap with the background of their place, by day and by night.

A camera trap takes a few frames a visit, with hours between visits. A background that follows frame by frame
(`models.vision.motion`) would keep the first animal as a ghost and start again at every dusk. Here the background of a
frame is the median of earlier frames of the same light, day or infrared night, without the frames of its own visit::

    frame --grey_frame--> GreyFrame --background--> motion.BackgroundModel --parts--> where something moved
          --PlaceModel--> View: the vector of what moved, and the general head's prediction

Example::

    glimpses = [grey_frame(frame) for frame in frames]
    view = PlaceModel.open().predict(frames[9], parts(glimpses[9], background(glimpses, events, 9)), glimpses[9].night)
    view.vector          # uint8 (256,), of the part that moved

Source: the temporal median as a background, Cucchiara et al. 2003 (IEEE TPAMI 25:1337).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.vision import motion
from models.vision.tier_models import Picture

NIGHT_BELOW = 6.0
"""A frame is lit by an infrared lamp if its colour channels differ by less, on average (grey levels; JPEG causes a
few)."""

BACKGROUND_FRAMES = 15
"""The number of earlier frames in a background: a few visits, so that no animal is in half of them."""

BACKGROUND_LEAST = 5
"""With fewer earlier frames, later frames are added: at the start of a sequence, or of its first night."""


@dataclass(frozen=True, slots=True, eq=False)
class GreyFrame:
    """A small grey frame for backgrounds: float32 (h, w), quartiles of brightness, and `night`."""

    grey: NDArray[np.float32]
    quartiles: tuple[float, float, float]
    night: bool


Grey = NDArray[np.float32]


def grey_frame(frame: Picture) -> GreyFrame:
    """Make the grey frame of BGR uint8 (height, width, 3)."""
    small = cv2.resize(frame, (48, 36), interpolation=cv2.INTER_AREA).astype(np.int16)
    grey = motion.grey(frame)
    low, middle, high = np.percentile(grey, (25, 50, 75)).tolist()
    return GreyFrame(grey, (low, middle, high), bool((small.max(2) - small.min(2)).mean() < NIGHT_BELOW))


def background(glimpses: Sequence[GreyFrame], events: Sequence[str], at: int) -> motion.BackgroundModel | None:
    """Return the place without the visit of frame `at`, in that frame's light, or None without other frames."""
    now = glimpses[at]
    alike = [
        other
        for other, frame in enumerate(glimpses)
        if frame.night == now.night and events[other] != events[at] and frame.grey.shape == now.grey.shape
    ]
    earlier = [other for other in alike if other < at]
    chosen = earlier[-BACKGROUND_FRAMES:]
    if len(chosen) < BACKGROUND_LEAST:
        chosen += alike[len(earlier) :][: BACKGROUND_LEAST - len(chosen)]
    if not chosen:
        return None
    lit = np.stack([_in_light_of(now, glimpses[other]) for other in chosen])
    mean = np.median(lit, axis=0).astype(np.float32)
    # A normal distribution's standard deviation is 1.48 times its median deviation.
    noise = 1.48 * np.median(np.abs(lit - mean), axis=0)
    return motion.BackgroundModel(mean, noise.astype(np.float32), len(chosen))


def _in_light_of(now: GreyFrame, other: GreyFrame) -> Grey:
    """Adapt another frame to the brightness of this one, by quartiles, which a small animal does not change."""
    low, middle, high = now.quartiles
    other_low, other_middle, other_high = other.quartiles
    gain = (high - low) / max(1.0, other_high - other_low)
    return np.asarray((other.grey - other_middle) * gain + middle, np.float32)
