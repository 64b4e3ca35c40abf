"""One place by day and by night, with visits that are the same each time; those who do not live there never come
twice."""

from __future__ import annotations

import pytest

from models.evaluation.photo_pack import data_root
from models.train.pictures.traps import SHARES
from models.train.studies.place import CLASSES, HEIGHT_PX, WIDTH_PX, place
from models.vision import images
from models.vision.night_background import grey_frame

pytestmark = pytest.mark.skipif(not (data_root() / "wild256").is_dir(), reason="needs the pack wild256")


def test_a_stream_shows_one_place_by_day_and_by_night() -> None:
    frames = list(place("val", seed=3, events=15, residents=True))
    assert {frame.label for frame in frames} == set(CLASSES)
    assert [frame.time_s for frame in frames] == sorted(frame.time_s for frame in frames)
    assert {frame.night for frame in frames} == {True, False}
    for frame in frames:
        header = images.inspect(frame.jpeg)
        assert (header.width, header.height) == (WIDTH_PX, HEIGHT_PX)
        assert grey_frame(images.decode(frame.jpeg)).night == frame.night
        assert (frame.box is None) == (frame.label == "other")
        if frame.box is not None:
            assert 0.9 * SHARES[0] < frame.box.area < 1.1 * SHARES[1]


def test_equal_seeds_give_equal_frames() -> None:
    first, again, other = (next(place("val", seed=seed, events=5, residents=True)) for seed in (1, 1, 2))
    assert first.jpeg == again.jpeg != other.jpeg
