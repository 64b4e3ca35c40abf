"""Predict whether somebody is in a room, from a window over its streams, by a small network.

The edge receives readings of a room's streams by exception (changes and heartbeats) and passes a window of the last
half hour; the answer is `vacant` or `occupied`. Streams may be missing, since the network was trained with any of them
left out. Only light is required: without it the other streams are not enough (CARD.md has the figures).

Example::

    model = load_zoo().occupancy()
    model.predict({"lx": [(now_s - 60, 430.0)], "ppm": [(now_s - 30, 810.0)]}, now_s).best  # ("occupied", 0.98)

Trained on Candanedo & Feldheim 2016 (Energy and Buildings 112), split by time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.labels.scores import Scores, softmax
from pipeline.errors import Rejected

Window = Mapping[str, Sequence[tuple[float, float]]]

UNITS = ("Cel", "%RH", "lx", "ppm")
# Without light the other streams show little more than that most hours are vacant.
TELLING = ("lx",)
# The level of light is an input: a dark room is dark everywhere. Other levels depend on the room and the
# week, so that only their changes are inputs (trained on levels, the network was 3 points worse in the
# following week).
LEVEL_COUNTS = "lx"
LABELS = ("vacant", "occupied")
# Carbon dioxide needs about half an hour to follow people who enter or leave.
WINDOW_S = 1800.0
RECENT_S = 300.0
# A stream that was silent for longer than two heartbeats and a window counts as missing.
STALE_S = 3000.0
# The inputs of a stream: present?, last five minutes minus the window's mean, change over the window, level
# (light only).
VALUES_PER_STREAM = 4
# Scales each stream to about one. Light is taken as a logarithm.
CENTRE_AND_SCALE = {"Cel": (21.0, 2.0), "%RH": (30.0, 10.0), "lx": (3.0, 3.0), "ppm": (700.0, 400.0)}


class TooLittle(Rejected):
    """The window holds no light; the message lists the present and the required streams."""

    def __init__(self, present: Sequence[str]) -> None:
        has = ", ".join(present) or "nothing"
        super().__init__(
            "window-too-thin",
            f"a window with {has} of the last {STALE_S / 60:.0f} minutes; occupancy needs {' or '.join(TELLING)}",
        )


def features(window: Window, now_s: float) -> NDArray[np.float32]:
    """Return the inputs float32 (16,), `VALUES_PER_STREAM` for each of `UNITS`, from (UTC seconds, value) by unit.

    A stream keeps its last value until the next reading, since readings are sent by exception. Units that are not in
    `UNITS`, readings after `now_s` and stale streams are left out.
    """
    out = np.zeros((len(UNITS), VALUES_PER_STREAM), np.float32)
    for at, unit in enumerate(UNITS):
        readings = sorted(each for each in window.get(unit, ()) if now_s - STALE_S <= each[0] <= now_s)
        if not readings:
            continue
        times = np.array([time_s for time_s, _ in readings])
        values = np.array([_scaled(unit, value) for _, value in readings])
        recent, whole = (_held_mean(times, values, now_s - span, now_s) for span in (RECENT_S, WINDOW_S))
        began = max(0, int(np.searchsorted(times, now_s - WINDOW_S, "right")) - 1)
        out[at] = 1.0, recent - whole, values[-1] - values[began], recent if unit == LEVEL_COUNTS else 0.0
    return out.reshape(-1)


def _scaled(unit: str, value: float) -> float:
    centre, scale = CENTRE_AND_SCALE[unit]
    return ((math.log1p(max(0.0, value)) if unit == "lx" else value) - centre) / scale


def _held_mean(times: NDArray[np.float64], values: NDArray[np.float64], start_s: float, end_s: float) -> float:
    """Return the time-weighted mean of a step function, which has its first value before its first reading."""
    edges = np.clip(np.append(times, end_s), start_s, end_s)
    edges[0] = start_s
    weights = np.diff(edges)
    return float(values @ weights / weights.sum()) if weights.sum() > 0 else float(values[-1])


class OccupancyModel:
    """The shipped network; results carry `name`."""

    units = UNITS
    # How much of each stream a caller keeps: enough for the value at the beginning of the window.
    window_s = STALE_S

    def __init__(self, name: str, network: bytes) -> None:
        # Imported here, since features and labels are also used without ONNX Runtime.
        from models.onnx_session import Network

        self.name = name
        self._network = Network(network)

    def predict(self, window: Window, now_s: float) -> Scores:
        """Return calibrated scores over `vacant` and `occupied`. Raises `TooLittle` without fresh light."""
        x = features(window, now_s)
        present = [unit for at, unit in enumerate(UNITS) if x[at * VALUES_PER_STREAM]]
        if not any(unit in TELLING for unit in present):
            raise TooLittle(present)
        return Scores("activity", LABELS, softmax(self._network.run(x[None])[0]))
