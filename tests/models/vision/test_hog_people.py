"""The second opinion: an upright outline is seen, a plain wall is not, and no size of frame is too odd."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.evaluation.photo_pack import data_root, open_pack
from models.vision import hog_people
from models.vision.frame_scan import OUTLINE_CLEAR


def test_a_plain_wall_has_no_outline() -> None:
    assert hog_people.outline(np.full((480, 640, 3), 90, np.uint8)) == 0.0


def figure(height: int, width: int, size: int) -> np.ndarray:
    """Somebody upright, so many pixels high, dark before a wall."""
    frame = np.full((height, width, 3), 150, np.uint8)
    middle, top, unit = width // 2, (height - size) // 2, size / 8
    dark = (40, 40, 40)

    def at(across: float, down: float) -> tuple[int, int]:
        return int(middle + across * unit), int(top + down * unit)

    cv2.circle(frame, at(0, 0.6), int(unit * 0.55), dark, -1)
    cv2.rectangle(frame, at(-0.9, 1.3), at(0.9, 4.2), dark, -1)
    for side in (-1, 1):
        cv2.line(frame, at(side, 1.6), at(side * 1.3, 4.3), dark, int(unit * 0.5))
        cv2.line(frame, at(side * 0.45, 4.1), at(side * 0.6, 7.9), dark, int(unit * 0.75))
    return cv2.GaussianBlur(frame, (0, 0), 1.5).astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "size"), [(480, 640, 200), (1200, 1600, 500), (700, 300, 400)])
def test_somebody_upright_has_an_outline_in_frames_of_any_size(height: int, width: int, size: int) -> None:
    assert hog_people.outline(figure(height, width, size)) >= OUTLINE_CLEAR


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 2000, 3), (2000, 70, 3)])
def test_frames_too_narrow_for_the_detector_have_no_outline(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert hog_people.outline(noise) == 0.0


@pytest.mark.skipif(not (data_root() / "wild256").is_dir(), reason="needs the pack wild256")
def test_pedestrians_have_outlines_more_often_than_flowers() -> None:
    pack = open_pack("wild256")

    def share(source: str) -> float:
        rows = [row for row in pack.rows("val") if pack.source[row] == source][:30]
        return float(np.mean([hog_people.outline(pack.picture(row)) >= OUTLINE_CLEAR for row in rows]))

    cv2.setNumThreads(1)
    assert share("pennfudan") > share("oxford102") + 0.15
