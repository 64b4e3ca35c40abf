"""A broken camera is told from what passes before it, from dusk, and from a lamp's night."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.vision.camera_health import ALWAYS_DARK_S, Camera, Finding, check, glance

Picture = NDArray[np.uint8]
MINUTE_S, HOUR_S = 60.0, 3600.0
NOON_S = 12 * HOUR_S


def scene(seed: int = 0) -> NDArray[np.float32]:
    """A place with edges of many sizes, float32 (280, 360, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.full((280, 360, 3), 90, np.float32)
    for _ in range(60):
        left, top = int(rng.integers(340)), int(rng.integers(260))
        width, height = int(rng.integers(8, 70)), int(rng.integers(8, 70))
        picture[top : top + height, left : left + width] = rng.uniform(30, 220, 3)
    return picture


class Place:
    """Frames of one scene, with a sensor's noise."""

    def __init__(self, seed: int = 0) -> None:
        self._scene = scene(seed)
        self._rng = np.random.default_rng(seed + 100)

    def frame(
        self,
        *,
        light: float = 1.0,
        shift: int = 0,
        sigma: float = 0.0,
        lamp: bool = False,
        visitor: bool = False,
    ) -> Picture:
        seen = self._scene[20:260, 20 + shift : 340 + shift].copy()
        if visitor:
            left = int(self._rng.integers(240))
            seen[60:180, left : left + 80] = 200
        if sigma:
            seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), sigma), np.float32)
        if lamp:
            seen = np.repeat(seen.mean(2, keepdims=True), 3, axis=2) * 0.7
        noisy = seen * light + self._rng.normal(0, 2, (240, seen.shape[1], 1))
        return np.clip(noisy, 0, 255).astype(np.uint8)


Shown = Callable[[float], Picture]


def watched(
    camera: Camera, shown: Shown, from_s: float, until_s: float, every_s: float = MINUTE_S
) -> tuple[Camera, list[Finding]]:
    """A camera after frames from one time of the day to another; what was found."""
    found = []
    for at_s in np.arange(from_s, until_s, every_s).tolist():
        camera, finding = check(camera, glance(shown(at_s)), at_s=at_s, hour=int(at_s / HOUR_S % 24))
        found += [finding] if finding else []
    return camera, found


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def settled(place: Place) -> Camera:
    camera, found = watched(Camera(), lambda _: place.frame(), NOON_S, NOON_S + HOUR_S)
    assert found == []
    return camera


AFTER_S = NOON_S + HOUR_S


def rules(found: list[Finding]) -> list[str]:
    return [finding.rule for finding in found]


@pytest.mark.slow
def test_a_camera_that_is_well_is_never_told(settled: Camera, place: Place) -> None:
    rng = np.random.default_rng(1)

    def passing(_: float) -> Picture:
        return place.frame(light=float(rng.uniform(0.6, 1.1)), visitor=rng.random() < 0.3)

    assert watched(settled, passing, AFTER_S, AFTER_S + 5 * HOUR_S)[1] == []


@pytest.mark.slow
def test_a_lens_out_of_focus_is_told_once(settled: Camera, place: Place) -> None:
    camera, found = watched(settled, lambda _: place.frame(sigma=5.0), AFTER_S, AFTER_S + HOUR_S)

    assert (rules(found), camera.fault) == (["camera-blurred"], "blurred")
    assert found[0].now < found[0].before


@pytest.mark.slow
def test_a_camera_that_is_well_again_is_told_as_such(settled: Camera, place: Place) -> None:
    broken, _ = watched(settled, lambda _: place.frame(sigma=5.0), AFTER_S, AFTER_S + HOUR_S)

    camera, found = watched(broken, lambda _: place.frame(), AFTER_S + HOUR_S, AFTER_S + 2 * HOUR_S)

    assert (rules(found), camera.fault) == (["camera-well"], "")


