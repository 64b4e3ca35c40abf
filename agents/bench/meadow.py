"""The site of the frames benchmark: fixed cameras in front of which a cat walks."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from agents.demo.scenes import FRAME_PX, photo_folder
from agents.up.plan import ROLE_NAMES
from models.vision import images

DEVICES: Final = 16
"""Cameras, and frames under way at once: every tier is busy, and frames of one camera come far enough apart to be
sightings of their own."""
DISTINCT: Final = 12
"""Different frames of a camera; then they repeat."""
CAT_PX: Final = 280
"""Longer side of the cat: a tenth of the frame, so that what moved is looked at closely."""
WARM: Final = 3
"""Frames of a camera that are not counted: models, connections and caches are cold."""

SITE: Final = "bench"
SETTINGS: Final = """\
site = "{site}"
[mqtt]
port = {mqtt}
[kafka]
port = {kafka}
[http]
{http}
[device]
sighting_gap_s = 0.001  # each frame is a sighting of its own
still_s = 0.001         # and looked at, however little moves
edge_deadline_s = 600   # a frame that waits its turn is not late
[edge]
cloud_deadline_s = 600
{streams}
"""
STREAM: Final = """\
[streams."{device}/garden"]
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
"""


def write_settings(folder: Path) -> Path:
    """Write the settings of a site of its own, on free ports."""
    file = folder / "tierwise.toml"
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        mqtt, kafka = first.getsockname()[1], second.getsockname()[1]
    text = SETTINGS.format(
        site=SITE,
        mqtt=mqtt,
        kafka=kafka,
        http="\n".join(f"{role} = 0" for role in ROLE_NAMES),
        streams="\n".join(STREAM.format(device=device) for device in devices()),
    )
    file.write_text(text, "utf-8")
    return file


def devices() -> list[str]:
    """Return the names of the cameras."""
    return [f"cam{number}" for number in range(1, DEVICES + 1)]


def pictures(device: int) -> list[bytes]:
    """Return JPEGs of one fixed camera: a cat walks through a meadow; each camera sees other moments of the walk."""
    width, height = FRAME_PX
    meadow = cv2.resize(images.decode((photo_folder() / "grass.png").read_bytes()), FRAME_PX)
    cat = images.shrink(images.decode((photo_folder() / "chelsea.png").read_bytes()), CAT_PX)
    high, wide = cat.shape[:2]
    frames = []
    for moment in range(device * DISTINCT, (device + 1) * DISTINCT):
        frame = np.array(meadow, np.uint8)
        left = round((width - wide) * (0.5 + 0.5 * math.sin(moment / 3)))
        top = round((height - high) * (0.5 + 0.5 * math.cos(moment / 5)))
        frame[top : top + high, left : left + wide] = cat
        frames.append(images.encode_jpeg(frame))
    return frames
