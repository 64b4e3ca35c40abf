"""What a fixed camera sees that was not there before: a frame against its place's own background, by day and by night.

A camera trap takes a few frames a visit and hours lie between visits, so a background that follows frame by frame
(`models.vision.motion`) keeps the first animal as a ghost and starts anew at every dusk. Here the background of a frame is the
median of earlier frames of its regime, day or infrared night, in which its own visit has no part::

    frame --glimpsed--> Glimpse (grey, night?) --background--> motion.Background --parts--> where something moved
          --PlaceEye--> View: the vector of what moved, and what the general head says of it

Example::

    glimpses = [glimpsed(frame) for frame in frames]
    view = PlaceEye.open().see(frames[9], parts(glimpses[9], background(glimpses, events, 9)), glimpses[9].night)
    view.vector          # uint8 (256,): of what moved

Source: the temporal median as a background, Cucchiara et al. 2003 (IEEE TPAMI 25:1337).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, FrameHead, Projection
from models.labels.scores import softmax
from models.onnx_session import Backbone
from models.shipped import BACKBONE, Zoo, frame_head, projection
from models.vision import motion
from models.vision.boxes import Box, crop
from models.vision.region_search import ANIMAL, PERSON
from models.vision.tier_models import CloudEye, DeviceEye, Picture

NIGHT_BELOW = 6.0
"""A frame whose pixels' channels differ by less, on average, is an infrared lamp's (grey levels; JPEG makes a few)."""

BACKGROUND_FRAMES = 15
"""So many earlier frames make a background: a few visits, so that no animal is in half of them."""

BACKGROUND_LEAST = 5
"""With fewer, frames that come later help out: at a sequence's start, or its first night."""

PARTS_LOOKED_AT = 3
"""Of what moved, so many regions are looked at closer; the one that shows something living most clearly counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Glimpse:
    """A frame as backgrounds are made from: small and grey, float32 (h, w), its quartiles of brightness; night or day."""

    grey: NDArray[np.float32]
    quartiles: tuple[float, float, float]
    night: bool


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What was seen of a frame.

    `moved`: it differs from the background; `seen`: the device's eye sees a person or an animal in it. `vector` is uint8 (d,), of
    what moved, or of what the device's eye would crop where nothing did. `general` and `whole` are what the general head says of
    the device's crop and of the whole frame, float32 (species,).
    """

    moved: bool
    seen: bool
    box: Box
    night: bool
    vector: NDArray[np.uint8]
    general: Floats
    whole: Floats


Grey = NDArray[np.float32]
LIVING = ("animal", "person")


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


class PlaceEye:
    """The device's eye, the backbone and the general head, asked about one camera's frames."""

    def __init__(
        self, device: DeviceEye, backbone: Backbone, vectors: Projection, living: FrameHead, general: CloudEye
    ) -> None:
        self.name = general.name
        self.space = general.space
        self._device = device
        self._backbone = backbone
        self._vectors = vectors
        self._living = living
        self._general = general

    @classmethod
    def open(cls, zoo: Zoo) -> PlaceEye:
        """Raises `Stop` where a model is damaged."""
        manifest = zoo.manifest(BACKBONE)
        return cls(
            zoo.device_eye(), zoo.backbone(), projection(manifest), frame_head(manifest), zoo.cloud_eye()
        )

    def see(self, frame: Picture, moving: Sequence[Box], night: bool) -> View:
        """BGR uint8 (height, width, 3) and where something moved, the largest first; nowhere, if nothing did."""
        region = self._clearest(frame, moving)
        sight = self._device.see(frame, region)
        box = sight.crop_box if region is None or region == Box.WHOLE else region
        of = {each: self._vector(frame, each) for each in {Box.WHOLE, box, sight.crop_box}}
        return View(
            moved=bool(moving),
            seen=sight.person_raised or sight.kingdom.best[0] in LIVING,
            box=box,
            night=night,
            vector=of[box],
            general=self._general.see(of[sight.crop_box]).species.probabilities,
            whole=self._general.see(of[Box.WHOLE]).species.probabilities,
        )

    def _clearest(self, frame: Picture, moving: Sequence[Box]) -> Box | None:
        """The region that shows an animal or a person most clearly."""
        few = moving[:PARTS_LOOKED_AT]
        if len(few) <= 1:
            return few[0] if few else None
        logits, _ = self._living.judge(np.stack([self._backbone.feature(crop(frame, box)) for box in few]))
        return few[int(softmax(logits)[:, [ANIMAL, PERSON]].max(1).argmax())]

    def _vector(self, frame: Picture, box: Box) -> NDArray[np.uint8]:
        return self._vectors.bytes(self._backbone.feature(crop(frame, box)))
