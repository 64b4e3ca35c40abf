"""Runs the backbone over the training packs once and keeps the features: ``python -m models.train.features``.

Every later step (projection, heads, calibration, evaluation) reads these arrays; none needs the pictures again. Views
are drawn from a generator seeded by (pack, row, copy), so a rerun gives the same arrays whatever the number of workers.

Written: ``build/train/features/<set>.npz`` with `feature` float16 (n, 1280), `row`, `view` (name of the view kind).
Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.runtime import Backbone
from models.train.data import Pack, open_pack
from models.train.views import Picture, compose, random_view, weather

ZOO = Path(__file__).parents[1] / "zoo" / "lite0" / "backbone.onnx"
FEATURES = Path(__file__).parents[2] / "build" / "train" / "features"

# What lies behind a subject: a scene without people or animals.
SCENES = ("scene_forest", "scene_open", "scene_built")

View = Callable[[np.random.Generator, Pack, int], Picture]


def whole(_: np.random.Generator, pack: Pack, row: int) -> Picture:
    """The picture as it is: what evaluation uses."""
    return pack.picture(row)


def augmented(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """One random view."""
    return random_view(rng, pack.picture(row))


def light(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """Flipped and weathered, nothing cut off: for pictures that are small already."""
    picture = pack.picture(row)
    return weather(rng, np.ascontiguousarray(picture[:, ::-1]) if rng.random() < 0.5 else picture)


def in_scene(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """The picture's subject, 3 to 35% of a scene of the same split."""
    subject = pack.picture(row)
    behind = scenes(pack.name, pack.split[row])
    scene = pack.picture(behind[int(rng.integers(len(behind)))])
    if rng.random() < 0.5:
        subject = np.ascontiguousarray(subject[:, ::-1])
    return compose(rng, subject, scene, (0.03, 0.35))


@cache
def scenes(name: str, split: str) -> tuple[int, ...]:
    """Rows of a pack that can stand behind a subject."""
    pack = opened(name)
    return tuple(row for row in pack.rows(split) if pack.species[row] in SCENES)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """One array to make: which rows of which pack, through which view, at which served size."""

    name: str
    pack: str
    splits: tuple[str, ...]
    view: View
    copies: int
    size_px: int


def feature_sets(size_px: int) -> tuple[FeatureSet, ...]:
    """What the heads are made from, at one served size."""
    every = ("train", "val", "test")
    return (
        FeatureSet(f"wild256-whole-{size_px}", "wild256", every, whole, 1, size_px),
        FeatureSet(f"wild256-augmented-{size_px}", "wild256", ("train",), augmented, 5, size_px),
        FeatureSet(f"wild256-augmented-held-{size_px}", "wild256", ("val", "test"), augmented, 1, size_px),
        FeatureSet(f"wild256-in-scene-{size_px}", "wild256", ("train",), in_scene, 2, size_px),
        FeatureSet(f"wild256-in-scene-held-{size_px}", "wild256", ("val", "test"), in_scene, 1, size_px),
        FeatureSet(f"wild64-{size_px}", "wild64", every, whole, 1, 128),
    )


@cache
def opened(name: str) -> Pack:
    """A pack, opened once a process."""
    return open_pack(name)


@cache
def _backbone(size_px: int) -> Backbone:
    cv2.setNumThreads(0)
    return Backbone(ZOO, size_px)


def draw(its: FeatureSet, row: int, copy: int) -> Picture:
    """The picture of one item: always the same, whoever draws it."""
    rng = np.random.default_rng([sum(map(ord, its.name)), row, copy])
    return its.view(rng, opened(its.pack), row)


def _one_batch(task: tuple[FeatureSet, list[tuple[int, int]]]) -> NDArray[np.float16]:
    its, items = task
    backbone = _backbone(its.size_px)
    out = np.empty((len(items), 1280), np.float16)
    for at, (row, copy) in enumerate(items):
        out[at] = backbone.feature(draw(its, row, copy))
    return out


def extract(its: FeatureSet, workers: ProcessPoolExecutor) -> Path:
    """Makes one set, unless it is there already, and returns its file."""
    file = FEATURES / f"{its.name}.npz"
    if file.exists():
        return file
    pack = opened(its.pack)
    items = [(row, copy) for split in its.splits for row in pack.rows(split) for copy in range(its.copies)]
    batches = [(its, items[at : at + 256]) for at in range(0, len(items), 256)]
    done = []
    for number, batch in enumerate(workers.map(_one_batch, batches), 1):
        done.append(batch)
        sys.stdout.write(f"\r{its.name}: {number / len(batches):4.0%}")
        sys.stdout.flush()
    sys.stdout.write("\n")
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, feature=np.concatenate(done), row=np.array([row for row, _ in items], np.int32))
    partial.replace(file)
    return file


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--size", type=int, action="append", help="served size in pixels (default 224)")
    given = options.parse_args()
    FEATURES.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for size_px in given.size or [224]:
            for its in feature_sets(size_px):
                extract(its, workers)


if __name__ == "__main__":
    main()
