"""Run the backbone over the training packs once and store the features: ``python -m models.train.lite0.features``.

Every step on features (projection, heads, calibration, evaluation) reads these arrays; recipes that need pictures
(`models.train.lite0.frames`, `models.train.glimpse.data`) draw them again. Views are drawn from a generator seeded by
(pack, row, copy), so that every run gives the same arrays with any number of workers.

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

from models.evaluation.photo_pack import Pack, open_pack
from models.onnx_session import Backbone, Network, serve
from models.train.lite0.lite0 import as_floats
from models.train.pictures.views import Picture, compose, random_view, trapped

ZOO = Path(__file__).parents[2] / "zoo" / "lite0" / "backbone.onnx"
FLOAT = Path(__file__).parents[3] / "build" / "train" / "lite0" / "float.onnx"
FEATURES = Path(__file__).parents[3] / "build" / "train" / "features"

SIZE_PX = 224
CHOICE_SIZES_PX = (160, 192, 256)
FEATURE = 1280

# Backgrounds for subjects: scenes without people or animals.
SCENES = ("scene_forest", "scene_open", "scene_built")

View = Callable[[np.random.Generator, Pack, int], Picture]


def whole(_: np.random.Generator, pack: Pack, row: int) -> Picture:
    """Return the unchanged picture, as evaluation uses it."""
    return pack.picture(row)


def augmented(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """Return one random view."""
    return random_view(rng, pack.picture(row))


def in_scene(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """Compose the picture's subject into 3 to 35% of a scene of the same split."""
    subject = pack.picture(row)
    behind = scenes(pack.name, pack.split[row])
    scene = pack.picture(behind[int(rng.integers(len(behind)))])
    if rng.random() < 0.5:
        subject = np.ascontiguousarray(subject[:, ::-1])
    return compose(rng, subject, scene, (0.03, 0.35))


def in_trap(rng: np.random.Generator, pack: Pack, row: int) -> Picture:
    """Compose the picture's subject into a scene like a camera trap's crop; pictures of scenes stay whole."""
    if row in scenes(pack.name, pack.split[row]):
        return augmented(rng, pack, row)
    behind = scenes(pack.name, pack.split[row])
    subject = pack.picture(row)
    scene = pack.picture(behind[int(rng.integers(len(behind)))])
    if rng.random() < 0.5:
        subject = np.ascontiguousarray(subject[:, ::-1])
    return trapped(rng, subject, scene, (0.03, 0.35))


@cache
def scenes(name: str, split: str) -> tuple[int, ...]:
    """Return the rows of a pack that can be a background."""
    pack = opened(name)
    return tuple(row for row in pack.rows(split) if pack.species[row] in SCENES)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """One array to make: rows of a pack, a view of each, a served size and a network.

    Sets that are `drawn_as` the same show the same views, whatever their size and network.
    """

    name: str
    pack: str
    splits: tuple[str, ...]
    view: View
    copies: int
    size_px: int
    drawn_as: str
    in_float: bool = False


def feature_sets(size_px: int = SIZE_PX) -> tuple[FeatureSet, ...]:
    """Return the sets from which the heads are made, at one served size."""
    every = ("train", "val", "test")
    return (
        feature_set("wild256-whole", "wild256", every, whole, 1, size_px),
        feature_set("wild256-augmented", "wild256", ("train",), augmented, 5, size_px),
        feature_set("wild256-augmented-held", "wild256", ("val", "test"), augmented, 1, size_px),
        feature_set("wild256-in-scene", "wild256", ("train",), in_scene, 2, size_px),
        feature_set("wild256-in-scene-held", "wild256", ("val", "test"), in_scene, 1, size_px),
        feature_set("wild256-in-trap", "wild256", ("train",), in_trap, 2, size_px),
        feature_set("wild256-in-trap-held", "wild256", ("val", "test"), in_trap, 1, size_px),
        feature_set("wild64", "wild64", every, whole, 1, size_px, served_px=128),
    )


def choice_sets() -> tuple[FeatureSet, ...]:
    """Return the sets that `models.train.lite0.choices` compares: other sizes, and the float network.

    They hold two augmented views of a photo, and nothing of the test split, which no choice may see.
    """
    return tuple(
        feature_set(kind, "wild256", splits, view, copies, size_px, in_float=in_float)
        for size_px, in_float in (*((size, False) for size in CHOICE_SIZES_PX), (SIZE_PX, True))
        for kind, splits, view, copies in (
            ("wild256-whole", ("train", "val"), whole, 1),
            ("wild256-augmented", ("train",), augmented, 2),
            ("wild256-augmented-held", ("val",), augmented, 1),
        )
    )


def feature_set(
    kind: str,
    pack: str,
    splits: tuple[str, ...],
    view: View,
    copies: int,
    size_px: int,
    *,
    served_px: int | None = None,
    in_float: bool = False,
) -> FeatureSet:
    """Name a set by its kind, size and network; it shows the views of that kind at the released size."""
    name = f"{kind}-{size_px}{'-float' if in_float else ''}"
    return FeatureSet(name, pack, splits, view, copies, served_px or size_px, f"{kind}-{SIZE_PX}", in_float)


@cache
def opened(name: str) -> Pack:
    """Open a pack, once in each process."""
    return open_pack(name)


@cache
def _feature_of(size_px: int, in_float: bool) -> Callable[[Picture], NDArray[np.float32]]:
    cv2.setNumThreads(0)
    if not in_float:
        return Backbone(ZOO, size_px).feature
    network = Network(FLOAT)
    return lambda picture: network.run(as_floats(serve(picture, size_px)))[0]


def draw(wanted: FeatureSet, row: int, copy: int) -> Picture:
    """Return the picture of one item, the same in every process."""
    rng = np.random.default_rng([sum(map(ord, wanted.drawn_as)), row, copy])
    return wanted.view(rng, opened(wanted.pack), row)


def _one_batch(task: tuple[FeatureSet, list[tuple[int, int]]]) -> NDArray[np.float16]:
    wanted, items = task
    feature_of = _feature_of(wanted.size_px, wanted.in_float)
    out = np.empty((len(items), FEATURE), np.float16)
    for at, (row, copy) in enumerate(items):
        out[at] = feature_of(draw(wanted, row, copy))
    return out


def extract(wanted: FeatureSet, workers: ProcessPoolExecutor) -> Path:
    """Make one set, unless it exists, and return wanted file."""
    file = FEATURES / f"{wanted.name}.npz"
    if file.exists():
        return file
    pack = opened(wanted.pack)
    items = [(row, copy) for split in wanted.splits for row in pack.rows(split) for copy in range(wanted.copies)]
    batches = [(wanted, items[at : at + 256]) for at in range(0, len(items), 256)]
    done = []
    for number, batch in enumerate(workers.map(_one_batch, batches), 1):
        done.append(batch)
        sys.stdout.write(f"\r{wanted.name}: {number / len(batches):4.0%}")
        sys.stdout.flush()
    sys.stdout.write("\n")
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, feature=np.concatenate(done), row=np.array([row for row, _ in items], np.int32))
    partial.replace(file)
    return file


def main() -> None:
    """Run this recipe."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--choices", action="store_true", help="also what models.train.lite0.choices compares")
    given = options.parse_args()
    FEATURES.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for wanted in (*feature_sets(), *(choice_sets() if given.choices else ())):
            extract(wanted, workers)


if __name__ == "__main__":
    main()
