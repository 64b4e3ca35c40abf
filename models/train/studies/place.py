"""Imitate a fixed camera: the same backdrop by day and by night, and visits of subjects.

No pack holds a camera trap's sequence, so that the value of a site's labels is measured on this imitation. One scene
is mirrored to a frame of 340x256; its light drifts by day, and by night it looks as under an infrared lamp. A fox, a
wolf, a puma or a pedestrian of 2 to 10% of the frame walks through it for one to six frames, or something sways in an
empty scene. Subjects are held-out photos. Either the animals of the labelled fifth return (`residents`: a few
individuals live there), or none of them does (strangers, each in a photo of its own, which is harder than reality). A
subject's own surroundings are visible at its edge, and real animals keep to their paths.

Example::

    for frame in place("test", seed=1, events=120, residents=True):
        frame.jpeg, frame.label, frame.event, frame.time_s

``python -m models.train.studies.place`` prints the table of docs/explanation/fixed-camera.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.frame_sequence import read_sequence
from models.evaluation.label_value import render, summary
from models.evaluation.photo_pack import Pack, open_pack
from models.evaluation.replay import replay
from models.train.pictures.traps import PERSONS_SOURCE, SHARES
from models.train.pictures.views import Picture
from models.vision.boxes import Box

WIDTH_PX, HEIGHT_PX = 340, 256
SPECIES = ("fox", "wolf", "puma")
CLASSES = (*SPECIES, "person", "other")
EVENTS, FRAMES_AN_EVENT = 120, 6
# Day and night alternate after this many events: about ten of each in a stream of 120.
EVENTS_A_REGIME = 6
# The share of a class's photos for the events that are labelled first.
FIRST_SHARE = 0.5
# The number of individuals of a class that live there; all other photos are of strangers.
RESIDENTS = 4
# How far a moving subject is smeared by a night's long exposure, in pixels of its photo.
SMEAR_PX = (1, 21)
LABELLED_SHARE = 0.2
APART_S, BETWEEN_S = 2.0, 1800.0


@dataclass(frozen=True, slots=True, eq=False)
class PlaceFrame:
    """One frame: its JPEG, its label in the pack, its event, seconds since the start, and the box of its subject."""

    jpeg: bytes
    label: str
    event: str
    time_s: float
    night: bool
    box: Box | None


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """The constant parts: the backdrop (height, width, 3) as float32, and the reach of the lamp (height, width, 1)."""

    backdrop: NDArray[np.float32]
    lamp: NDArray[np.float32]


def place(split: str, *, seed: int, events: int, residents: bool) -> Iterator[PlaceFrame]:
    """Yield a stream's frames in order; equal arguments give equal frames."""
    pack, rng = open_pack("wild256"), np.random.default_rng(seed)
    stage, photos = _stage(rng, pack, split), _photos(rng, pack, split)
    # Every class is equally frequent, also among the labelled events.
    labelled = round(LABELLED_SHARE * events)
    order = [
        str(label) for many in (labelled, events - labelled) for label in rng.permutation(np.resize(CLASSES, many))
    ]
    for at, label in enumerate(order):
        rows = photos[label][0 if at < labelled or residents else 1] if label in photos else ()
        subject = pack.picture(rows[int(rng.integers(len(rows)))]) if rows else None
        yield from _event(rng, stage, subject, at, label)


def _photos(rng: np.random.Generator, pack: Pack, split: str) -> Mapping[str, tuple[list[int], list[int]]]:
    """Return the rows of each class's photos: for the labelled events, and for all others."""
    found = {}
    for label in (*SPECIES, "person"):
        rows = [
            row
            for row in pack.rows(split)
            if pack.species[row] == label and (label != "person" or pack.source[row] == PERSONS_SOURCE)
        ]
        dealt = rng.permutation(rows).tolist()
        first = min(RESIDENTS, round(FIRST_SHARE * len(dealt)))
        found[label] = (dealt[:first], dealt[first:])
    return found


