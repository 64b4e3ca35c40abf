"""What a fixed camera sees that was not there before: a frame against its place's own background, by day and by night.

A camera trap takes a few frames a visit and hours lie between visits, so a background that follows frame by frame
(`models.vision.motion`) keeps the first animal as a ghost and starts anew at every dusk. Here the background of a frame is the
median of earlier frames of its regime, day or infrared night, in which its own visit has no part::

    frame --glimpsed--> Glimpse (grey, night?) --background--> motion.Background --parts--> where something moved
          --PlaceModel--> View: the vector of what moved, and what the general head says of it

Example::

    glimpses = [glimpsed(frame) for frame in frames]
    view = PlaceModel.open().predict(frames[9], parts(glimpses[9], background(glimpses, events, 9)), glimpses[9].night)
    view.vector          # uint8 (256,): of what moved

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
"""A frame whose pixels' channels differ by less, on average, is an infrared lamp's (grey levels; JPEG makes a few)."""

BACKGROUND_FRAMES = 15
"""So many earlier frames make a background: a few visits, so that no animal is in half of them."""

BACKGROUND_LEAST = 5
"""With fewer, frames that come later help out: at a sequence's start, or its first night."""


@dataclass(frozen=True, slots=True, eq=False)
class Glimpse:
    """A frame as backgrounds are made from: small and grey, float32 (h, w), its quartiles of brightness; night or day."""

    grey: NDArray[np.float32]
    quartiles: tuple[float, float, float]
    night: bool


Grey = NDArray[np.float32]


def glimpsed(frame: Picture) -> Glimpse:
    """BGR uint8 (height, width, 3)."""
    small = cv2.resize(frame, (48, 36), interpolation=cv2.INTER_AREA).astype(np.int16)
    grey = motion.grey(frame)
    low, middle, high = np.percentile(grey, (25, 50, 75)).tolist()
    return Glimpse(grey, (low, middle, high), bool((small.max(2) - small.min(2)).mean() < NIGHT_BELOW))


def background(glimpses: Sequence[Glimpse], events: Sequence[str], at: int) -> motion.Background | None:
    """The place without the visit that frame `at` belongs to, in that frame's light; None where no other frame shows it."""
    now = glimpses[at]

    alike = [
        other
        for other, its in enumerate(glimpses)
        if its.night == now.night and events[other] != events[at] and its.grey.shape == now.grey.shape
    ]
    earlier = [other for other in alike if other < at]
    chosen = earlier[-BACKGROUND_FRAMES:]
    if len(chosen) < BACKGROUND_LEAST:
        chosen += alike[len(earlier) :][: BACKGROUND_LEAST - len(chosen)]
    if not chosen:
        return None
    lit = np.stack([_in_light_of(now, glimpses[other]) for other in chosen])
    mean = np.median(lit, axis=0).astype(np.float32)
    # 1.48 times the median deviation is a normal distribution's standard deviation.
    noise = 1.48 * np.median(np.abs(lit - mean), axis=0)
    return motion.Background(mean, noise.astype(np.float32), len(chosen))


def _in_light_of(now: Glimpse, other: Glimpse) -> Grey:
    """Another frame with this one's middle and spread of brightness, by quartiles, which a small animal does not move."""
    low, middle, high = now.quartiles
    its_low, its_middle, its_high = other.quartiles
    gain = (high - low) / max(1.0, its_high - its_low)
    return np.asarray((other.grey - its_middle) * gain + middle, np.float32)
