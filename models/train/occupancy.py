"""Train the occupancy network: ``python -m models.train.occupancy`` (a minute; numpy only).

Data: ``sensors/occupancy_detection.csv`` (Candanedo & Feldheim 2016): one office, one minute, 2015-02-02 to 18. Split
by time, never at random, since neighbouring minutes are nearly equal: train until 02-08, calibrate on 02-09 and 10,
test on 02-11 to 18. Windows are made as at the edge: half of them from readings that a dead band thinned out, with
streams left out at random.

Written: ``models/zoo/occupancy/model.onnx`` and its manifest; the figures of CARD.md are printed.
"""

from __future__ import annotations

import csv
import datetime as dt
import sys
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.evaluation.photo_pack import data_root
from models.labels.calibration import expected_calibration_error, fit_temperature
from models.labels.scores import softmax
from models.manifest import Manifest, digest_of_labels
from models.series.occupancy import LABELS, STALE_S, TELLING, UNITS, VALUES_PER_STREAM, features
from models.series.statistics import default_dead_band, worth_sending
from models.train.zoo_folder import write_manifest
from pipeline.errors import Stop

ZOO = Path(__file__).parents[1] / "zoo" / "occupancy"
VERSION = 1
COLUMNS = {"Cel": "Temperature_C", "%RH": "Humidity_pct", "lx": "Light_lux", "ppm": "CO2_ppm"}
CALIBRATE_FROM, TEST_FROM = "2015-02-09", "2015-02-11"
HIDDEN = 16
EPOCHS, BATCH, RATE, DECAY = 30, 256, 3e-3, 1e-4
SENSOR_NOISE = 0.05
LEAVE_OUT = 0.3

Floats = NDArray[np.float32]
Layers = list[tuple[Floats, Floats]]


def read_rows() -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], NDArray[np.intp]]:
    """Read times (UTC seconds), values by unit and occupied (0 or 1); all (n,)."""
    file = data_root() / "sensors" / "occupancy_detection.csv"
    if not file.is_file():
        raise Stop(f"{file} is not there; set TIERWISE_DATASETS to the folder that holds sensors/")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    times = [dt.datetime.fromisoformat(row["date"]).replace(tzinfo=dt.UTC).timestamp() for row in rows]
    values = {unit: np.array([float(row[column]) for row in rows]) for unit, column in COLUMNS.items()}
    return np.array(times), values, np.array([int(row["Occupancy"]) for row in rows], np.intp)


def thinned(times: NDArray[np.float64], values: NDArray[np.float64], unit: str) -> list[tuple[float, float]]:
    """Thin out a stream as the device does: report by exception."""
    band, sent = default_dead_band(unit), list[tuple[float, float]]()
    for time_s, value in zip(times.tolist(), values.tolist(), strict=True):
        last_time_s, last_value = sent[-1] if sent else (None, None)
        if worth_sending(last_value, last_time_s, value, time_s, band)[0]:
            sent.append((time_s, value))
    return sent


def windows(times: NDArray[np.float64], streams: dict[str, list[tuple[float, float]]]) -> Floats:
    """Compute the features at every minute, (n, 16)."""
    marks = {unit: np.array([time_s for time_s, _ in readings]) for unit, readings in streams.items()}
    out = np.empty((len(times), len(UNITS) * VALUES_PER_STREAM), np.float32)
    for row, now_s in enumerate(times.tolist()):
        window = {}
        for unit, readings in streams.items():
            first, last = np.searchsorted(marks[unit], [now_s - STALE_S, now_s + 1e-3])
            window[unit] = readings[first:last]
        out[row] = features(window, now_s)
    return out


def without(x: Floats, units: Sequence[str]) -> Floats:
    """Return the windows with streams missing."""
    out = x.reshape(len(x), len(UNITS), VALUES_PER_STREAM).copy()
    out[:, [UNITS.index(unit) for unit in units]] = 0
    return out.reshape(len(x), -1)


def forward(layers: Layers, x: Floats) -> list[Floats]:
    """Return all activations, the logits last."""
    seen = [x]
    for at, (weights, bias) in enumerate(layers):
        y = seen[-1] @ weights + bias
        seen.append(np.maximum(y, 0) if at + 1 < len(layers) else y)
    return seen


