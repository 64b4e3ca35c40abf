"""Training views: always BGR bytes of a sensible size, drawn from their seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from models.train.pictures.views import SCENE_SIZE_PX, SHORT_SIDE_PX, compose, night, random_view, trapped

PICTURE = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
SCENE = np.full((100, 100, 3), 90, np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_a_view_is_a_picture_within_the_sizes_that_are_served(seed: int) -> None:
    view = random_view(np.random.default_rng(seed), PICTURE)
    assert (view.dtype, view.ndim, view.shape[2]) == (np.uint8, 3, 3)
    assert 16 <= min(view.shape[:2]) <= SHORT_SIDE_PX[1] * 1.5


def test_equal_seeds_draw_equal_views() -> None:
    first, second = (random_view(np.random.default_rng(7), PICTURE) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_night_picture_has_no_colour() -> None:
    view = night(np.random.default_rng(0), PICTURE)
    assert np.array_equal(view[:, :, 0], view[:, :, 2])


def test_a_composed_scene_has_the_scenes_size() -> None:
    scene = compose(np.random.default_rng(0), PICTURE, SCENE, (0.03, 0.35))
    assert scene.shape == (SCENE_SIZE_PX, SCENE_SIZE_PX, 3)


@pytest.mark.parametrize("seed", range(8))
def test_a_camera_trap_s_crop_is_part_of_the_scene_with_surroundings(seed: int) -> None:
    crop = trapped(np.random.default_rng(seed), PICTURE, SCENE, (0.03, 0.35))
    assert crop.dtype == np.uint8 and crop.ndim == 3
    assert min(crop.shape[:2]) >= 20 and max(crop.shape[:2]) <= SCENE_SIZE_PX
