"""Frames as camera traps make them are what they say: large, with a small subject where the box is, the same each
time."""

from __future__ import annotations

import pytest

from models.evaluation.photo_pack import data_root
from models.train.pictures.traps import HEIGHT_PX, SHARES, WIDTH_PX, traps
from models.vision import images

pytestmark = pytest.mark.skipif(not (data_root() / "wild256").is_dir(), reason="needs the pack wild256")


def test_traps_are_large_frames_with_a_small_subject_or_none() -> None:
    made = list(traps("val", animals=2, persons=1, empty=1, seed=3))
    assert [trap.truth[0] for trap in made] == ["animal", "animal", "person", "other"]
    for trap in made:
        header = images.inspect(trap.jpeg)
        assert (header.width, header.height) == (WIDTH_PX, HEIGHT_PX)
        if trap.box is not None:
            assert 0.9 * SHARES[0] < trap.box.area < 1.1 * SHARES[1]
    assert made[-1].box is None


def test_equal_seeds_give_equal_frames() -> None:
    first, again, other = (next(traps("val", animals=1, persons=0, empty=0, seed=seed)) for seed in (1, 1, 2))
    assert first.jpeg == again.jpeg != other.jpeg
