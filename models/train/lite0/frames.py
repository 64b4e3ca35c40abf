"""Make the head that weighs a search's evidence: ``python -m models.train.lite0.frames`` (after `heads`; minutes).

Held-out photos, small pictures and camera-trap frames (`models.train.pictures.traps`) are searched as the
device does it; a softmax regression on the evidence answers the kingdom, a logistic one says whether a person is
anywhere in the frame. Both are small (84 numbers), so they are fitted on the validation split, which the heads behind
the evidence have never seen. The person threshold is the one that raises a stated share of the validation frames
without a person.

Written: ``models/zoo/lite0/parts.npz``, and the manifest anew. Printed, on the test split: kingdom and persons by the
whole frame alone, by tiles, by the search, and by the search where motion tells where to look.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import open_pack
from models.heads.linear import Floats, FrameHead
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.manifest import read_manifest
from models.onnx_session import Backbone
from models.shipped import frame_head, load_zoo
from models.train.lite0.linear import Linear, flat, tune
from models.train.lite0.tiles import tiling
from models.train.pictures.traps import traps
from models.train.zoo_folder import write_manifest
from models.vision import hog_people as people
from models.vision import images, region_search
from models.vision.boxes import Box
from models.vision.frame_scan import OUTLINE_CLEAR
from models.vision.motion import MARGIN

ZOO = Path(__file__).parents[2] / "zoo" / "lite0"
FOUND = Path(__file__).parents[3] / "build" / "train" / "frames"
FRAME_PX = 448
"""What the device decodes of a frame."""

CCTV = " CCTV"
"""Photos of surveillance cameras, with and without people, are told apart in the tables: there the two are hardest to
tell."""

MOVED = "traps, moved"

TRAPS = {"val": 1, "test": 2}
ANIMALS, PERSONS, EMPTY = 140, 80, 80
SMALL_PICTURES = 200

WEIGHTS = {"photos": 5.0, "small": 1.0, "traps": 1.0, MOVED: 0.0}
"""What a frame of each kind weighs: camera-trap frames are put together, photos are real. Where something
moved, that answers."""

PERSON_FALSE_ALARMS, PERSON_DOUBTS = 0.02, 0.08
"""The share of validation photos without a person that the weighed evidence raises by itself, and the share about
which a second opinion is asked, the raised ones included. The whole frame's own score raises some 5% more."""

EPOCHS, BATCH, RATE = 300, 256, 3e-2
HOLD = 5e-2
PERSON_HOLD = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class SearchedFrames:
    """Evidence of frames: inputs (n, 16) and (n, 4), truths (n,), three other predictions, and the kinds of frame."""

    kingdom: Floats
    person: Floats
    truth: NDArray[np.intp]
    whole: Floats
    whole_person: Floats
    tiled: Floats
    tiled_person: Floats
    outline: Floats
    moved: Floats
    moved_person: Floats
    kind: NDArray[np.str_]


@cache
def _opened() -> tuple[Backbone, FrameHead]:
    cv2.setNumThreads(0)
    manifest = load_zoo().manifest("lite0")
    assert manifest.size_px is not None
    return Backbone(manifest.read("backbone.onnx"), manifest.size_px), frame_head(manifest)


Item = tuple[str, bytes, str, Box | None]


def _items(split: str) -> Iterator[Item]:
    """(kind, JPEG or PNG, kingdom, what moved) of every frame of a split."""
    tree = load_taxonomy()
    for name, kind in (("wild256", "photos"), ("wild64", "small")):
        pack = open_pack(name)
        rows = pack.rows(split)
        if kind == "small":
            rows = np.random.default_rng(TRAPS[split]).permutation(rows)[:SMALL_PICTURES].tolist()
        for row in rows:
            seen_by = CCTV if pack.source[row] == "human-detection" else ""
            yield kind + seen_by, pack.bytes(row).tobytes(), tree.path(tree.find(pack.species[row]))[0], None
    for trap in traps(split, animals=ANIMALS, persons=PERSONS, empty=EMPTY, seed=TRAPS[split]):
        yield "traps", trap.jpeg, trap.truth[0], None
        if trap.box is not None:
            yield MOVED, trap.jpeg, trap.truth[0], trap.box.with_margin(MARGIN)


def _looked_at(item: Item) -> tuple[Floats, ...]:
    backbone, head = _opened()
    frame = images.decode(item[1], at_least_px=FRAME_PX)

    def judge(pictures: object) -> tuple[Floats, Floats]:
        return head.judge(np.stack([backbone.feature(picture) for picture in pictures]))  # type: ignore[attr-defined]

    evidence = region_search.search(frame, item[3], backbone, head)
    logits, odds = judge([frame])
    tiled = tiling(judge, head.person_threshold)(frame, item[3])
    return (
        evidence.kingdom,
        evidence.person,
        softmax(logits)[0],
        odds,
        tiled.kingdoms,
        np.array([tiled.person], np.float32),
        np.array([people.outline(frame)], np.float32),
        evidence.parts[int(evidence.parts[:2, [region_search.ANIMAL, region_search.PERSON]].max(1).argmax())],
        evidence.persons[:2].max(keepdims=True),
    )


