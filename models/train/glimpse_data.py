"""The 64-pixel pictures that glimpse learns from, with its teacher's answers: ``python -m models.train.glimpse_data``.

Every view is one that the backbone has seen in `models.train.features` (the same generator draws it again), so lite0's
kingdom head gives its probabilities beside the true label: glimpse learns both (distillation, Hinton et al. 2015,
arXiv:1503.02531).

Written: ``build/train/glimpse/{train,val,test}.npz`` with `pixels` uint8 (n, 64, 64, 3) RGB, `kingdom` (n,), `teacher`
float32 (n, 4), `weight` (n,), `kind` (n,).
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.eye_heads import FrameHead
from models.registry import Zoo, frame_head, load_zoo
from models.scores import softmax
from models.taxonomy import KINGDOMS, load_taxonomy
from models.train.features import FEATURES, SIZE_PX, FeatureSet, feature_sets
from models.train.heads import SHARES

BUILD = Path(__file__).parents[2] / "build" / "train" / "glimpse"
INPUT_PX = 64
# Of wild64's animals every other is enough beside the other kingdoms: they are three quarters of it.
ANIMALS_KEPT = 0.5


def small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR of any shape -> RGB (64, 64, 3), squeezed: the whole frame counts, not its shape."""
    by = cv2.INTER_AREA if min(picture.shape[:2]) > INPUT_PX else cv2.INTER_LINEAR
    return cv2.resize(picture, (INPUT_PX, INPUT_PX), interpolation=by)[:, :, ::-1].astype(np.uint8)


def _batch(task: tuple[FeatureSet, list[tuple[int, int]]]) -> NDArray[np.uint8]:
    from models.train.features import draw

    its, items = task
    return np.stack([small(draw(its, row, copy)) for row, copy in items])


def collect(split: str, head: FrameHead, workers: ProcessPoolExecutor) -> dict[str, NDArray[np.generic]]:
    """All views of one split, in the order of the feature sets."""
    from models.train.features import opened

    tree = load_taxonomy()
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("pixels", "kingdom", "teacher", "weight", "kind")
    }
    for its in feature_sets(SIZE_PX):
        if split not in its.splits:
            continue
        pack = opened(its.pack)
        items = [
            (row, copy)
            for its_split in its.splits
            for row in pack.rows(its_split)
            for copy in range(its.copies)
        ]
        with np.load(FEATURES / f"{its.name}.npz") as file:
            feature = file["feature"]
        kingdoms = np.array([KINGDOMS.index(tree.path(tree.find(pack.species[row]))[0]) for row, _ in items])
        chosen = np.array([pack.split[row] == split for row, _ in items])
        if its.pack == "wild64" and split == "train":
            chosen &= (kingdoms != KINGDOMS.index("animal")) | (
                np.random.default_rng(0).random(len(items)) < ANIMALS_KEPT
            )
        rows = np.flatnonzero(chosen)
        wanted = [items[at] for at in rows.tolist()]
        batches = [(its, wanted[at : at + 256]) for at in range(0, len(wanted), 256)]
        kind = its.name.rsplit("-", 1)[0]
        parts["pixels"].append(np.concatenate(list(workers.map(_batch, batches))))
        parts["kingdom"].append(kingdoms[rows])
        parts["teacher"].append(softmax(head.judge(feature[rows].astype(np.float32))[0]))
        parts["weight"].append(np.full(len(rows), SHARES.get(kind, 1.0), np.float32))
        parts["kind"].append(np.full(len(rows), kind))
        sys.stdout.write(f"{split} {kind}: {len(rows)}\n")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def main() -> None:
    zoo: Zoo = load_zoo()
    head = frame_head(zoo.manifest("lite0"))
    BUILD.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for split in ("train", "val", "test"):
            np.savez(BUILD / f"{split}.npz", **collect(split, head, workers))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
