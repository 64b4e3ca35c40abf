"""Two ways of looking at a frame: the backbone searches it, a small network judges it.

Example::

    look = searching(backbone, frame_head, parts_head, people.outline)     # or judging(glimpse.judge)
    look(frame, None)                # Found(kingdoms=..., person=0.02, box=Box(0.4, 0.3, 0.6, 0.6))
    look(frame, motion.box)          # what moved is looked at closer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, FrameHead
from models.labels.scores import softmax
from models.vision import region_search
from models.vision.boxes import Box, crop
from models.vision.region_search import Found

Picture = NDArray[np.uint8]

# From that margin on an outline of a person settles a doubt: seen in 38% of validation photos with one, in 2%
# of the others.
OUTLINE_CLEAR = 0.5


# A frame, and what moved in it (None: nothing says which part matters).
Look = Callable[[Picture, Box | None], Found]
# How clearly a person's outline is seen in a frame (`models.vision.hog_people.outline`).
Outline = Callable[[Picture], float]
# Pictures -> calibrated logits over `KINGDOMS` (n, 4), scores of a person (n,).
Judge = Callable[[Sequence[Picture]], tuple[Floats, Floats]]


def searching(
    backbone: region_search.FeatureMaps, head: FrameHead, parts: region_search.PartsHead, outline: Outline
) -> Look:
    """Search a frame by the backbone (`models.vision.region_search`); call `outline` only where it is not sure."""

    def look(frame: Picture, region: Box | None) -> Found:
        evidence = region_search.search(frame, region, backbone, head)
        answered = region_search.of_still if region is None else region_search.of_moved
        found = answered(evidence, parts, head.person_threshold)
        if found.doubtful and outline(frame) >= OUTLINE_CLEAR:
            return replace(found, person=parts.person_threshold)
        return found

    return look


def judging(judge: Judge) -> Look:
    """By a network that sees pictures only: the whole frame, and what moved.

    The person score is the higher of both. The kingdom is answered for the whole frame, unless what moved shows
    something living more clearly.
    """

    def look(frame: Picture, region: Box | None) -> Found:
        boxes = (Box.WHOLE,) if region is None else (Box.WHOLE, region)
        logits, persons = judge([crop(frame, box) for box in boxes])
        kingdoms = softmax(logits)
        chosen = int(kingdoms[:, [region_search.ANIMAL, region_search.PERSON]].max(1).argmax())
        return Found(kingdoms[chosen], float(persons.max()), boxes[chosen])

    return look
