"""How soon drift is told, and how often for nothing: ``python -m models.train.studies.drift``, on wild64's held-out pictures.

A stream is a camera that a few kinds visit, some often and some rarely; each sighting is one picture as the released edge
answers it. After some hundred sightings something changes: other kinds come, the lens is out of focus, the pictures are a dark
night's, or a kind comes that the model does not know. (That is imitated: the species' columns are taken from the heads'
probabilities, and the others scaled up to one, as heads would answer that never heard of it.)

Printed: a Markdown table, as in docs/learning.md. Takes a minute for the pictures, and some seconds a row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.labels.scores import Scores
from models.labels.taxonomy import KINGDOMS, Taxonomy, load_taxonomy
from models.shipped import load_zoo
from models.site_learning import drift
from models.train.pictures.data import Pack, open_pack
from models.vision.tier_models import EdgeModel, EdgePrediction, Picture, deepest

STREAMS = 20
BEFORE, AFTER = 500, 400
"""Sightings until the change, and from it on."""
STILL = 1500
"""Sightings of a stream in which nothing changes."""
KINDS, PICTURES = 12, 40
"""Species of the stream's surroundings, each of a family of its own, and pictures of each."""
A_QUARTER = 5
"""Sightings in a quarter of a day, one after the other."""
RESIDENTS = 6
"""Of these so many visit a stream before anything changes; the n-th comes 1/n as often as the first."""

View = Callable[[Picture, np.random.Generator], Picture]


def as_it_is(picture: Picture, _: np.random.Generator) -> Picture:
    return picture


def blurred(picture: Picture, _: np.random.Generator) -> Picture:
    """Out of focus by a thirtieth of the picture."""
    sigma_px = max(picture.shape[:2]) / 30
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.uint8)


def at_night(picture: Picture, rng: np.random.Generator) -> Picture:
    """Grey, a fifth as bright, noisy: a lamp that is too weak."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    dark = grey * 0.2 + 10 + rng.normal(0, 4, grey.shape)
    return np.asarray(cv2.cvtColor(np.clip(dark, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)


VIEWS: dict[str, View] = {"day": as_it_is, "blurred": blurred, "night": at_night}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture as the edge answers it."""

    sight: EdgePrediction
    path: tuple[str, ...]
    probability: float


class Photos:
    """Held-out pictures of some species, as the released edge answers them in each view."""

    def __init__(
        self, pack: Pack, tree: Taxonomy, eye: EdgeModel, views: Sequence[str] = tuple(VIEWS)
    ) -> None:
        rng = np.random.default_rng(0)
        rows: dict[int, list[int]] = {}
        for row in pack.rows("test"):
            rows.setdefault(tree.species.index(tree.find(pack.species[row])), []).append(row)
        families: dict[int, int] = {}
        for its in rng.permutation(sorted(rows)).tolist():
            if len(rows[its]) >= PICTURES and KINGDOMS[tree.kingdom_of[tree.family_of[its]]] == "animal":
                families.setdefault(int(tree.family_of[its]), its)
        self.families = list(families)[:KINDS]
        self._shown: dict[tuple[str, int], list[EdgePrediction]] = {}
        for family in self.families:
            for row in rng.permutation(rows[families[family]])[:PICTURES].tolist():
                for name in views:
                    sight = eye.predict(VIEWS[name](pack.picture(row), rng))
                    self._shown.setdefault((name, family), []).append(sight)

    def all_of(self, view: str, family: int) -> list[EdgePrediction]:
        """Every picture of a family."""
        return self._shown[view, family]

    def one(self, rng: np.random.Generator, view: str, family: int, *, known: bool = True) -> Shown:
        """A picture of this family; `known`: by a model that has heard of it."""
        shown = self._shown[view, family]
        sight = shown[int(rng.integers(len(shown)))]
        scores = sight.family
        if not known:
            without = np.where(np.arange(len(scores.labels)) == family, 0.0, scores.probabilities)
            scores = Scores("family", scores.labels, (without / without.sum()).astype(np.float32))
        found = deepest(replace(sight, family=scores))
        return Shown(sight, found.path, found.probability)


