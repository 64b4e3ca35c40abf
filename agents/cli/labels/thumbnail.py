"""A picture in a terminal: two pixels a character, the upper as its colour, the lower as its background."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
from rich.text import Text

from models.vision import images
from pipeline.errors import Rejected

COLUMNS: Final = 64
ROWS_MAX: Final = 24
UPPER_HALF: Final = "▀"


def thumbnail(path: Path, columns: int = COLUMNS) -> Text | None:
    """Draw the picture of a file; None if it cannot be read as a picture."""
    try:
        picture = images.decode(path.read_bytes())
    except (OSError, Rejected):
        return None
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * ROWS_MAX / height)
    size = (max(1, round(width * scale)), max(2, round(height * scale) // 2 * 2))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    text = Text()
    for row in range(0, size[1], 2):
        for (b, g, r), (b2, g2, r2) in zip(small[row], small[row + 1], strict=True):
            text.append(UPPER_HALF, f"rgb({r},{g},{b}) on rgb({r2},{g2},{b2})")
        text.append("\n")
    return text
