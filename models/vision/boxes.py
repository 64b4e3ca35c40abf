"""Parts of a picture in relative coordinates, which are valid at every decoded size of a frame.

Example::

    box = Box(0.25, 0.25, 0.75, 0.75).with_margin(0.25)   # Box(0.125, 0.125, 0.875, 0.875)
    crop(frame, box)                                      # a view of the frame's pixels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, right and bottom, each 0 to 1 of the picture's width or height."""

    left: float
    top: float
    right: float
    bottom: float

    WHOLE: ClassVar[Box]

    @property
    def area(self) -> float:
        """The share of the picture, 0 to 1."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def with_margin(self, share: float) -> Box:
        """Extend each side by a share of the own width and height, within the picture."""
        wide, high = (self.right - self.left) * share, (self.bottom - self.top) * share
        return Box(
            max(0.0, self.left - wide),
            max(0.0, self.top - high),
            min(1.0, self.right + wide),
            min(1.0, self.bottom + high),
        )

    def as_tuple(self) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom


Box.WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def crop(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return the part of a picture (height, width, channels) inside a box, as a view of at least one pixel."""
    height, width = picture.shape[:2]
    top, left = min(int(box.top * height), height - 1), min(int(box.left * width), width - 1)
    bottom, right = max(top + 1, round(box.bottom * height)), max(left + 1, round(box.right * width))
    return picture[top:bottom, left:right]
