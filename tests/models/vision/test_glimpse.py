"""The device's small network as it is served: pictures of any shape in, calibrated kingdoms and a person's score
out."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from models.labels.taxonomy import KINGDOMS
from models.manifest import FILE, Manifest, read_manifest
from models.shipped import GLIMPSE, ZOO, load_zoo
from models.vision.boxes import Box
from models.vision.glimpse import INPUT_PX, Glimpse, read, served, shrink
from pipeline.errors import Stop

MANIFEST = load_zoo().manifest(GLIMPSE)
NETWORK = Glimpse(MANIFEST.read("model.onnx"))
PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8), (0, 0), 9)


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 900, 3), (900, 16, 3), (1200, 1600, 3), (64, 64, 3)])
def test_pictures_of_odd_shapes_are_judged(shape: tuple[int, int, int]) -> None:
    logits, persons = NETWORK.judge([np.full(shape, 128, np.uint8)])
    assert logits.shape == (1, len(KINGDOMS)) and logits.dtype == np.float32
    assert persons.shape == (1,) and 0 <= persons[0] <= 1


def test_pictures_judged_together_are_judged_as_each_alone() -> None:
    pictures = [PICTURE, PICTURE[:100], PICTURE[:, :70]]
    logits, persons = NETWORK.judge(pictures)
    for at, picture in enumerate(pictures):
        alone = NETWORK.judge([picture])
        np.testing.assert_allclose(logits[at], alone[0][0], atol=1e-4)
        np.testing.assert_allclose(persons[at], alone[1][0], atol=1e-4)


def test_a_picture_is_served_whole_as_rgb_bytes() -> None:
    blue = np.zeros((100, 300, 3), np.uint8)
    blue[:, :150, 0] = 255
    small = shrink(blue)
    assert small.shape == (INPUT_PX, INPUT_PX, 3)
    assert small[5, 5].tolist() == [0, 0, 255] and small[5, 60].tolist() == [0, 0, 0]
    assert served([small]).shape == (1, 3, INPUT_PX, INPUT_PX) and served([small])[0, 2, 5, 5] == 255


def test_a_person_s_log_odds_become_a_score_without_overflow() -> None:
    outputs = np.zeros((3, 5), np.float32)
    outputs[:, 4] = -200, 0, 200
    assert read(outputs)[1].tolist() == pytest.approx([0, 0.5, 1])


def test_the_device_s_eye_by_glimpse_tells_what_it_misses() -> None:
    eye = load_zoo().device_model(GLIMPSE)
    assert eye.name == MANIFEST.title
    assert eye.person_miss_rate == MANIFEST.person_miss_rate
    assert load_zoo().device_model().person_miss_rate is None
    sight = eye.predict(PICTURE, Box(0.2, 0.2, 0.6, 0.6))
    assert sight.kingdom.labels == KINGDOMS
    assert sight.kingdom.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert sight.person_raised == (sight.person >= eye.person_threshold)


def test_the_network_is_as_small_as_a_weak_device_needs() -> None:
    assert sum((MANIFEST.folder / file).stat().st_size for file in MANIFEST.files) <= 300_000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"person_threshold": None}, "states no person threshold or miss rate"),
        ({"person_miss_rate": None}, "states no person threshold or miss rate"),
        ({"labels": "0" * 64}, "answers other kingdoms"),
    ],
)
def test_a_network_that_does_not_say_what_it_is_is_refused(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    shutil.copytree(ZOO / GLIMPSE, tmp_path / GLIMPSE)
    manifest: Manifest = msgspec.structs.replace(read_manifest(tmp_path / GLIMPSE), **changes)
    (manifest.folder / FILE).write_bytes(manifest.encoded())
    with pytest.raises(Stop, match=told):
        load_zoo(tmp_path).device_model(GLIMPSE)