@pytest.mark.slow
def test_a_fault_of_a_moment_is_none(settled: Camera, place: Place) -> None:
    assert watched(settled, lambda _: place.frame(sigma=5.0), AFTER_S, AFTER_S + 4 * MINUTE_S)[1] == []


@pytest.mark.slow
def test_a_camera_that_was_pushed_is_told_once_and_gets_a_new_past(settled: Camera, place: Place) -> None:
    camera, found = watched(settled, lambda _: place.frame(shift=18), AFTER_S, AFTER_S + 3 * HOUR_S)

    assert rules(found) == ["camera-moved"]
    assert "of the picture" in found[0].reason
    assert camera.day.frames > 0


@pytest.mark.slow
def test_a_camera_that_looks_elsewhere_is_moved_not_blurred(settled: Camera) -> None:
    other = Place(7)

    assert rules(watched(settled, lambda _: other.frame(), AFTER_S, AFTER_S + HOUR_S)[1]) == ["camera-moved"]


@pytest.mark.slow
def test_the_same_picture_again_and_again_is_frozen(settled: Camera, place: Place) -> None:
    last = place.frame()

    camera, found = watched(settled, lambda _: last, AFTER_S, AFTER_S + HOUR_S)

    assert (rules(found), camera.fault) == (["camera-frozen"], "frozen")


@pytest.mark.slow
def test_a_covered_lens_is_told_in_an_hour_that_was_light_the_day_before(place: Place) -> None:
    camera, found = watched(Camera(), lambda _: place.frame(), 0.0, 24 * HOUR_S, 6 * MINUTE_S)

    camera, more = watched(camera, lambda _: place.frame(light=0.01), 34 * HOUR_S, 36 * HOUR_S, 6 * MINUTE_S)

    assert (rules(found), rules(more), camera.fault) == ([], ["camera-dark"], "dark")


@pytest.mark.slow
def test_nights_without_a_lamp_are_no_fault_and_dusk_may_come_earlier_each_day(place: Place) -> None:
    def sky(at_s: float) -> Picture:
        hour, day = at_s / HOUR_S % 24, at_s // (24 * HOUR_S)
        return place.frame(light=1.0 if 6 <= hour < 18 - day * 0.05 else 0.01)

    assert watched(Camera(), sky, 0.0, 9 * 24 * HOUR_S, 6 * MINUTE_S)[1] == []


@pytest.mark.slow
def test_the_nights_of_an_infrared_lamp_are_a_light_of_their_own(place: Place) -> None:
    def sky(at_s: float) -> Picture:
        return place.frame(lamp=not 6 <= at_s / HOUR_S % 24 < 18)

    camera, found = watched(Camera(), sky, 0.0, 4 * 24 * HOUR_S, 6 * MINUTE_S)

    assert found == []
    assert camera.day.frames > 0 < camera.night.frames


@pytest.mark.slow
def test_a_camera_that_has_never_seen_light_is_told_after_a_day(place: Place) -> None:
    until_s = ALWAYS_DARK_S + 2 * HOUR_S

    assert rules(watched(Camera(), lambda _: place.frame(light=0.01), 0.0, until_s, 6 * MINUTE_S)[1]) == ["camera-dark"]


@pytest.mark.slow
def test_pictures_of_many_places_are_no_moving_camera() -> None:
    places = [Place(seed) for seed in range(12)]
    rng = np.random.default_rng(0)

    assert watched(Camera(), lambda _: places[int(rng.integers(12))].frame(), 0.0, 5 * HOUR_S)[1] == []


def test_a_source_that_changes_its_size_starts_anew(settled: Camera, place: Place) -> None:
    tall = check(settled, glance(place.frame()[:, :120]), at_s=AFTER_S, hour=13)[0]

    assert tall.day.frames == 1


@pytest.mark.slow
def test_what_was_stored_goes_on_as_if_nothing_had_happened(settled: Camera, place: Place) -> None:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(settled), type=Camera)

    assert stored == settled
    assert len(msgspec.msgpack.encode(settled)) < 32 << 10
