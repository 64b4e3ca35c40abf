"""The device's and the general models on the frames of one fixed camera, as a replay needs them."""

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
"""Number of regions to examine, the largest first. The region that shows something living most clearly counts."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameView:
    """The predictions about a frame.

    `moved`: it differs from the background; `seen`: the device's model finds a person or an animal. `vector` is uint8
    (d,), of the part that moved, or of the device's crop where nothing did. `general` and `whole` are the general
    head's predictions about the device's crop and about the whole frame.
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
    """The device's model, the backbone and the general head, for one camera's frames."""

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
        """Open the shipped models. Raises `Stop` where one is damaged."""
        manifest = zoo.manifest(BACKBONE)
        return cls(zoo.device_model(), zoo.backbone(), projection(manifest), frame_head(manifest), zoo.cloud_model())

    def predict(self, frame: Picture, moving: Sequence[Box], night: bool) -> FrameView:
        """Predict from a frame, BGR uint8 (height, width, 3), and the regions that moved, the largest first."""
        region = self._clearest(frame, moving)
        device = self._device.predict(frame, region)
        box = device.crop_box if region is None or region == Box.WHOLE else region
        vectors = {each: self._vector(frame, each) for each in {Box.WHOLE, box, device.crop_box}}
        return FrameView(
            moved=bool(moving),
            seen=device.person_raised or device.kingdom.best[0] in LIVING,
            box=box,
            night=night,
            vector=vectors[box],
            general=self._general.predict(vectors[device.crop_box]),
            whole=self._general.predict(vectors[Box.WHOLE]),
        )

    def _clearest(self, frame: Picture, moving: Sequence[Box]) -> Box | None:
        """Return the region that shows an animal or a person most clearly."""
        few = moving[:PARTS_LOOKED_AT]
        if len(few) <= 1:
            return few[0] if few else None
        logits, _ = self._living.judge(np.stack([self._backbone.feature(crop(frame, box)) for box in few]))
        return few[int(softmax(logits)[:, [ANIMAL, PERSON]].max(1).argmax())]

    def _vector(self, frame: Picture, box: Box) -> NDArray[np.uint8]:
        return self._vectors.bytes(self._backbone.feature(crop(frame, box)))
