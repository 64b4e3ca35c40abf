"""The motion gate: what moves is found and boxed; light, noise and a still scene are not motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.vision.motion import BackgroundModel, Box, DetectedMotion, look

RNG = np.random.default_rng(0)
SCENE = cv2.GaussianBlur(RNG.integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 6)
SCENE = cv2.normalize(SCENE, None, 40, 200, cv2.NORM_MINMAX).astype(np.uint8)


def noisy(frame: np.ndarray, seed: int, sigma: float = 4.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(frame.astype(np.float32) + noise, 0, 255).astype(np.uint8)


def watched(frames: int = 15) -> BackgroundModel:
    background = None
    for seed in range(frames):
        background, _ = look(background, noisy(SCENE, seed))
    assert background is not None
    return background


def with_animal(left: int, top: int, size: int = 40) -> np.ndarray:
    frame = SCENE.copy()
    cv2.ellipse(frame, (left + size // 2, top + size // 2), (size // 2, size // 3), 0, 0, 360, (10, 20, 30), -1)
    return frame


def test_the_first_frame_counts_whole() -> None:
    _, motion = look(None, SCENE)
    assert motion == DetectedMotion(True, Box.WHOLE, 1.0, "first-frame")


def test_a_still_scene_with_camera_noise_does_not_move() -> None:
    background = watched()
    for seed in range(100, 120):
        background, motion = look(background, noisy(SCENE, seed))
        assert motion.rule == "nothing-moved"


@pytest.mark.parametrize(("gain", "lift"), [(1.25, 0), (0.7, 0), (1.0, 25), (0.9, -15)])
def test_a_change_of_the_light_is_no_motion(gain: float, lift: float) -> None:
    frame = np.clip(SCENE.astype(np.float32) * gain + lift, 0, 255).astype(np.uint8)
    _, motion = look(watched(), noisy(frame, 99))
    assert not motion.moved


@pytest.mark.parametrize(("left", "top"), [(10, 10), (150, 100), (270, 190)])
def test_what_moved_lies_inside_the_box(left: int, top: int) -> None:
    _, motion = look(watched(), noisy(with_animal(left, top), 99))
    assert motion.rule == "moved"
    assert motion.box.left <= (left + 5) / 320 and motion.box.right >= (left + 35) / 320
    assert motion.box.top <= (top + 10) / 240 and motion.box.bottom >= (top + 30) / 240
    assert motion.box.area < 0.12


def test_an_animal_is_found_although_the_light_changed_with_it() -> None:
    frame = np.clip(with_animal(150, 100).astype(np.float32) * 1.2, 0, 255).astype(np.uint8)
    _, motion = look(watched(), frame)
    assert motion.rule == "moved"
    assert motion.box.area < 0.15


def test_a_turned_camera_is_looked_at_whole_and_becomes_the_new_background() -> None:
    other = np.ascontiguousarray(255 - SCENE[::-1, ::-1])
    background, motion = look(watched(), other)
    assert (motion.rule, motion.box) == ("scene-changed", Box.WHOLE)
    _, motion = look(background, noisy(other, 1))
    assert not motion.moved


@pytest.mark.slow
def test_what_stays_becomes_background() -> None:
    background = watched()
    rules = []
    frames = [noisy(with_animal(150, 100), seed) for seed in range(8)]
    for at in range(400):
        background, motion = look(background, frames[at % 8])
        rules.append(motion.rule)
    assert rules[0] == "moved"
    assert rules[-1] == "nothing-moved"


def test_a_frame_of_another_size_starts_anew() -> None:
    _, motion = look(watched(), SCENE[:200])
    assert motion.rule == "first-frame"


def test_a_margin_stays_inside_the_frame() -> None:
    assert Box(0.0, 0.5, 0.5, 1.0).with_margin(0.5) == Box(0.0, 0.25, 0.75, 1.0)
