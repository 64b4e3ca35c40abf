"""The processor time of each model, beside one pass of the backbone, which most of them use.

Processor time of one thread (`time.process_time`), so that a busy machine changes little; models take turns, round by
round, so that a change of load hits all alike. A frame is 640x480 and grey: the content of a picture changes the time
of no model but the people detector, which is listed by itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np

from models.series.occupancy import UNITS
from models.shipped import GLIMPSE, load_zoo
from models.vision import hog_people
from models.vision.boxes import Box

BACKBONE: Final = "lite0, one pass at 224 px"
ROUNDS, CALLS = 15, 3
REGION: Final = Box(0.25, 0.25, 0.75, 0.75)


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure milliseconds of processor time a call, the ratio to one pass of the backbone, and bytes on disk."""
    cv2.setNumThreads(0)
    calls = contestants()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first call allocates
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(CALLS):
                call()
            times[name].append((time.process_time() - start) / CALLS * 1000)
    ms = {name: statistics.median(ms) for name, ms in times.items()}
    return {
        "ms": {name: round(value, 3) for name, value in ms.items()},
        "ratio": {name: round(value / ms[BACKBONE], 3) for name, value in ms.items()},
        "bytes": sizes(),
    }


def sizes() -> dict[str, int]:
    """Return the bytes of each model's files, by its title."""
    return {
        manifest.title: sum((manifest.folder / file).stat().st_size for file in manifest.files)
        for manifest in load_zoo().manifests
    }


def contestants() -> dict[str, Callable[[], object]]:
    """Return a call for each model, with an input of its own."""
    zoo, rng = load_zoo(), np.random.default_rng(0)
    frame = np.full((480, 640, 3), 90, np.uint8)
    crop = rng.integers(0, 256, (240, 320, 3), np.uint8)
    backbone, device, small = zoo.backbone(), zoo.device_model(), zoo.device_model(GLIMPSE)
    edge, cloud, occupancy = zoo.edge_model(), zoo.cloud_model(), zoo.occupancy()
    vector = edge.predict(crop).vector
    window = {unit: [(60.0 * minute, 20.0 + minute % 3) for minute in range(30)] for unit in UNITS}
    return {
        BACKBONE: lambda: backbone.feature(crop),
        "lite0, the map of a frame at 448 px": lambda: backbone.map(frame, 448),
        "lite0 on the device, something moved": lambda: device.predict(frame, REGION),
        "lite0 on the device, a still frame": lambda: device.predict(frame),
        "OpenCV's people detector, asked in doubt": lambda: hog_people.outline(frame),
        "glimpse on the device, something moved": lambda: small.predict(frame, REGION),
        "glimpse on the device, a still frame": lambda: small.predict(frame),
        "lite0 at the edge, a crop": lambda: edge.predict(crop),
        "lite0 at the edge, a vector": lambda: edge.predict_vector(vector),
        "lite0 in the cloud, a vector": lambda: cloud.predict(vector),
        "occupancy at the edge, a window": lambda: occupancy.predict(window, 1800.0),
    }
