"""Two ways of looking: what moved answers if it is clearer; a doubt about a person is settled by the outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.labels.taxonomy import KINGDOMS
from models.vision import region_search
from models.vision.boxes import Box
from models.vision.frame_scan import OUTLINE_CLEAR, Judge, Picture, judging, searching

ANIMAL = KINGDOMS.index("animal")
FRAME = np.zeros((480, 640, 3), np.uint8)


def judged(animal: list[float], person: list[float]) -> Judge:
    """A judge with a script: the logit of `animal` and the person score of each picture in turn."""

    def judge(pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(pictures), 4), np.float32)
        logits[:, ANIMAL] = animal[: len(pictures)]
        return logits, np.array(person[: len(pictures)], np.float32)

    return judge


def test_what_moved_answers_if_it_is_clearer_than_the_frame() -> None:
    region = Box(0.2, 0.2, 0.5, 0.5)
    assert judging(judged([-3, 1], [0.0, 0.0]))(FRAME, region).box == region
    assert judging(judged([1, -3], [0.0, 0.0]))(FRAME, region).box == Box.WHOLE


def test_a_person_in_the_frame_or_in_what_moved_counts() -> None:
    region = Box(0.2, 0.2, 0.5, 0.5)
    assert judging(judged([0, 0], [0.1, 0.75]))(FRAME, region).person == 0.75
    assert judging(judged([0, 0], [0.75, 0.1]))(FRAME, region).person == 0.75


class Grey:
    """A backbone that sees nothing anywhere."""

    def feature(self, picture: np.ndarray) -> np.ndarray:
        return np.zeros(2, np.float32)

    def map(self, picture: np.ndarray, size_px: int) -> np.ndarray:
        return np.zeros((2, 14, 14), np.float32)


class Undecided:
    person_threshold = 0.9

    def judge(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(features), 4), np.float32), np.full(len(features), 0.1, np.float32)


def person_of(threshold: float, doubt: float, outline: float) -> tuple[float, list[int]]:
    """The person score of a frame that the weighing head gives 0.5, and how often the outline was asked for."""
    asked: list[int] = []

    def seen(frame: np.ndarray) -> float:
        asked.append(1)
        return outline

    nothing = np.zeros(4, np.float32)
    head = region_search.PartsHead(np.zeros((16, 4), np.float32), nothing, nothing, 0.0, threshold, doubt)
    look = searching(Grey(), Undecided(), head, seen)  # type: ignore[arg-type]
    return look(FRAME, None).person, asked


def test_in_doubt_a_clear_outline_raises() -> None:
    assert person_of(threshold=0.6, doubt=0.4, outline=OUTLINE_CLEAR) == (0.6, [1])


def test_in_doubt_no_outline_changes_nothing() -> None:
    assert person_of(threshold=0.6, doubt=0.4, outline=OUTLINE_CLEAR - 0.1) == (0.5, [1])


@pytest.mark.parametrize(("threshold", "doubt"), [(0.4, 0.2), (0.9, 0.7)])
def test_without_doubt_the_outline_is_not_asked_for(threshold: float, doubt: float) -> None:
    assert person_of(threshold, doubt, outline=9.0) == (0.5, [])
