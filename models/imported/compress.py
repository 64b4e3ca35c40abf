"""Make a float ONNX network smaller, as int8 by photos or as float16, and measure the cost. Needs the `[train]` extra.

int8 is static (QDQ, per channel, uint8 activations by MinMax over calibration photos): on a CPU it has a quarter of
the size and is about twice as fast. float16 halves the size and is for accelerators: most CPUs do not compute it
faster.

Example::

    photos = list(calibration(Path("float.onnx"), Path("photos"), CENTRED))
    quantise(Path("float.onnx"), Path("int8.onnx"), photos)
    print(render(compare([Path("float.onnx"), Path("int8.onnx")], photos)))

The quantiser is ONNX Runtime's own; the integer arithmetic is Jacob et al. 2018 (arXiv:1712.05877).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from models.onnx_session import open_session
from models.vision import images
from pipeline.errors import Rejected, Stop

Batch = dict[str, NDArray[Any]]

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
# Enough to measure the range of every activation; more only takes longer.
CALIBRATION_PHOTOS = 200
COMPARED_PHOTOS = 100
INPUT_ZERO_POINT, INPUT_SCALE = 127, 1 / 128  # the shipped networks take (x - 127) / 128
# Older opsets cannot quantise per channel.
OPSET_LEAST = 13


@dataclass(frozen=True, slots=True)
class Preparation:
    """The preparation of pictures: RGB, (x - subtract) / divide, squeezed to the input's size or `size_px`."""

    subtract: float = INPUT_ZERO_POINT
    divide: float = 1 / INPUT_SCALE
    size_px: int | None = None


CENTRED = Preparation()


@dataclass(frozen=True, slots=True)
class Compared:
    """A network compared with the first: `same_top` is how often both have the same largest output.

    `cosine` is the mean cosine of the outputs; `ms` is on one thread.
    """

    file: str
    size_bytes: int
    ms: float
    same_top: float
    cosine: float


def load(file: Path) -> Any:
    """Load a float network that can be compressed. Raises `Stop`."""
    try:
        model = onnx.load(str(file))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, onnx's and the system's errors share no base class
        raise Stop(f"{file} is no ONNX network: {error}") from error
    if len(model.graph.input) != 1 or model.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise Stop(f"{file} does not take one float tensor; compress the float network that it was made from")
    if any(node.op_type in ("QuantizeLinear", "QLinearConv") for node in model.graph.node):
        raise Stop(f"{file} is quantised already; compress the float network it was made from")
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < OPSET_LEAST:
        raise Stop(f"{file} has opset {opset}; export it again with opset {OPSET_LEAST} or newer")
    return model


def calibration(file: Path, folder: Path, preparation: Preparation, count: int = CALIBRATION_PHOTOS) -> Iterator[Batch]:
    """Yield photos, spread evenly over a folder, as network inputs. Raises `Stop` if there are none."""
    entry = load(file).graph.input[0]
    height, width = _input_size(file, entry, preparation.size_px)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    photos = found[:: max(1, len(found) // count)][:count]
    read = 0
    for path in photos:
        try:
            picture = images.decode(path.read_bytes(), at_least_px=max(height, width))
        except (Rejected, OSError):
            continue
        read += 1
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        tensor = small[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        yield {entry.name: (tensor - np.float32(preparation.subtract)) / np.float32(preparation.divide)}
    if not read:
        raise Stop(f"{folder}: no photo there can be read; calibration needs some ({CALIBRATION_PHOTOS} are enough)")


def _input_size(file: Path, entry: Any, size_px: int | None) -> tuple[int, int]:
    """Return height and width of the network's input (n, 3, height, width); `size_px` replaces free sides."""
    sides = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    if len(sides) != 4 or sides[1] not in (0, 3):
        raise Stop(f"{file} takes no pictures (n, 3, height, width) but {sides}: photos cannot calibrate it")
    height, width = (side or size_px or 0 for side in sides[2:])
    if not height or not width:
        raise Stop(f"{file} takes pictures of any size; choose one: --size 224")
    return height, width


def quantise(
    source: Path,
    target: Path,
    batches: Iterable[Batch],
    *,
    leave_float: Sequence[str] = (),
    bytes_input: bool = False,
) -> None:
    """Quantise to static int8 by the ranges of `batches`. Nodes of the kinds in `leave_float` stay float.

    With `bytes_input` the new network takes uint8: the quantised input of (x - 127) / 128 is x itself.
    """
    from onnxruntime import quantization

    class CalibrationPhotos(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types for it
        def __init__(self) -> None:
            self.photos = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self.photos, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(str(prepared)).graph.node
        quantization.quantize_static(
            str(prepared),
            str(target),
            CalibrationPhotos(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=[node.name for node in nodes if node.op_type in leave_float],
        )
    if bytes_input:
        onnx.save(eat_bytes(onnx.load(str(target))), str(target))


def eat_bytes(model: Any) -> Any:
    """Remove the input's quantiser, since its output is the picture's bytes. Raises `Stop` if it is not."""
    graph = model.graph
    name = graph.input[0].name
    (entry,) = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == name]
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    scale, zero_point = float(constants[entry.input[1]]), int(constants[entry.input[2]])
    if zero_point != INPUT_ZERO_POINT or abs(scale / INPUT_SCALE - 1) > 1e-3:
        raise Stop(f"calibration measured scale {scale}, zero point {zero_point}: too few photos to span 0 to 255")
    for node in graph.node:
        node.input[:] = [name if each == entry.output[0] else each for each in node.input]
    graph.node.remove(entry)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.checker.check_model(model)
    return model


def halve(source: Path, target: Path) -> None:
    """Convert weights and arithmetic to float16; inputs and outputs stay float32."""
    from onnxruntime.transformers import float16

    onnx.save(float16.convert_float_to_float16(load(source), keep_io_types=True), str(target))


def compare(files: Sequence[Path], batches: Sequence[Batch]) -> tuple[Compared, ...]:
    """Run all networks on the same pictures in turn, so that other work of the machine slows all alike."""
    sessions = [open_session(file) for file in files]
    outputs: list[list[NDArray[np.float32]]] = [[] for _ in files]
    seconds: list[list[float]] = [[] for _ in files]
    for batch in batches[:COMPARED_PHOTOS]:
        for at, session in enumerate(sessions):
            start = time.perf_counter()
            found = session.run(None, batch)[0]
            seconds[at].append(time.perf_counter() - start)
            outputs[at].append(np.asarray(found, np.float32).reshape(-1))
    first = np.stack(outputs[0])
    return tuple(
        Compared(
            file=file.name,
            size_bytes=file.stat().st_size,
            ms=round(float(np.median(seconds[at])) * 1e3, 3),
            same_top=float((np.stack(outputs[at]).argmax(1) == first.argmax(1)).mean()),
            cosine=float(_cosine(np.stack(outputs[at]), first).mean()),
        )
        for at, file in enumerate(files)
    )


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(lengths, 1e-12), np.float32)


def render(rows: Sequence[Compared]) -> str:
    """Return a Markdown table that compares the networks with the first."""
    lines = ["| network | bytes | ms | same top | cosine |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row.file} | {row.size_bytes:,} ({row.size_bytes / rows[0].size_bytes:.0%}) "
        f"| {row.ms:.2f} ({row.ms / max(rows[0].ms, 1e-9):.2f}x) | {row.same_top:.1%} | {row.cosine:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)