class Camera:
    """One stream: which families come to it, how often, and what has happened to it."""

    def __init__(self, photos: Photos, seed: int, *, nights: bool = False) -> None:
        self._rng = np.random.default_rng(seed)
        self._photos = photos
        families = self._rng.permutation(photos.families).tolist()
        self.residents, self.strangers = families[:RESIDENTS], families[RESIDENTS:]
        self._nights = nights
        self._count = 0

    def sighting(self, change: str = "none") -> tuple[int, Shown]:
        """The quarter of the day, and what is seen."""
        rng = self._rng
        quarter = self._count // A_QUARTER % drift.QUARTERS
        self._count += 1
        view = "night" if self._nights and quarter in (0, 3) else "day"
        family, known = self._resident(), True
        match change:
            case "other shares":
                family = self.residents[RESIDENTS - 1 - self.residents.index(family)]
            case "a third are strangers":
                family = int(rng.choice(self.strangers)) if rng.random() < 1 / 3 else family
            case "a third are of a family that the model does not know":
                if rng.random() < 1 / 3:
                    family, known = self.strangers[0], False
            case "out of focus":
                view = "blurred"
            case "a lamp too weak, day and night":
                view = "night"
        return quarter, self._photos.one(rng, view, family, known=known)

    def _resident(self) -> int:
        shares = 1 / np.arange(1, RESIDENTS + 1)
        return int(self._rng.choice(self.residents, p=shares / shares.sum()))


CHANGES = (
    "other shares",
    "a third are strangers",
    "a third are of a family that the model does not know",
    "out of focus",
    "a lamp too weak, day and night",
)


def alarms(camera: Camera, plan: Sequence[tuple[int, str]]) -> Iterator[tuple[int, drift.Alarm]]:
    """What is told at which sighting; `plan`: so many sightings under each change, one after the other."""
    watch, number = drift.start("lite0@1"), 0
    for count, change in plan:
        for _ in range(count):
            number += 1
            quarter, shown = camera.sighting(change)
            seen = drift.Observation(
                "lite0@1", str(number), quarter, shown.path, shown.probability, shown.sight.vector, "s"
            )
            watch, told = drift.observe(watch, seen)
            yield from ((number, alarm) for alarm in told)


def delays(photos: Photos, change: str) -> tuple[list[int], Counter[str]]:
    """Sightings from the change to the first alarm, of the streams in which there was one; and its rules."""
    found, rules = [], Counter[str]()
    for seed in range(STREAMS):
        for at, alarm in alarms(Camera(photos, seed), ((BEFORE, "none"), (AFTER, change))):
            if at > BEFORE:
                found.append(at - BEFORE)
                rules[alarm.rule] += 1
                break
    return found, rules


def main() -> int:
    photos = Photos(open_pack("wild64"), load_taxonomy(), load_zoo().edge_model())
    for name, nights in (("nothing", False), ("nothing: each night follows a day", True)):
        rules = Counter[str]()
        for seed in range(STREAMS):
            rules.update(
                alarm.rule
                for _, alarm in alarms(Camera(photos, 100 + seed, nights=nights), ((STILL, "none"),))
            )
        told = sum(rules.values())
        print(
            f"| {name} | {told / (STREAMS * STILL) * 1000:.2f} for nothing in 1,000 sightings | | {_told(rules)} |"
        )
    for change in CHANGES:
        found, rules = delays(photos, change)
        middle = f"{np.median(found):.0f}" if found else ""
        print(f"| {change} | {len(found)} of {STREAMS} | {middle} | {_told(rules)} |")
    return 0


def _told(rules: Counter[str]) -> str:
    return ", ".join(f"`{rule}` {count}" for rule, count in rules.most_common())


if __name__ == "__main__":
    sys.exit(main())
