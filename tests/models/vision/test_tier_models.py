"""The three eyes on one picture: they agree in form, the vector carries over, the cloud needs nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.shipped import load_zoo
from models.train.lite0.measure import RISKS
from models.vision.boxes import Box
from models.vision.tier_models import EdgeModel
from pipeline.errors import Rejected

ZOO = load_zoo()
DEVICE, EDGE, CLOUD = ZOO.device_model(), ZOO.edge_model(), ZOO.cloud_model()
PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8), (0, 0), 9)


def test_all_eyes_share_the_model_name_and_the_space() -> None:
    assert DEVICE.name == EDGE.name == CLOUD.name == "lite0@2"
    assert EDGE.space == CLOUD.space


def test_the_device_answers_kingdoms_and_a_crop_inside_the_frame() -> None:
    sight = DEVICE.predict(PICTURE)
    assert sight.kingdom.labels == KINGDOMS
    assert sight.kingdom.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert 0 <= sight.person <= 1
    assert sight.person_raised == (sight.person >= DEVICE.person_threshold)
    assert 0 <= sight.crop_box.left < sight.crop_box.right <= 1.0001


def test_the_start_up_measurement_is_a_time() -> None:
    assert 0 < DEVICE.measure_ms(repeats=2) < 60_000


def test_edge_and_cloud_answer_the_same_tree_from_the_same_vector() -> None:
    edge = EDGE.predict(PICTURE)
    cloud = CLOUD.predict(edge.vector)
    again = EDGE.predict_vector(edge.vector)
    assert edge.vector.dtype == np.uint8 and edge.vector.shape == (256,)
    assert edge.family.labels == cloud.family.labels == load_taxonomy().families
    np.testing.assert_allclose(again.family.probabilities, cloud.family.probabilities, atol=1e-6)
    assert np.array_equal(again.vector, edge.vector)
    for scores in (edge.family, edge.kingdom, cloud.species, cloud.family, cloud.kingdom):
        assert scores.probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_a_sight_names_the_thresholds_that_were_measured_for_its_model() -> None:
    edge = EDGE.predict(PICTURE)
    measured = ZOO.manifest("lite0").thresholds
    assert measured is not None
    for sight in (edge, EDGE.predict_vector(edge.vector), CLOUD.predict(edge.vector)):
        assert dict(sight.thresholds) == {rank: its.at for rank, its in measured.items()}
    for rank, risk in RISKS.items():
        assert measured[rank].wrong <= measured[rank].answered <= measured[rank].held
        assert measured[rank].risk <= risk


def test_the_same_picture_always_gives_the_same_vector() -> None:
    assert np.array_equal(EDGE.predict(PICTURE).vector, ZOO.edge_model().predict(PICTURE).vector)


def test_a_whole_frame_raises_at_a_lower_person_score_than_a_crop() -> None:
    head, projection = EDGE._frame_head, EDGE._projection
    between = replace(
        head,
        person_weights=np.zeros_like(head.person_weights),
        person_bias=float(np.log(0.4 / 0.6)),
        person_threshold=0.3,
    )
    eye = EdgeModel(
        EDGE.name,
        EDGE.space,
        EDGE.tree,
        EDGE._feature_of,
        projection,
        EDGE._feature_head,
        EDGE.head,
        between,
    )
    assert eye.predict(PICTURE).person_raised
    assert not eye.predict(PICTURE, Box(0.2, 0.2, 0.6, 0.6)).person_raised


@pytest.mark.parametrize("vector", [np.zeros(255, np.uint8), np.zeros((1, 256), np.uint8), np.zeros(256, np.float32)])
def test_a_vector_of_another_space_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(Rejected, match="this space has uint8") as refused:
        CLOUD.predict(vector)
    assert refused.value.reason == "space-mismatch"


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 900, 3), (900, 16, 3), (1200, 1600, 3)])
def test_pictures_of_odd_shapes_are_seen(shape: tuple[int, int, int]) -> None:
    assert DEVICE.predict(np.full(shape, 128, np.uint8)).kingdom.best[0] in KINGDOMS
    assert EDGE.predict(np.full(shape, 128, np.uint8)).vector.shape == (256,)


@pytest.mark.slow
def test_the_cloud_needs_neither_opencv_nor_onnx_runtime() -> None:
    program = (
        "import sys, numpy\n"
        "from models.shipped import load_zoo\n"
        "load_zoo().cloud_model().predict(numpy.full(256, 128, numpy.uint8))\n"
        "assert not {'cv2', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