def train(x: Floats, y: NDArray[np.intp]) -> Layers:
    """Train a two-layer network by Adam; leave streams out and disturb sensors at random."""
    rng = np.random.default_rng(0)
    sizes = (x.shape[1], HIDDEN, len(LABELS))
    layers = [
        (rng.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32), np.zeros(b, np.float32)) for a, b in pairwise(sizes)
    ]
    parts = [part for layer in layers for part in layer]
    moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]
    steps = EPOCHS * (len(x) // BATCH)
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(x), BATCH)
        batch = x[rows] + rng.normal(0, SENSOR_NOISE, (BATCH, x.shape[1])).astype(np.float32)
        kept = rng.random((BATCH, len(UNITS), 1)) > LEAVE_OUT
        batch = (batch.reshape(BATCH, len(UNITS), -1) * kept).reshape(BATCH, -1).astype(np.float32)
        seen = forward(layers, batch)
        error = softmax(seen[-1])
        error[np.arange(BATCH), y[rows]] -= 1
        gradients: list[Floats] = []
        for at in reversed(range(len(layers))):
            gradients[:0] = [seen[at].T @ error / BATCH + DECAY * layers[at][0], error.mean(0)]
            error = (error @ layers[at][0].T) * (seen[at] > 0)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        for at, gradient in enumerate(gradients):
            first, second = moments[at]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            parts[at] -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return layers


def to_onnx(layers: Layers, temperature: float) -> bytes:
    """Export the network with its temperature folded into the last layer: x (1, 16) -> logits (1, 2). Opset 13."""
    nodes, constants, name = [], [], "x"
    for at, (weights, bias) in enumerate(layers):
        last = at + 1 == len(layers)
        by = temperature if last else 1.0
        constants += [
            numpy_helper.from_array((weights / by).astype(np.float32), f"w{at}"),
            numpy_helper.from_array((bias / by).astype(np.float32), f"b{at}"),
        ]
        out = "logits" if last else f"y{at}"
        nodes.append(helper.make_node("Gemm", [name, f"w{at}", f"b{at}"], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"r{at}"]))
        name = f"r{at}"
    graph = helper.make_graph(
        nodes,
        "occupancy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, layers[0][0].shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(LABELS)])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def report(layers: Layers, temperature: float, x: Floats, y: NDArray[np.intp]) -> None:
    """Print accuracy, balanced accuracy and calibration for every set of streams that may answer."""
    for count in range(len(UNITS), 0, -1):
        for present in combinations(UNITS, count):
            if not set(present) & set(TELLING):
                continue
            p = softmax(forward(layers, without(x, [unit for unit in UNITS if unit not in present]))[-1] / temperature)
            right = p.argmax(1) == y
            balanced = np.mean([right[y == label].mean() for label in range(len(LABELS))])
            error = expected_calibration_error(p.max(1), right)
            sys.stdout.write(
                f"{' '.join(present):18s} accuracy {right.mean():.3f}  balanced {balanced:.3f}  ECE {error:.3f}\n"
            )


def main() -> None:
    """Run this recipe."""
    times, values, y = read_rows()
    days = [dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp() for day in (CALIBRATE_FROM, TEST_FROM)]
    raw = windows(
        times,
        {unit: list(zip(times.tolist(), column.tolist(), strict=True)) for unit, column in values.items()},
    )
    reported = windows(times, {unit: thinned(times, column, unit) for unit, column in values.items()})
    parts = [times < days[0], (times >= days[0]) & (times < days[1]), times >= days[1]]
    learning, holding, testing = parts
    layers = train(np.concatenate([raw[learning], reported[learning]]), np.concatenate([y[learning]] * 2))
    temperature = fit_temperature(forward(layers, reported[holding])[-1], y[holding])
    sys.stdout.write(
        f"train {learning.sum()}, calibrate {holding.sum()}, test {testing.sum()} minutes "
        f"({y[testing].mean():.2f} occupied); temperature {temperature:.2f}\n"
    )
    report(layers, temperature, reported[testing], y[testing])
    ZOO.mkdir(parents=True, exist_ok=True)
    (ZOO / "model.onnx").write_bytes(to_onnx(layers, temperature))
    write_manifest(
        Manifest(
            folder=ZOO,
            name="occupancy",
            version=VERSION,
            task="occupancy",
            files={},
            labels=digest_of_labels(LABELS),
            terms="Apache-2.0; learned from Candanedo & Feldheim 2016 (CARD.md)",
        ),
        ("model.onnx",),
    )


if __name__ == "__main__":
    main()
