"""Two ways of looking: tiles speak only when they are nearly certain; a doubt about a person is settled by the outline."""

from __future__ import annotations

import numpy as np
import pytest

from models import search
from models.boxes import Box
from models.looks import OUTLINE_CLEAR, TILE_PERSON, searching, tiles, tiling
from models.taxonomy import KINGDOMS

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


class Grey:
    """A backbone that sees nothing anywhere."""

    def feature(self, picture: np.ndarray) -> np.ndarray:
        return np.zeros(2, np.float32)

    def map(self, picture: np.ndarray, size_px: int) -> np.ndarray:
        return np.zeros((2, 14, 14), np.float32)


class Undecided:
    def judge(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(features), 4), np.float32), np.full(len(features), 0.5, np.float32)


def person_of(threshold: float, doubt: float, outline: float) -> tuple[float, list[int]]:
    """The person score of a frame that the weighing head gives 0.5, and how often the outline was asked for."""
    asked: list[int] = []

    def seen(frame: np.ndarray) -> float:
        asked.append(1)
        return outline

    nothing = np.zeros(4, np.float32)
    head = search.PartsHead(np.zeros((16, 4), np.float32), nothing, nothing, 0.0, threshold, doubt)
    look = searching(Grey(), Undecided(), head, seen)  # type: ignore[arg-type]
    return look(FRAME, None).person, asked


def test_in_doubt_a_clear_outline_raises() -> None:
    assert person_of(threshold=0.6, doubt=0.4, outline=OUTLINE_CLEAR) == (0.6, [1])


def test_in_doubt_no_outline_changes_nothing() -> None:
    assert person_of(threshold=0.6, doubt=0.4, outline=OUTLINE_CLEAR - 0.1) == (0.5, [1])


@pytest.mark.parametrize(("threshold", "doubt"), [(0.4, 0.2), (0.9, 0.7)])
def test_without_doubt_the_outline_is_not_asked_for(threshold: float, doubt: float) -> None:
    assert person_of(threshold, doubt, outline=9.0) == (0.5, [])