def collect(split: str, workers: ProcessPoolExecutor) -> SearchedFrames:
    """Search every frame of a split; what was found is kept in ``build/train/frames/``."""
    items = list(_items(split))
    seen = list(workers.map(_looked_at, items, chunksize=16))
    columns = [np.stack(column).astype(np.float32) for column in zip(*seen, strict=True)]
    held = SearchedFrames(
        columns[0],
        columns[1],
        np.array([KINGDOMS.index(kingdom) for _, _, kingdom, _ in items], np.intp),
        columns[2],
        columns[3][:, 0],
        columns[4],
        columns[5][:, 0],
        columns[6][:, 0],
        columns[7],
        columns[8][:, 0],
        np.array([kind for kind, *_ in items]),
    )
    FOUND.mkdir(parents=True, exist_ok=True)
    np.savez(FOUND / f"{split}.npz", **{field.name: getattr(held, field.name) for field in fields(held)})
    return held


def fit(held: SearchedFrames) -> region_search.PartsHead:
    """Both regressions, from nothing, and the thresholds."""
    kinds = [str(kind).removesuffix(CCTV) for kind in held.kind]
    weight = np.array([WEIGHTS[kind] for kind in kinds], np.float32)
    is_person = (held.truth == region_search.PERSON).astype(np.intp)

    def regression(x: Floats, y: NDArray[np.intp], classes: int, hold: float) -> Linear:
        start = flat(x.shape[1], classes)
        return tune(start, x, y, weight, hold=hold, rate=RATE, epochs=EPOCHS, batch=BATCH)

    kingdom = regression(held.kingdom, held.truth, len(KINGDOMS), HOLD)
    people = regression(held.person, is_person, 2, PERSON_HOLD)
    # Two logits of a softmax are one of a sigmoid: their difference.
    weights, bias = people.weights[:, 1] - people.weights[:, 0], float(people.bias[1] - people.bias[0])
    nobody = (is_person == 0) & (np.array(kinds) == "photos")
    scores = _sigmoid(held.person[nobody] @ weights + bias)
    threshold, doubt = (float(np.quantile(scores, 1 - share)) for share in (PERSON_FALSE_ALARMS, PERSON_DOUBTS))
    return region_search.PartsHead(kingdom.weights, kingdom.bias, weights, bias, threshold, doubt)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def report(name: str, held: SearchedFrames, head: region_search.PartsHead, frame: FrameHead) -> None:
    """Print a table by kind of frame: kingdom, persons raised, false alarms."""
    person = region_search.PERSON
    weighed = softmax(held.kingdom @ head.kingdom_weights + head.kingdom_bias)
    pairs = zip(held.whole, weighed, strict=True)
    searched = np.array([region_search.overruled(whole, parts).argmax() for whole, parts in pairs])
    scores = _sigmoid(held.person @ head.person_weights + head.person_bias)
    moved = held.kind == MOVED
    searched = np.where(moved, held.moved.argmax(1), searched)
    small = np.char.startswith(held.kind, "small")
    placed = small | (held.person[:, 2] >= region_search.PLACE_MARGIN)
    placed |= held.whole_person >= region_search.CROP_PERSON
    raised = (scores >= head.person_threshold) | (placed & (held.whole_person >= frame.person_threshold))
    raised |= moved & (held.moved_person >= region_search.CROP_PERSON)
    doubtful = (scores >= head.person_doubt) | (held.moved_person >= region_search.CROP_DOUBT)
    seconded = raised | (doubtful & (held.outline >= OUTLINE_CLEAR))
    ways = (
        ("whole", held.whole.argmax(1), held.whole_person >= frame.person_threshold),
        ("tiles", held.tiled.argmax(1), held.tiled_person >= frame.person_threshold),
        ("search", searched, raised),
        ("and outline", searched, seconded),
    )
    for kind in sorted(set(held.kind)):
        at = held.kind == kind
        for way, kingdom, alarm in ways:
            here = at & (held.truth == person)
            there = at & (held.truth != person)
            by = "  ".join(
                f"{label} {np.mean(kingdom[at & (held.truth == k)] == k):.3f}"
                for k, label in enumerate(KINGDOMS)
                if (at & (held.truth == k)).any()
            )
            sys.stdout.write(
                f"{name} {kind:14s} {way:11s} n={at.sum():4d} kingdom {np.mean(kingdom[at] == held.truth[at]):.3f} ({by})  "
                f"persons raised {alarm[here].mean() if here.any() else float('nan'):.3f}, "
                f"false alarms {alarm[there].mean() if there.any() else float('nan'):.3f}\n"
            )


def save(head: region_search.PartsHead) -> None:
    """Write the head and brings the manifest up to date."""
    np.savez(
        ZOO / "parts.npz",
        kingdom_weights=head.kingdom_weights,
        kingdom_bias=head.kingdom_bias,
        person_weights=head.person_weights,
        person_bias=np.float32(head.person_bias),
        person_threshold=np.float32(head.person_threshold),
        person_doubt=np.float32(head.person_doubt),
    )
    before = read_manifest(ZOO)
    write_manifest(before, {*before.files, "parts.npz"})


def main() -> None:
    """Run this recipe."""
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        val, test = (collect(split, workers) for split in ("val", "test"))
    head = fit(val)
    frame = _opened()[1]
    for name, held in (("val", val), ("test", test)):
        report(name, held, head, frame)
    sys.stdout.write(f"person threshold {head.person_threshold:.4f}, doubt {head.person_doubt:.4f}\n")
    save(head)


if __name__ == "__main__":
    main()
