"""Tiny ONNX models for tests: the mean colour of a picture, and a matrix on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
RED, GREEN, BLUE = np.eye(3, dtype=np.float32)


def colours(
    rows: np.ndarray | None = None,
    *,
    shape: Sequence[int | str] = ("batch", 3, 32, 32),
    opset: int = OPSET,
    softmax: bool = True,
    outputs: int = 1,
    element: int = TensorProto.FLOAT,
    more: Sequence[onnx.NodeProto] = (),
    last: str | None = None,
) -> onnx.ModelProto:
    """Scores of a picture by its mean colour: rows (labels, 3); `more` nodes may follow, `last` names their output."""
    rows = np.eye(3, dtype=np.float32) * 8 if rows is None else rows.astype(np.float32)
    channels_first = shape[1] == 3
    nodes = [] if element == TensorProto.FLOAT else [helper.make_node("Cast", ["x"], ["f"], to=1)]
    given = nodes[-1].output[0] if nodes else "x"
    if not channels_first:
        nodes.append(helper.make_node("Transpose", [given], ["t"], perm=[0, 3, 1, 2]))
        given = "t"
    nodes += [
        helper.make_node("GlobalAveragePool", [given], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"], axis=1),
        helper.make_node("MatMul", ["mean", "rows"], ["logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
    nodes += more
    out = last or ("p" if softmax else "logits")
    infos = [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)]
    if outputs == 2:
        infos.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", element, shape)],
        infos,
        [numpy_helper.from_array(np.ascontiguousarray(rows.T), "rows")],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def features(numbers: int = 24, **more: object) -> onnx.ModelProto:
    """A backbone: so many mixtures of the mean colour, cut off below 0."""
    rows = np.random.default_rng(0).normal(size=(numbers, 3))
    relu = helper.make_node("Relu", ["logits"], ["feature"])
    return colours(rows, softmax=False, more=[relu], last="feature", **more)  # type: ignore[arg-type]


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def png(picture: np.ndarray) -> bytes:
    """Encode BGR as PNG, lossless."""
    return bytes(cv2.imencode(".png", picture)[1])


def coloured(colour: np.ndarray, seed: int = 0, side: int = 64) -> np.ndarray:
    """A noisy picture of one colour (RGB, 0 to 1), BGR uint8."""
    noise = np.random.default_rng(seed).normal(0, 25, (side, side, 3))
    base = np.full((side, side, 3), colour[::-1] * 150.0 + 50.0)
    return np.clip(base + noise, 0, 255).astype(np.uint8)
