"""A float network becomes smaller and says the same; what cannot be compressed is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="compressing needs onnx: pip install 'tierwise[train]'")

import onnx
from onnx import TensorProto, helper, numpy_helper

from models.imported.compress import CENTRED, Preparation, calibration, compare, halve, quantise, render
from models.onnx_session import Network
from pipeline.errors import Stop


def network(file: Path, *, side: int | str = 32, kind: int = TensorProto.FLOAT, opset: int = 17) -> Path:
    """One convolution, pooled, and a linear layer; random weights."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 0.2, (64, 3, 3, 3)),
        "b": rng.normal(0, 0.1, 64),
        "v": rng.normal(0, 1, (5, 64)),
        "c": rng.normal(0, 1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "c"], ["logits"], name="linear", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, ["n", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.save(model, str(file))
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for at in range(12):
        small = rng.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{at}.png"), cv2.resize(small, (48, 48), interpolation=cv2.INTER_NEAREST))
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def test_int8_is_smaller_and_says_nearly_the_same(tmp_path: Path, photos: Path) -> None:
    file, small = network(tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    batches = list(calibration(file, photos, CENTRED))
    assert len(batches) == 12
    quantise(file, small, batches)
    whole, less = compare([file, small], batches)
    assert less.size_bytes < 1.2 * whole.size_bytes  # so small a network is mostly its graph
    assert less.cosine > 0.99
    assert (whole.same_top, whole.cosine) == pytest.approx((1, 1))
    assert "int8.onnx" in render([whole, less])


def test_a_network_that_eats_bytes_answers_as_the_one_that_eats_floats(tmp_path: Path, photos: Path) -> None:
    file = network(tmp_path / "float.onnx")
    batches = list(calibration(file, photos, CENTRED))
    for name, eats in (("floats.onnx", False), ("bytes.onnx", True)):
        quantise(file, tmp_path / name, batches, leave_float=("Gemm",), bytes_input=eats)
    x = np.random.default_rng(2).integers(0, 256, (2, 3, 32, 32), np.uint8)
    floats = Network(tmp_path / "floats.onnx").run((x.astype(np.float32) - 127) / 128)
    np.testing.assert_allclose(Network(tmp_path / "bytes.onnx").run(x), floats, atol=1e-4)


def test_fp16_keeps_its_inputs_and_outputs(tmp_path: Path, photos: Path) -> None:
    file, small = network(tmp_path / "float.onnx"), tmp_path / "fp16.onnx"
    halve(file, small)
    _, less = compare([file, small], list(calibration(file, photos, CENTRED)))
    assert less.cosine > 0.999
    assert Network(small).run(np.zeros((1, 3, 32, 32), np.float32)).dtype == np.float32


def test_a_network_of_any_size_is_calibrated_at_the_size_that_is_said(tmp_path: Path, photos: Path) -> None:
    file = network(tmp_path / "float.onnx", side="side")
    with pytest.raises(Stop, match="pictures of any size; choose one: --size 224"):
        list(calibration(file, photos, CENTRED))
    (first, *_) = calibration(file, photos, Preparation(size_px=40))
    assert first["x"].shape == (1, 3, 40, 40)


def test_what_cannot_be_compressed_says_why(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(Stop, match="does not take one float tensor"):
        list(calibration(network(tmp_path / "bytes.onnx", kind=TensorProto.UINT8), photos, CENTRED))
    with pytest.raises(Stop, match="opset 11; export it again with opset 13"):
        halve(network(tmp_path / "old.onnx", opset=11), tmp_path / "out.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(Stop, match="is no ONNX network"):
        halve(tmp_path / "text.onnx", tmp_path / "out.onnx")
    file, small = network(tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    quantise(file, small, list(calibration(file, photos, CENTRED)))
    with pytest.raises(Stop, match="is quantised already"):
        halve(small, tmp_path / "out.onnx")


def test_a_folder_without_photos_calibrates_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Stop, match="no photo there can be read"):
        list(calibration(network(tmp_path / "float.onnx"), tmp_path / "empty", CENTRED))
