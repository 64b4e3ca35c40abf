"""What a model of one's own says of labels adds up the tree; pictures reach it in the shape that it was made for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sample_onnx import RED, coloured, colours

from models.heads.solve import LinearHead
from models.imported.imported_model import (
    PRESETS,
    ByteRange,
    ImportedModel,
    ImportedNetwork,
    Spec,
    TreeSums,
    read_head,
    write_head,
)
from models.imported.importing import read_labels
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.onnx_session import Network
from pipeline.errors import Rejected, Stop

TREE = load_taxonomy()
ANY_RANK = st.sampled_from(sorted(TREE.paths))


@pytest.mark.slow
@given(st.lists(st.tuples(ANY_RANK, st.integers(1, 1000)), min_size=1, max_size=30))
def test_nothing_is_lost_or_gained_on_the_way_up(pairs: list[tuple[str, int]]) -> None:
    labels = tuple(label for label, _ in pairs)
    weights = np.array([weight for _, weight in pairs], np.float32)
    family, kingdom = TreeSums(TREE, labels).up(weights / weights.sum())
    assert family.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert kingdom.probabilities.sum() == pytest.approx(1, abs=1e-5)
    for at, name in enumerate(KINGDOMS):
        below = sum(family[label] for label in family.labels if TREE.path(label)[0] == name)
        assert below == pytest.approx(float(kingdom.probabilities[at]), abs=1e-5)


def test_a_kingdom_among_the_labels_is_never_taken_for_a_family() -> None:
    family, _ = TreeSums(TREE, ("animal", "Panthera tigris", "Panthera leo")).up(np.array([0.5, 0.3, 0.2], np.float32))
    assert family.labels == ("animal", "Felidae")
    assert family["Felidae"] == pytest.approx(0.5)


@pytest.mark.slow
@given(st.text())
def test_any_text_is_a_list_of_labels_or_is_refused(text: str) -> None:
    with contextlib.suppress(Stop):
        assert all(label in TREE.paths for label in read_labels(text, TREE, "labels.txt"))


@pytest.mark.parametrize("shape", [(8, 8, 3), (500, 20, 3), (33, 700, 3)])
@pytest.mark.parametrize(("layout", "served"), [("nchw", (1, 3, 32, 48)), ("nhwc", (1, 32, 48, 3))])
def test_pictures_of_any_shape_are_served(shape: tuple[int, ...], layout: Any, served: tuple[int, ...]) -> None:
    spec = Spec("classifier", layout, (32, 48), "float32", PRESETS["imagenet"], "logits", 3, (), "mine.onnx", "")
    network = Network(colours(shape=served).SerializeToString())
    own = ImportedNetwork(spec, network)
    x = own.serve(np.full(shape, 255, np.uint8))
    assert (x.shape, x.dtype) == (served, np.float32)
    assert own.output(coloured(RED)).shape == (3,)


def own_model(model: onnx.ModelProto, length: int = 3) -> ImportedModel:
    spec = Spec(
        "classifier",
        "nchw",
        (32, 32),
        "float32",
        PRESETS["raw"],
        "logits",
        length,
        ("Felidae", "Canidae", "other"),
        "mine.onnx",
        "",
    )
    return ImportedModel("mine@1", TREE, ImportedNetwork(spec, Network(model.SerializeToString())))


def bad_for_blue() -> onnx.ModelProto:
    """The logarithm of blue's lead over red, which is no number where red leads."""
    more = [helper.make_node("Log", ["logits"], ["q"])]
    return colours(np.tile([[-1.0, 0.0, 1.0]], (3, 1)), softmax=False, more=more, last="q")


def fails_on_running() -> onnx.ModelProto:
    """Asks for the 1,000th of three numbers where the picture is bright."""
    more = [
        helper.make_node("Cast", ["logits"], ["at"], to=TensorProto.INT64),
        helper.make_node("Gather", ["logits", "at"], ["taken"], axis=1),
        helper.make_node("Flatten", ["taken"], ["q"], axis=1),
    ]
    return colours(np.full((3, 3), 10.0), softmax=False, more=more, last="q")


def longer_when_bright() -> onnx.ModelProto:
    """Only the numbers that are not 0."""
    more = [
        helper.make_node("Floor", ["logits"], ["whole"]),
        helper.make_node("NonZero", ["whole"], ["at"]),
        helper.make_node("Cast", ["at"], ["q"], to=TensorProto.FLOAT),
    ]
    return colours(np.full((3, 3), 0.01), softmax=False, more=more, last="q")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (bad_for_blue, r"the model mine@1 gives numbers that are not finite"),
        (fails_on_running, r"the model mine@1 fails on this picture: "),
        (longer_when_bright, r"the model mine@1 gives 6 numbers for this picture, not 3"),
    ],
)
def test_a_model_that_fails_on_a_picture_is_blamed_by_name(make: Callable[[], onnx.ModelProto], complaint: str) -> None:
    with pytest.raises(Rejected, match=complaint) as refused:
        own_model(make()).predict(coloured(RED))
    assert refused.value.reason == "bad-output"


def test_the_imagenet_preset_is_torchvisions() -> None:
    intake = PRESETS["imagenet"]
    assert np.allclose(np.array(intake.mean) / 255, [0.485, 0.456, 0.406])
    assert np.allclose(np.array(intake.std) / 255, [0.229, 0.224, 0.225])


def test_a_head_is_read_as_it_was_written() -> None:
    rng = np.random.default_rng(0)
    head = LinearHead(
        "mine-1",
        "species",
        ("Felidae", "person"),
        rng.random((4, 2), np.float32),
        np.zeros(2, np.float32),
        0.3,
    )
    byte_range = ByteRange(np.zeros(4, np.float32), np.ones(4, np.float32))
    again, its_range = read_head(write_head(head, byte_range), "mine-1")
    assert (again.space, again.rank, again.labels) == (head.space, head.rank, head.labels)
    assert again.temperature == pytest.approx(0.3)
    assert np.array_equal(again.weights, head.weights)
    assert np.array_equal(its_range.high, byte_range.high)
