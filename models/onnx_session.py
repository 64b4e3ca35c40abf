"""ONNX Runtime, and the only file that imports it: one thread, no spinning, little memory.

An agent shares its machine with brokers and other agents. So a session uses one thread, lets it sleep between calls
and keeps no memory arena (an arena never frees the memory of the largest batch). `Backbone` turns a picture into the
feature that every head reads; `Network` runs any other small network.

Example::

    backbone = Backbone(Path("models/zoo/lite0/backbone.onnx"), size_px=224)
    feature = backbone.feature(cv2.imread("cat.jpg"))  # float32 (1280,)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.errors import Stop

# The backbone halves its picture five times: a side that is a multiple of 32 needs no padding.
STRIDE_PX = 32
# Pictures beyond 2:1 are squeezed: a thin strip would leave only one row to the last layers.
MAX_ASPECT = 2.0


def open_session(model: bytes | Path) -> ort.InferenceSession:
    """Open a session as described above, on the CPU. Raises `Stop` if the network cannot run here."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
        session._model_bytes = None  # 4 MB, kept only to open the network anew on another processor
        return session
    except Exception as error:  # onnxruntime's own errors share no base class
        name = "the given bytes" if isinstance(model, bytes) else model
        raise Stop(f"{name} does not load in ONNX Runtime {ort.__version__}: {error}") from error


def served_shape(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Return the input shape (height, width) for a picture: about `size_px` squared, same aspect, multiples of 32."""
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT) ** 0.5
    high, wide = (max(1, round(side / STRIDE_PX)) * STRIDE_PX for side in (size_px / aspect, size_px * aspect))
    return high, wide


def serve(picture: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resize BGR (height, width, 3) to the backbone's input: RGB (1, 3, h, w), uint8, contiguous."""
    high, wide = served_shape(picture.shape[0], picture.shape[1], size_px)
    shrinks = high * wide < picture.shape[0] * picture.shape[1]
    # Area averaging avoids moiré when a picture shrinks; cubic interpolation enlarges small crops.
    resized = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.ascontiguousarray(resized[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.uint8)


class Backbone:
    """The frozen network. Safe to share between threads: a session keeps no state between calls."""

    def __init__(self, model: bytes | Path, size_px: int) -> None:
        self.session = open_session(model)
        self.size_px = size_px

    def feature(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the feature of BGR uint8 (height, width, 3): float32 (1280,), each >= 0 (a pooled ReLU6)."""
        feature: NDArray[np.float32] = self.session.run(["feature"], {"x": serve(picture, self.size_px)})[0][0]
        return feature

    def map(self, picture: NDArray[np.uint8], size_px: int) -> NDArray[np.float32]:
        """Return the features before pooling, one per 32 pixels: BGR (height, width, 3) -> float32 (1280, h, w)."""
        cells: NDArray[np.float32] = self.session.run(["map"], {"x": serve(picture, size_px)})[0][0]
        return cells


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network: name, element type (``tensor(float)``) and shape; None is a free side."""

    name: str
    type: str
    shape: tuple[int | None, ...]


class Network:
    """A small network with one input, float32 or the bytes of pictures, and one output, float32."""

    def __init__(self, model: bytes | Path) -> None:
        self.session = open_session(model)
        self.input = next((port.name for port in self.session.get_inputs()), "")

    @property
    def inputs(self) -> tuple[Port, ...]:
        """All inputs, in order."""
        return tuple(map(_port, self.session.get_inputs()))

    @property
    def outputs(self) -> tuple[Port, ...]:
        """All outputs, in order."""
        return tuple(map(_port, self.session.get_outputs()))

    def run(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on float32, or on uint8 if it takes that; the shapes are the network's own."""
        y: NDArray[np.float32] = self.session.run(None, {self.input: x})[0]
        return y


def _port(node: ort.NodeArg) -> Port:
    # A free side is None, or a name such as "batch".
    shape = tuple(side if isinstance(side, int) else None for side in node.shape or ())
    return Port(node.name, node.type, shape)
