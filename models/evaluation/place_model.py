"""The device's and the general models, asked about the frames of one fixed camera, as a replay needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import FrameHead, Projection
from models.labels.scores import softmax
from models.onnx_session import Backbone
from models.shipped import BACKBONE, Zoo, frame_head, projection
from models.vision.boxes import Box, crop
from models.vision.region_search import ANIMAL, PERSON
from models.vision.tier_models import CloudModel, CloudPrediction, DeviceModel, Picture

PARTS_LOOKED_AT = 3
"""Of what moved, so many regions are looked at closer; the one that shows something living most clearly counts."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameView:
    """What was seen of a frame.

    `moved`: it differs from the background; `seen`: the device's eye sees a person or an animal in it. `vector` is uint8 (d,), of
    what moved, or of what the device's eye would crop where nothing did. `general` and `whole` are the general head's
    predictions about the device's crop and about the whole frame.
    """

    moved: bool
    seen: bool
    box: Box
    night: bool
    vector: NDArray[np.uint8]
    general: CloudPrediction
    whole: CloudPrediction


LIVING = ("animal", "person")


class PlaceModel:
    """The device's eye, the backbone and the general head, asked about one camera's frames."""

    def __init__(
        self,
        device: DeviceModel,
        backbone: Backbone,
        vectors: Projection,
        living: FrameHead,
        general: CloudModel,
    ) -> None:
        self.name = general.name
        self.space = general.space
        self._device = device
        self._backbone = backbone
        self._vectors = vectors
        self._living = living
        self._general = general

    @classmethod
    def open(cls, zoo: Zoo) -> PlaceModel:
        """Raises `Stop` where a model is damaged."""
        manifest = zoo.manifest(BACKBONE)
        return cls(
            zoo.device_model(), zoo.backbone(), projection(manifest), frame_head(manifest), zoo.cloud_model()
        )

    def predict(self, frame: Picture, moving: Sequence[Box], night: bool) -> FrameView:
        """BGR uint8 (height, width, 3) and where something moved, the largest first; nowhere, if nothing did."""
        region = self._clearest(frame, moving)
        sight = self._device.predict(frame, region)
        box = sight.crop_box if region is None or region == Box.WHOLE else region
        of = {each: self._vector(frame, each) for each in {Box.WHOLE, box, sight.crop_box}}
        return FrameView(
            moved=bool(moving),
            seen=sight.person_raised or sight.kingdom.best[0] in LIVING,
            box=box,
            night=night,
            vector=of[box],
            general=self._general.predict(of[sight.crop_box]),
            whole=self._general.predict(of[Box.WHOLE]),
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
