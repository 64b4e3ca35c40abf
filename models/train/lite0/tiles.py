"""Search a frame in six tiles: the method before `models.vision.region_search`, kept to be measured against it."""

from __future__ import annotations

import numpy as np

from models.heads.linear import Floats
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS
from models.vision.boxes import Box, crop
from models.vision.frame_scan import Judge, Look, Picture
from models.vision.region_search import Found

# Where nothing says which part of a frame matters, it is also looked at in parts: three across the longer side, two
# across the shorter, overlapping by a third, so that an animal of 2% of the frame covers a fifth of one of them.
TILES_LONG, TILES_SHORT, TILE_OVERLAP = 3, 2, 1 / 3
# What a tile needs to speak for the frame: much clearer than the whole, and nearly certain.
TILE_CLEARER, TILE_CERTAIN, TILE_PERSON = 0.2, 0.95, 0.7
# Below that short side a frame has no detail to be found by looking closer.
TILED_FROM_PX = 320


def tiling(judge: Judge, person_threshold: float) -> Look:
    """By a network that sees pictures only: the whole frame, and what moved or six tiles.

    The person score is the highest of all parts. The kingdom is answered for the part that shows something living most
    clearly.
    """

    def look(frame: Picture, region: Box | None) -> Found:
        boxes = _parts(frame, region)
        logits, persons = judge([crop(frame, box) for box in boxes])
        if region is None:
            # Six tiles have six chances of a false alarm: each has to be surer to weigh as much.
            persons[1:] *= person_threshold / TILE_PERSON
        kingdoms = softmax(logits)
        chosen = _clearest(kingdoms, surely=region is None)
        return Found(kingdoms[chosen], float(persons.max()), boxes[chosen])

    return look


def _parts(frame: Picture, region: Box | None) -> tuple[Box, ...]:
    if region is not None:
        return Box.WHOLE, region
    height, width = frame.shape[:2]
    if min(height, width) >= TILED_FROM_PX:
        return (Box.WHOLE, *tiles(width, height))
    return (Box.WHOLE,)


def _clearest(kingdoms: Floats, surely: bool) -> int:
    """Which part of a frame answers: the whole (0), unless another shows an animal or person more clearly.

    Takes probabilities (parts, 4). With `surely`, where nothing moved to say that a part matters, it has to be much
    clearer and nearly certain.
    """
    living = np.maximum(kingdoms[:, KINGDOMS.index("animal")], kingdoms[:, KINGDOMS.index("person")])
    best = int(living.argmax())
    needs = max(living[0] + TILE_CLEARER, TILE_CERTAIN) if surely else living[0]
    return best if living[best] > needs else 0


def tiles(width: int, height: int) -> tuple[Box, ...]:
    """Overlapping parts that cover a frame, row by row."""
    across, down = (TILES_LONG, TILES_SHORT) if width >= height else (TILES_SHORT, TILES_LONG)

    def spans(count: int) -> list[tuple[float, float]]:
        size = 1 / (count - (count - 1) * TILE_OVERLAP)
        return [(at * (1 - size) / (count - 1), at * (1 - size) / (count - 1) + size) for at in range(count)]

    return tuple(Box(left, top, right, bottom) for top, bottom in spans(down) for left, right in spans(across))
