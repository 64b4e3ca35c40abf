"""A second opinion about persons: OpenCV's histogram-of-gradients detector of people who stand or walk.

It knows nothing of what the backbone knows: it looks for the outline of an upright person. Alone it is weak (it misses
who sits, who is near or half hidden), but where the backbone is in doubt an outline settles it. It takes four to five
times the backbone's time, so it is asked in doubt only (`models.vision.frame_scan.searching`).

Example::

    outline = people.outline(frame)      # 0.0: nobody; from `looks.OUTLINE_CLEAR` on it is rarely wrong

Source: Dalal & Triggs 2005; weights as shipped by OpenCV (`HOGDescriptor_getDefaultPeopleDetector`).
"""

from __future__ import annotations

import threading
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

LONG_SIDE_PX = 480
"""Frames are shrunk to that: the detector's window is 128 pixels high, and its time grows with the area."""

WINDOW_PX = (64, 128)
STRIDE_PX = 8
SCALE_STEP = 1.1

_one_at_a_time = threading.Lock()


@cache
def _detector() -> cv2.HOGDescriptor:
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector(), np.float32))
    return detector


def outline(frame: NDArray[np.uint8]) -> float:
    """Return the detector's margin for an upright person in a frame (BGR, any size); 0 if it finds none."""
    height, width = frame.shape[:2]
    scale = min(1.0, LONG_SIDE_PX / max(height, width))
    small = cv2.resize(
        frame, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    if small.shape[0] < WINDOW_PX[1] or small.shape[1] < WINDOW_PX[0]:
        return 0.0
    with _one_at_a_time:  # one detector is shared, and OpenCV does not say that it may be
        _, weights = _detector().detectMultiScale(
            small, winStride=(STRIDE_PX, STRIDE_PX), scale=SCALE_STEP, groupThreshold=0
        )
    return float(np.max(weights, initial=0.0))
