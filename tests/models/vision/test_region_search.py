"""The search finds what is small: windows are means, peaks lie apart, what a part shows is sent on only if it is
clearer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.labels.scores import softmax
from models.vision import region_search
from models.vision.boxes import Box

DIMENSION = 8


class PaintedBackbone:
    """A backbone for a world of colours: a picture's feature is its mean colour, and so is each cell of its map."""

    def feature(self, picture: np.ndarray) -> np.ndarray:
        return np.append(picture.mean((0, 1)), np.zeros(DIMENSION - 3)).astype(np.float32)

    def map(self, picture: np.ndarray, size_px: int) -> np.ndarray:
        high, wide = (side // 32 * 32 for side in picture.shape[:2])
        cells = picture[:high, :wide].reshape(high // 32, 32, wide // 32, 32, 3).mean((1, 3))
        empty = np.zeros((DIMENSION - 3, high // 32, wide // 32))
        return np.concatenate([cells.transpose(2, 0, 1), empty]).astype(np.float32)


class ColourHead:
    """Blue is an animal, red a person, everything else other."""

    def judge(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        blue, red = features[:, 0] / 16, features[:, 2] / 16
        logits = np.stack([blue - 6, np.full(len(blue), -6.0), red - 6, np.zeros(len(blue))], 1)
        return logits.astype(np.float32), softmax(logits)[:, 2]


def frame_with(colour: tuple[int, int, int], box: Box, shape: tuple[int, int] = (448, 448)) -> np.ndarray:
    frame = np.zeros((*shape, 3), np.uint8)
    high, wide = shape
    frame[round(box.top * high) : round(box.bottom * high), round(box.left * wide) : round(box.right * wide)] = colour
    return frame


def look(frame: np.ndarray, region: Box | None = None) -> region_search.FrameEvidence:
    return region_search.search(frame, region, PaintedBackbone(), ColourHead())  # type: ignore[arg-type]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_each_window_is_the_mean_of_its_cells(high: int, wide: int, seed: int) -> None:
    cells = np.random.default_rng(seed).random((DIMENSION, high, wide), np.float32)
    windows, places = region_search.windows_of(cells)
    assert len(windows) == len(places)
    for window, place in zip(windows, places, strict=True):
        top, bottom = round(place.top * high), round(place.bottom * high)
        left, right = round(place.left * wide), round(place.right * wide)
        assert 0 < bottom - top <= region_search.WINDOW_CELLS and 0 < right - left <= region_search.WINDOW_CELLS
        np.testing.assert_allclose(window, cells[:, top:bottom, left:right].mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_peaks_are_apart_and_the_clearest_comes_first() -> None:
    _, places = region_search.windows_of(np.zeros((DIMENSION, 14, 14), np.float32))
    scores = np.zeros(len(places), np.float32)
    scores[[0, 1, 100]] = [3, 2.9, 2]
    first, second = region_search.clearest(scores, places)
    assert first == places[0].with_margin(region_search.WINDOW_MARGIN)
    assert second == places[100].with_margin(region_search.WINDOW_MARGIN), "place 1 overlaps place 0"


def test_an_animal_in_a_corner_is_found_and_looked_at_closer() -> None:
    animal = Box(0.8, 0.75, 0.95, 0.9)
    evidence = look(frame_with((255, 0, 0), animal))
    best = evidence.boxes[int(evidence.parts[:, region_search.ANIMAL].argmax())]
    assert best.left < 0.875 < best.right and best.top < 0.825 < best.bottom
    assert region_search.of_still(evidence, says(region_search.ANIMAL), 0.3).box == best


def test_a_person_is_searched_for_also_where_something_else_moved() -> None:
    frame = frame_with((0, 0, 255), Box(0.05, 0.05, 0.2, 0.25))
    nobody = frame_with((0, 0, 0), Box.WHOLE)
    region = Box(0.6, 0.6, 0.9, 0.9)
    assert (look(frame, region).person > look(nobody, region).person).all()
    assert region in look(frame, region).boxes


def says(kingdom: int) -> region_search.PartsHead:
    """A weighing head that answers one kingdom, whatever it is shown, and nobody."""
    bias = 9 * np.eye(4, dtype=np.float32)[kingdom]
    return region_search.PartsHead(
        np.zeros((16, 4), np.float32),
        bias,
        np.zeros(4, np.float32),
        -9.0,
        person_threshold=0.2,
        person_doubt=0.1,
    )


@pytest.mark.parametrize("kingdom", [region_search.PLANT, region_search.OTHER])
def test_plants_and_scenes_are_sent_whole(kingdom: int) -> None:
    evidence = look(frame_with((255, 0, 0), Box(0.1, 0.1, 0.3, 0.3)))
    assert region_search.of_still(evidence, says(kingdom), 0.3).box == Box.WHOLE


def test_a_whole_frame_that_shows_it_as_clearly_is_sent_whole() -> None:
    evidence = look(frame_with((255, 0, 0), Box.WHOLE))
    assert region_search.of_still(evidence, says(region_search.ANIMAL), 0.3).box == Box.WHOLE


def test_what_moved_answers_if_it_shows_something_living_more_clearly() -> None:
    region, elsewhere = Box(0.1, 0.1, 0.3, 0.3), Box(0.6, 0.6, 0.9, 0.9)
    frame = frame_with((255, 0, 0), region)
    found = region_search.of_moved(look(frame, region), says(region_search.OTHER), 0.3)
    assert found.box == region and int(found.kingdoms.argmax()) == region_search.ANIMAL
    assert region_search.of_moved(look(frame, elsewhere), says(region_search.OTHER), 0.3).box == Box.WHOLE


def test_a_part_that_shows_a_person_does_not_leave_whatever_the_weighing_says() -> None:
    nobody = says(region_search.PERSON)
    evidence = look(frame_with((0, 0, 255), Box(0.1, 0.1, 0.3, 0.3)))
    found = region_search.of_still(evidence, nobody, 0.99)
    sent = evidence.persons[evidence.boxes.index(found.box)]
    assert found.box != Box.WHOLE and sent >= region_search.CROP_PERSON
    assert found.person >= nobody.person_threshold


def test_who_fills_the_frame_counts_also_where_the_map_shows_no_place() -> None:
    nobody = says(region_search.OTHER)
    near = look(frame_with((0, 0, 255), Box.WHOLE))
    nowhere = replace(near, person=np.where(np.arange(4) == 2, -1, near.person).astype(np.float32))
    assert near.persons[0] >= region_search.CROP_PERSON
    assert region_search.person_in(nowhere, nobody, 0.3) >= nobody.person_threshold


@pytest.mark.parametrize(
    ("whole", "weighed", "answer"),
    [
        ([0.1, 0.7, 0.1, 0.1], [0.65, 0.25, 0.05, 0.05], region_search.ANIMAL),
        ([0.1, 0.7, 0.1, 0.1], [0.55, 0.35, 0.05, 0.05], region_search.PLANT),
        ([0.1, 0.1, 0.7, 0.1], [0.05, 0.05, 0.2, 0.7], region_search.PERSON),
        ([0.1, 0.1, 0.7, 0.1], [0.05, 0.05, 0.1, 0.8], region_search.OTHER),
    ],
)
def test_the_whole_frame_is_overruled_by_what_is_sure(whole: list[float], weighed: list[float], answer: int) -> None:
    kingdoms = region_search.overruled(np.array(whole, np.float32), np.array(weighed, np.float32))
    assert int(kingdoms.argmax()) == answer


def test_a_person_who_moved_raises_whatever_the_weighing_says() -> None:
    region, nobody = Box(0.1, 0.1, 0.3, 0.3), says(region_search.OTHER)
    assert (
        region_search.of_moved(look(frame_with((0, 0, 255), region), region), nobody, 0.3).person
        >= nobody.person_threshold
    )
    assert (
        region_search.of_moved(look(frame_with((255, 0, 0), region), region), nobody, 0.3).person
        < nobody.person_threshold
    )


def test_a_whole_frame_that_looks_like_a_person_counts_where_the_map_shows_a_place_for_one() -> None:
    nobody = says(region_search.OTHER)
    near = look(frame_with((0, 0, 255), Box.WHOLE))
    assert region_search.person_in(near, nobody, 0.3) >= nobody.person_threshold
    tiny = look(frame_with((0, 0, 255), Box.WHOLE, (64, 64)))
    assert region_search.person_in(tiny, nobody, 0.3) >= nobody.person_threshold
    doubtful = replace(near, persons=np.full_like(near.persons, region_search.CROP_PERSON - 0.1))
    nowhere = replace(doubtful, person=np.where(np.arange(4) == 2, -1, near.person).astype(np.float32))
    assert region_search.person_in(doubtful, nobody, 0.3) >= nobody.person_threshold
    assert region_search.person_in(nowhere, nobody, 0.3) < nobody.person_threshold


@pytest.mark.parametrize("shape", [(16, 16), (95, 500), (16, 900)])
def test_a_frame_without_detail_counts_whole(shape: tuple[int, int]) -> None:
    evidence = look(frame_with((255, 0, 0), Box.WHOLE, shape))
    assert evidence.boxes == (Box.WHOLE,)
    assert evidence.kingdom.shape == (16,) and evidence.person.shape == (4,)
    assert np.isfinite(evidence.kingdom).all() and np.isfinite(evidence.person).all()


def test_the_head_answers_probabilities() -> None:
    rng = np.random.default_rng(0)
    head = region_search.PartsHead(
        rng.normal(size=(16, 4)).astype(np.float32),
        np.zeros(4, np.float32),
        np.ones(4, np.float32),
        0.0,
        0.5,
        0.1,
    )
    evidence = look(frame_with((0, 0, 255), Box(0.1, 0.1, 0.3, 0.3)))
    assert head.kingdoms(evidence).sum() == pytest.approx(1, abs=1e-5)
    assert 0 <= head.person(evidence) <= 1
