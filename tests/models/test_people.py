"""The second opinion: an upright outline is seen, a plain wall is not, and no size of frame is too odd."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models import people
from models.train.data import data_root, open_pack


def test_a_plain_wall_has_no_outline() -> None:
    assert people.outline(np.full((480, 640, 3), 90, np.uint8)) == 0.0


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 2000, 3), (2000, 70, 3), (1200, 1600, 3)])
def test_frames_of_any_shape_are_looked_at(shape: tuple[int, int, int]) -> None:
    assert people.outline(np.full(shape, 128, np.uint8)) >= 0.0


@pytest.mark.skipif(not (data_root() / "wild256").is_dir(), reason="needs the pack wild256")
def test_pedestrians_have_outlines_more_often_than_flowers() -> None:
    pack = open_pack("wild256")

    def share(source: str) -> float:
        rows = [row for row in pack.rows("val") if pack.source[row] == source][:30]
        return float(np.mean([people.outline(pack.picture(row)) > 0.5 for row in rows]))

    cv2.setNumThreads(1)
    assert share("pennfudan") > share("oxford102") + 0.15
