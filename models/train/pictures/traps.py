"""Compose frames like a camera trap's from photos: ``python -m models.train.pictures.traps FOLDER`` writes some.

No pack holds a camera trap's frames, so that the value of a closer look is measured on these. A subject (an animal or
a pedestrian from a photo) covers 2 to 10% of a JPEG frame of 1600x1200 and is blended into a scene that is mirrored to
that size; a third of the frames look as under an infrared lamp. They only imitate a camera trap: a mirrored wood has
symmetries that no wood has, and a subject's own surroundings are visible at its edge.

Example::

    for trap in traps("val", animals=140, persons=80, empty=80, seed=0):
        trap.jpeg, trap.truth, trap.box

Written by the command: 300 frames of the test split, and ``frames.csv`` with the columns path and label, which
``tierwise models evaluate FOLDER/frames.csv`` reads.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from models.evaluation.photo_pack import Pack, open_pack
from models.labels.taxonomy import load_taxonomy
from models.train.pictures.views import Picture, night
from models.vision.boxes import Box

WIDTH_PX, HEIGHT_PX = 1600, 1200
SHARES = (0.02, 0.10)
AT_NIGHT = 0.35
SCENES = ("scene_forest", "scene_open", "scene_built")
# Pedestrians, cut from their photos: the pack's other people are somewhere in a frame of their own.
PERSONS_SOURCE = "pennfudan"


@dataclass(frozen=True, slots=True, eq=False)
class Trap:
    """A frame: JPEG, path of the label in the tree, box of the subject (None if empty), and `night`."""

    jpeg: bytes
    truth: tuple[str, ...]
    box: Box | None
    night: bool


def traps(split: str, *, animals: int, persons: int, empty: int, seed: int) -> Iterator[Trap]:
    """Yield frames from one split of wild256; equal arguments give equal frames."""
    tree, pack, rng = load_taxonomy(), open_pack("wild256"), np.random.default_rng(seed)
    rows = pack.rows(split)
    kingdom = {row: tree.path(tree.find(pack.species[row]))[0] for row in rows}
    scenes = [row for row in rows if pack.species[row] in SCENES]
    subjects = {
        "animal": ([row for row in rows if kingdom[row] == "animal"], animals),
        "person": ([row for row in rows if pack.source[row] == PERSONS_SOURCE], persons),
    }
    for chosen, count in subjects.values():
        for at in range(count):
            row = chosen[at % len(chosen)]
            frame, box = _with_subject(rng, _backdrop(rng, pack, scenes), pack.picture(row))
            yield _taken(rng, frame, tree.path(tree.find(pack.species[row])), box)
    for _ in range(empty):
        yield _taken(rng, _backdrop(rng, pack, scenes), ("other",), None)


def _taken(rng: np.random.Generator, frame: Picture, truth: tuple[str, ...], box: Box | None) -> Trap:
    dark = bool(rng.random() < AT_NIGHT)
    shown = night(rng, frame) if dark else frame
    quality = int(rng.integers(60, 92))
    jpeg = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return Trap(jpeg, truth, box, dark)


def _backdrop(rng: np.random.Generator, pack: Pack, scenes: Sequence[int]) -> Picture:
    """Make a scene: mirrored to twice or four times its size, then enlarged, with a sensor's grain."""
    scene = pack.picture(scenes[int(rng.integers(len(scenes)))])
    times = 2 if min(scene.shape[:2]) < 150 else 1
    row = np.hstack([scene, scene[:, ::-1]] * times)
    wall = np.vstack([row, row[::-1]] * times)
    wide = int(min(wall.shape[1], wall.shape[0] * rng.uniform(0.45, 0.9) * WIDTH_PX / HEIGHT_PX))
    high = int(wide * HEIGHT_PX / WIDTH_PX)
    top, left = (int(rng.integers(0, room + 1)) for room in (wall.shape[0] - high, wall.shape[1] - wide))
    large = cv2.resize(
        wall[top : top + high, left : left + wide], (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC
    ).astype(np.float32)
    grain = cv2.resize(rng.normal(0, 1, (HEIGHT_PX // 2, WIDTH_PX // 2)).astype(np.float32), (WIDTH_PX, HEIGHT_PX))
    return np.clip(large + rng.uniform(3, 14) * grain[:, :, None], 0, 255).astype(np.uint8)


def _with_subject(rng: np.random.Generator, frame: Picture, subject: Picture) -> tuple[Picture, Box]:
    """Blend a subject into a frame, in the light of its surroundings."""
    aspect = float(np.clip(subject.shape[1] / subject.shape[0], 0.4, 2.5))
    area = float(np.exp(rng.uniform(*np.log(SHARES)))) * WIDTH_PX * HEIGHT_PX
    wide, high = int(min(WIDTH_PX, np.sqrt(area * aspect))), int(min(HEIGHT_PX, np.sqrt(area / aspect)))
    mirrored = subject[:, ::-1] if rng.random() < 0.5 else subject
    patch = cv2.resize(mirrored, (wide, high), interpolation=cv2.INTER_AREA).astype(np.float32)
    top, left = int(rng.integers(0, HEIGHT_PX - high + 1)), int(rng.integers(0, WIDTH_PX - wide + 1))
    window = frame[top : top + high, left : left + wide].astype(np.float32)
    patch += rng.uniform(0.3, 0.8) * (window.mean((0, 1)) - patch.mean((0, 1)))
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j]
    radius = (np.abs(x) ** 3 + np.abs(y) ** 3) ** (1 / 3)
    alpha = np.clip((1 - radius) / rng.uniform(0.1, 0.3), 0, 1)[:, :, None]
    out = frame.copy()
    out[top : top + high, left : left + wide] = np.clip(alpha * patch + (1 - alpha) * window, 0, 255)
    box = Box(left / WIDTH_PX, top / HEIGHT_PX, (left + wide) / WIDTH_PX, (top + high) / HEIGHT_PX)
    return out, box


def main() -> None:
    """Run this recipe."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    folder: Path = options.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "frames.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        for number, trap in enumerate(traps("test", animals=140, persons=80, empty=80, seed=2)):
            name = f"{number:03d}.jpg"
            (folder / name).write_bytes(trap.jpeg)
            rows.writerow((name, trap.truth[-1]))


if __name__ == "__main__":
    main()
