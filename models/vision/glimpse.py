"""`glimpse`, the small network for devices that cannot run the backbone: kingdom and person at 64x64 pixels.

::

    BGR pictures --shrink--> bytes (n, 3, 64, 64) --int8 network--> logits of kingdoms (n, 4), a person's log-odds (n,)

The network takes the pictures' bytes as they are and answers calibrated logits: its temperature is part of its last
layer. It is a `models.vision.tier_models.Judge`; how many persons it misses is in its manifest, for the settings to
accept or not.

Example::

    glimpse = Glimpse(manifest.read("model.onnx"))
    logits, persons = glimpse.judge([frame, crop(frame, box)])    # float32 (2, 4), float32 (2,)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.labels.taxonomy import KINGDOMS
from models.onnx_session import Network

Picture = NDArray[np.uint8]

INPUT_PX = 64
# From there on a picture is halved first: means over two by two pixels are several times as quick as over odd parts.
HALVED_FROM_PX = 4 * INPUT_PX


def shrink(picture: Picture) -> Picture:
    """BGR of any shape -> RGB (64, 64, 3), squeezed: the whole frame counts, not its shape."""
    while min(picture.shape[:2]) >= HALVED_FROM_PX:
        high, wide = (side // 2 for side in picture.shape[:2])
        picture = cv2.resize(picture[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA).astype(
            np.uint8, copy=False
        )
    by = cv2.INTER_AREA if min(picture.shape[:2]) > INPUT_PX else cv2.INTER_LINEAR
    return cv2.resize(picture, (INPUT_PX, INPUT_PX), interpolation=by)[:, :, ::-1].astype(np.uint8)


class Glimpse:
    """The network. Safe to share between threads: a session keeps no state between calls."""

    def __init__(self, model: bytes | Path) -> None:
        self._network = Network(model)

    def judge(self, pictures: Sequence[Picture]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """BGR uint8 pictures of any shape -> calibrated logits over `KINGDOMS` (n, 4), scores of a person (n,).

        Of the person score only the order and the threshold are meant.
        """
        return read(self._network.run(served([shrink(picture) for picture in pictures])))


def served(small: Sequence[Picture] | Picture) -> NDArray[np.uint8]:
    """RGB (n, 64, 64, 3) -> the network's input: (n, 3, 64, 64), contiguous."""
    return np.ascontiguousarray(np.asarray(small, np.uint8).transpose(0, 3, 1, 2))


def read(outputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split the network's outputs (n, 5) into logits (n, 4) and scores of a person (n,)."""
    person = 1 / (1 + np.exp(-outputs[:, len(KINGDOMS)].astype(np.float64)))
    return outputs[:, : len(KINGDOMS)], person.astype(np.float32)
