"""Six tiles: they cover the frame, and speak only when they are nearly certain."""

from __future__ import annotations

import numpy as np
import pytest

from models.labels.taxonomy import KINGDOMS
from models.train.lite0.tiles import TILE_PERSON, tiles, tiling
from models.vision.boxes import Box

ANIMAL = KINGDOMS.index("animal")
FRAME = np.zeros((480, 640, 3), np.uint8)


@pytest.mark.parametrize(("width", "height", "count"), [(640, 480, 6), (480, 640, 6)])
def test_tiles_cover_the_whole_frame(width: int, height: int, count: int) -> None:
    covered = np.zeros((height, width), bool)
    boxes = tiles(width, height)
    for box in boxes:
        assert box.left >= 0 and box.top >= 0 and box.right <= 1.0001 and box.bottom <= 1.0001
        covered[
            round(box.top * height) : round(box.bottom * height),
            round(box.left * width) : round(box.right * width),
        ] = True
    assert len(boxes) == count
    assert covered.all()


def judged(animal: list[float], person: list[float]) -> object:
    """A judge with a script: the logit of `animal` and the person score of each picture in turn."""

    def judge(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(pictures), 4), np.float32)
        logits[:, ANIMAL] = animal[: len(pictures)]
        return logits, np.array(person[: len(pictures)], np.float32)

    return judge


def test_a_tile_that_is_nearly_certain_answers_for_the_frame() -> None:
    look = tiling(judged([-3, 9, 0, 0, 0, 0, 0], [0.0] * 7), 0.3)  # type: ignore[arg-type]
    assert look(FRAME, None).box == tiles(640, 480)[0]


def test_a_tile_in_doubt_does_not() -> None:
    look = tiling(judged([-3, 1, 0, 0, 0, 0, 0], [0.0] * 7), 0.3)  # type: ignore[arg-type]
    assert look(FRAME, None).box == Box.WHOLE


def test_what_moved_needs_only_be_clearer() -> None:
    region = Box(0.2, 0.2, 0.5, 0.5)
    look = tiling(judged([-3, 1], [0.0, 0.0]), 0.3)  # type: ignore[arg-type]
    assert look(FRAME, region).box == region


def test_a_tile_has_to_be_surer_of_a_person_than_the_frame() -> None:
    scores = [0.0, TILE_PERSON - 0.05, 0, 0, 0, 0, 0]
    assert tiling(judged([0] * 7, scores), 0.3)(FRAME, None).person < 0.3  # type: ignore[arg-type]
    scores[1] = TILE_PERSON + 0.05
    assert tiling(judged([0] * 7, scores), 0.3)(FRAME, None).person > 0.3  # type: ignore[arg-type]
