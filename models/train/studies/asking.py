"""Measure what label requests are worth: ``python -m models.train.studies.asking``, on wild64's held-out pictures.

A site's camera as in `models.train.studies.drift`: twelve families visit, the n-th 1/n as often as the first; the
general head does not know half of them (imitated by removing their columns). There are twenty sightings a day for
fifteen days and four label requests a day. Each gets the right label, and the site's head
(`models.site_learning.site_model`) learns it at once. Requests are chosen by chance, by doubt, by novelty, or by both,
all at the same pace (`models.site_learning.active_learning`). The test uses pictures that never visit, the same number
of each family.

Printed: a Markdown table, as in docs/explanation/label-requests.md. Takes a few minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import open_pack
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.shipped import load_zoo
from models.site_learning.active_learning import Moment, Pace, decide, novelty, score
from models.site_learning.site_head import Lesson, SiteHead
from models.site_learning.site_model import SiteModel
from models.train.studies.drift import PredictedPhotos
from models.vision.tier_models import CloudModel

SEEDS = 5
DAYS, A_DAY, BUDGET = 15, 20, 4
REPORTED_AFTER = (3, 7, 15)
HELD = 10
"""Test pictures of each family, which never visit."""

Score = Callable[[float, float, np.random.Generator], float]

WAYS: dict[str, Score] = {
    "chance": lambda _doubt, _new, rng: float(rng.uniform(0.05, 1)),
    "doubt": lambda doubt, _new, _rng: doubt,
    "novelty": lambda _doubt, new, _rng: new,
    "doubt x novelty": lambda doubt, new, _rng: score(doubt, new),
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A vector, the general head's probabilities over species, and its family."""

    vector: NDArray[np.uint8]
    general: NDArray[np.float32]
    family: int


def pictures(photos: PredictedPhotos, tree: Taxonomy, model: CloudModel, unknown: set[int]) -> dict[int, list[Picture]]:
    """Return pictures by family, predicted by a head that lacks the `unknown` families."""
    known = np.array([family not in unknown for family in tree.family_of.tolist()])
    found: dict[int, list[Picture]] = {}
    for family in photos.families:
        for prediction in photos.all_of("day", family):
            species = np.where(known, model.predict(prediction.vector).species.probabilities, 0)
            general = (species / species.sum()).astype(np.float32)
            found.setdefault(family, []).append(Picture(prediction.vector, general, family))
    return found


def run(tree: Taxonomy, shown: dict[int, list[Picture]], way: Score, seed: int) -> tuple[list[float], int]:
    """Return the shares of right families after `REPORTED_AFTER` days, and the number of label requests."""
    rng, chance = np.random.default_rng(seed), np.random.default_rng(1000 + seed)
    families = rng.permutation(list(shown)).tolist()
    shares = 1 / np.arange(1, len(families) + 1)
    tested = [picture for family in families for picture in shown[family][:HELD]]
    site = SiteModel.start(tree, general="lite0@1", site="camera", space="s", dimension=len(tested[0].vector))
    head = site.head()
    pace, known, right = Pace(), list[NDArray[np.uint8]](), list[float]()
    for day in range(DAYS):
        for at in range(A_DAY):
            coming = shown[int(rng.choice(families, p=shares / shares.sum()))][HELD:]
            picture = coming[int(rng.integers(len(coming)))]
            first, second = np.sort(answered(tree, head, picture))[-2:][::-1].tolist()
            doubt, new = 1 - (first - second), novelty(picture.vector, np.array(known, np.uint8))
            pace, asks = decide(pace, way(doubt, new, chance), at=Moment(day, at / A_DAY), budget=BUDGET)
            if asks:
                known.append(picture.vector)
                lesson = Lesson(tree.families[picture.family], picture.vector[None], picture.general[None])
                site, _ = site.learn(lesson)
                head = site.head()
        if day + 1 in REPORTED_AFTER:
            site = site.calibrated()
            head = site.head()
            hits = [int(answered(tree, head, each).argmax()) == each.family for each in tested]
            right.append(float(np.mean(hits)))
    return right, len(known)


def answered(tree: Taxonomy, head: SiteHead, picture: Picture) -> NDArray[np.float64]:
    """Return the site's probabilities for a picture, over the families of the tree."""
    species = np.asarray(head.consensus(picture.vector[None], picture.general[None]), np.float64)
    families = np.zeros(len(head.tree.families))
    np.add.at(families, head.tree.family_of, species)
    return families[: len(tree.families)]


def main() -> int:
    """Run this study."""
    tree, zoo = load_taxonomy(), load_zoo()
    photos = PredictedPhotos(open_pack("wild64"), tree, zoo.edge_model(), ("day",))
    print(f"| asked by | labels | {' | '.join(f'after {days} days' for days in REPORTED_AFTER)} |")
    figures: dict[str, NDArray[np.float64]] = {}
    for name, way in WAYS.items():
        runs, labels = [], []
        for seed in range(SEEDS):
            unknown = set(
                np.random.default_rng(seed).permutation(photos.families)[: len(photos.families) // 2].tolist()
            )
            right, count = run(tree, pictures(photos, tree, zoo.cloud_model(), unknown), way, seed)
            runs.append(right)
            labels.append(count)
        figures[name] = np.array(runs)
        off = figures[name] - figures["chance"]
        cells = [
            f"{mean:.1%} ({gain:+.1%} ± {error:.1%})"
            for mean, gain, error in zip(figures[name].mean(0), off.mean(0), off.std(0) / SEEDS**0.5, strict=True)
        ]
        print(f"| {name} | {np.mean(labels):.0f} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
