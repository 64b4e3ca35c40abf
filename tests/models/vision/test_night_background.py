"""A place is known without its visitors: by day and by night, in the light of the moment."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.vision import motion
from models.vision.boxes import Box
from models.vision.night_background import GreyFrame, background, grey_frame

PLACE = cv2.resize(
    np.random.default_rng(0).integers(60, 160, (12, 16, 3)).astype(np.uint8),
    (160, 120),
    interpolation=cv2.INTER_CUBIC,
)


def picture(*, light: float = 1.0, night: bool = False, at: tuple[int, int] | None = None) -> np.ndarray:
    frame = PLACE.copy()
    if at is not None:
        frame[at[1] : at[1] + 30, at[0] : at[0] + 30] = 250
    if night:
        frame = np.repeat(frame.mean(2, keepdims=True), 3, 2)
    return np.clip(frame * light, 0, 255).astype(np.uint8)


def moving(glimpses: list[GreyFrame], events: list[str], at: int) -> tuple[Box, ...]:
    place = background(glimpses, events, at)
    assert place is not None
    return motion.parts(place, glimpses[at].grey)


def test_night_is_told_from_day() -> None:
    assert [grey_frame(picture(night=night)).night for night in (False, True)] == [False, True]


def test_a_visitor_that_fills_its_own_visit_is_seen_against_the_others() -> None:
    empty = [grey_frame(picture(light=0.8 + 0.05 * at)) for at in range(6)]
    visit = [grey_frame(picture(at=(100, 20))) for _ in range(4)]
    events = [*(f"before{at}" for at in range(6)), *["visit"] * 4]
    for at in range(6, 10):
        (box,) = moving([*empty, *visit], events, at)
        assert box.left < 100 / 160 < 130 / 160 < box.right
        assert box.area < 0.25


def test_an_empty_place_in_another_light_has_not_moved() -> None:
    glimpses = [grey_frame(picture(light=light)) for light in (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)]
    assert moving(glimpses, list("abcdef"), 5) == ()


def test_a_first_night_is_compared_with_later_nights_and_never_with_days() -> None:
    glimpses = [grey_frame(picture()), *(grey_frame(picture(night=True, at=None)) for _ in range(4))]
    assert background(glimpses, list("abcde"), 0) is None
    assert moving(glimpses, list("abcde"), 1) == ()


def test_the_largest_region_comes_first() -> None:
    frame = picture(at=(110, 70))
    frame[10:28, 10:28] = 0
    glimpses = [grey_frame(picture()) for _ in range(5)] + [grey_frame(frame)]
    large, small = moving(glimpses, list("abcdef"), 5)
    assert large.left > 0.5 > small.right
    assert large.area > small.area


def test_a_scene_that_changed_altogether_counts_whole() -> None:
    glimpses = [grey_frame(picture()) for _ in range(5)] + [grey_frame(picture()[::-1, ::-1])]
    if glimpses[5].night:
        pytest.fail("a turned camera is no night")
    assert moving(glimpses, list("abcdef"), 5) == (Box.WHOLE,)