def _stage(rng: np.random.Generator, pack: Pack, split: str) -> Backdrop:
    woods = [row for row in pack.rows(split) if pack.species[row] == "scene_forest"]
    scene = pack.picture(woods[int(rng.integers(len(woods)))])
    wall = np.vstack([np.hstack([scene, scene[:, ::-1]])] * 2)
    wall[len(scene) :] = wall[len(scene) :][::-1]
    high = min(wall.shape[0], round(wall.shape[1] * HEIGHT_PX / WIDTH_PX))
    backdrop = cv2.resize(wall[:high], (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-1 : 1 : HEIGHT_PX * 1j, -1 : 1 : WIDTH_PX * 1j]
    lamp = rng.uniform(0.6, 1.0) * np.exp(-rng.uniform(0.4, 1.0) * (x * x + y * y))
    return Backdrop(backdrop.astype(np.float32), lamp.astype(np.float32)[:, :, None])


def _event(
    rng: np.random.Generator, stage: Backdrop, subject: Picture | None, at: int, label: str
) -> Iterator[PlaceFrame]:
    """Yield one to six frames of one visit: the same subject, a few steps further each time."""
    night = at // EVENTS_A_REGIME % 2 == 1
    share, mirrored = float(np.exp(rng.uniform(*np.log(SHARES)))), bool(rng.random() < 0.5)
    where, step = rng.random(2), rng.normal(0, 0.12, 2)
    sun = 1 + 0.25 * np.sin(at / 9) + rng.normal(0, 0.04)
    tint = 1 + 0.05 * np.sin(at / 7 + np.arange(3))
    for frame in range(int(rng.integers(1, FRAMES_AN_EVENT + 1))):
        scene, box = stage.backdrop, None
        if subject is not None:
            mirror = subject[:, ::-1] if mirrored else subject
            smear_px = int(rng.integers(*SMEAR_PX)) if night else 1
            blurred = cv2.blur(mirror, (smear_px, 1)).astype(np.uint8)
            scene, box = _with_subject(rng, scene, blurred, share, np.clip(where + frame * step, 0, 1))
        else:
            scene = _swaying(rng, scene)
        yield PlaceFrame(
            _taken(rng, stage, scene, night, sun * tint),
            label,
            f"{at:04d}",
            at * BETWEEN_S + frame * APART_S,
            night,
            box,
        )


def _with_subject(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    subject: Picture,
    share: float,
    where: NDArray[np.float32],
) -> tuple[NDArray[np.float32], Box]:
    aspect = float(np.clip(subject.shape[1] / subject.shape[0], 0.4, 2.5))
    area = share * WIDTH_PX * HEIGHT_PX
    wide, high = int(np.sqrt(area * aspect)), int(np.sqrt(area / aspect))
    patch = cv2.resize(subject, (wide, high), interpolation=cv2.INTER_AREA).astype(np.float32)
    left, top = (int(at * room) for at, room in zip(where, (WIDTH_PX - wide, HEIGHT_PX - high), strict=True))
    window = scene[top : top + high, left : left + wide]
    patch += rng.uniform(0.3, 0.7) * (window.mean((0, 1)) - patch.mean((0, 1)))
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j]
    radius = (np.abs(x) ** 3 + np.abs(y) ** 3) ** (1 / 3)
    alpha = np.clip((1 - radius) / 0.25, 0, 1)[:, :, None]
    out = scene.copy()
    out[top : top + high, left : left + wide] = alpha * patch + (1 - alpha) * window
    box = Box(left / WIDTH_PX, top / HEIGHT_PX, (left + wide) / WIDTH_PX, (top + high) / HEIGHT_PX)
    return out, box


def _swaying(rng: np.random.Generator, scene: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move a branch: shift a part of the scene a little, with soft edges."""
    wide, high = (int(rng.uniform(0.1, 0.3) * side) for side in (WIDTH_PX, HEIGHT_PX))
    left, top = int(rng.integers(0, WIDTH_PX - wide)), int(rng.integers(0, HEIGHT_PX - high))
    mask = np.zeros(scene.shape[:2], np.float32)
    mask[top : top + high, left : left + wide] = 1
    soft = cv2.GaussianBlur(mask, (0, 0), 6)[:, :, None]
    shifted = np.roll(scene, tuple(int(step) for step in rng.integers(-10, 11, 2)), (0, 1))
    return np.asarray(soft * shifted + (1 - soft) * scene, np.float32)


def _taken(
    rng: np.random.Generator,
    stage: Backdrop,
    scene: NDArray[np.float32],
    night: bool,
    light: NDArray[np.float32],
) -> bytes:
    """Take the scene with the camera's sensor and encode it as JPEG."""
    if night:
        shown: NDArray[np.floating] = np.repeat(scene.mean(2, keepdims=True), 3, 2) * stage.lamp
        shown = shown + rng.normal(0, 5, (HEIGHT_PX, WIDTH_PX, 1))
    else:
        shown = scene * light + rng.normal(0, 2, scene.shape)
    data = cv2.imencode(".jpg", np.clip(shown, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return data.tobytes()


def write(folder: Path, frames: Iterable[PlaceFrame]) -> Path:
    """Write frames, and a CSV of labels, times and events, in the form that `tierwise training replay` reads."""
    folder.mkdir(parents=True)
    rows = ["path,label,time,event"]
    for at, frame in enumerate(frames):
        (folder / f"{at:05d}.jpg").write_bytes(frame.jpeg)
        rows.append(f"{at:05d}.jpg,{frame.label},{frame.time_s},{frame.event}")
    labels = folder.with_suffix(".csv")
    labels.write_text("\n".join(rows) + "\n", "utf-8")
    return labels


def main() -> None:
    """Print the figures of each stream: one was used for choices, the other two were not."""
    for residents in (True, False):
        for split, seed in (("test", 1), ("test", 2), ("val", 0)):
            name = f"{split}-{seed}-{'residents' if residents else 'strangers'}"
            with tempfile.TemporaryDirectory() as home:
                folder = Path(home) / name
                labels = write(folder, place(split, seed=seed, events=EVENTS, residents=residents))
                sequence = read_sequence(folder, labels)
                figures = summary(sequence, replay(sequence, stream="place", train_share=LABELLED_SHARE))
            sys.stdout.write(f"## {name}\n\n{render(figures)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
