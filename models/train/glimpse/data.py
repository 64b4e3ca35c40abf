"""The 64-pixel pictures that glimpse learns from, with its teacher's answers: ``python -m models.train.glimpse.data``.

Every view is one that the backbone has seen (`models.train.lite0.features`, which draws and keeps the further views of
`MORE` too; the same generator draws each again), so lite0's frame head gives its own answers beside the true label:
glimpse learns both (distillation, Hinton et al. 2015, arXiv:1503.02531).

Written: ``build/train/glimpse/{train,val,test}.npz`` with `pixels` uint8 (n, 64, 64, 3) RGB, `kingdom` (n,), `teacher`
float32 (n, 4), `teacher_person` float32 (n,), `weight` (n,), `kind` (n,). Ten minutes on two cores.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import FrameHead
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.shipped import frame_head, load_zoo
from models.train.lite0.features import (
    SIZE_PX,
    FeatureSet,
    augmented,
    draw,
    extract,
    feature_set,
    feature_sets,
    in_scene,
    opened,
)
from models.train.lite0.heads import SHARES
from models.vision.glimpse import shrink

BUILD = Path(__file__).parents[3] / "build" / "train" / "glimpse"
# Of wild64's animals every other is enough beside the other kingdoms: they are three quarters of it.
ANIMALS_KEPT = 0.5
# A network that starts from nothing needs more views than a linear head: there are 662 photos of people to learn from.
MORE = (
    feature_set("wild256-augmented-more", "wild256", ("train",), augmented, 8, SIZE_PX),
    feature_set("wild256-in-scene-more", "wild256", ("train",), in_scene, 6, SIZE_PX),
)


def _batch(task: tuple[FeatureSet, list[tuple[int, int]]]) -> NDArray[np.uint8]:
    views, items = task
    return np.stack([shrink(draw(views, row, copy)) for row, copy in items])


def collect(split: str, head: FrameHead, workers: ProcessPoolExecutor) -> dict[str, NDArray[np.generic]]:
    """All views of one split, in the order of the feature sets."""
    tree = load_taxonomy()
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("pixels", "kingdom", "teacher", "teacher_person", "weight", "kind")
    }
    # It answers frames: what a camera trap cuts out of one is the edge's to see.
    frames = [views for views in feature_sets(SIZE_PX) if "in-trap" not in views.name]
    for views in (*frames, *MORE):
        if split not in views.splits:
            continue
        pack = opened(views.pack)
        items = [
            (row, copy) for each_split in views.splits for row in pack.rows(each_split) for copy in range(views.copies)
        ]
        with np.load(extract(views, workers)) as file:
            feature = file["feature"]
        kingdoms = np.array([KINGDOMS.index(tree.path(tree.find(pack.species[row]))[0]) for row, _ in items])
        chosen = np.array([pack.split[row] == split for row, _ in items])
        if views.pack == "wild64" and split == "train":
            chosen &= (kingdoms != KINGDOMS.index("animal")) | (
                np.random.default_rng(0).random(len(items)) < ANIMALS_KEPT
            )
        rows = np.flatnonzero(chosen)
        wanted = [items[at] for at in rows.tolist()]
        batches = [(views, wanted[at : at + 256]) for at in range(0, len(wanted), 256)]
        kind = views.name.rsplit("-", 1)[0]
        parts["pixels"].append(np.concatenate(list(workers.map(_batch, batches))))
        parts["kingdom"].append(kingdoms[rows])
        logits, persons = head.judge(feature[rows].astype(np.float32))
        parts["teacher"].append(softmax(logits))
        parts["teacher_person"].append(persons)
        parts["weight"].append(np.full(len(rows), SHARES.get(kind, 1.0), np.float32))
        parts["kind"].append(np.full(len(rows), kind))
        sys.stdout.write(f"{split} {kind}: {len(rows)}\n")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def main() -> None:
    """Run this recipe."""
    head = frame_head(load_zoo().manifest("lite0"))
    BUILD.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for split in ("train", "val", "test"):
            np.savez(BUILD / f"{split}.npz", **collect(split, head, workers))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
