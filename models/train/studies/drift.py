"""Measure how soon drift is reported, and false alarms: ``python -m models.train.studies.drift``.

A stream is a camera that a few kinds visit, some often and some rarely; each sighting is the released edge's answer to
one of wild64's held-out pictures. After some hundred sightings something changes: other kinds visit, the lens is out
of focus, the night is dark, or an unknown kind visits. (An unknown kind is imitated: its columns are taken from the
heads' probabilities, and the others are scaled up to one.)

Printed: a Markdown table, as in docs/explanation/drift.md. Takes a minute for the pictures, and a few seconds for each
row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.evaluation.photo_pack import Pack, open_pack
from models.labels.scores import Scores
from models.labels.taxonomy import KINGDOMS, Taxonomy, load_taxonomy
from models.shipped import load_zoo
from models.site_learning import drift
from models.vision.tier_models import EdgeModel, EdgePrediction, Picture, deepest

STREAMS = 20
BEFORE, AFTER = 500, 400
"""Sightings before and after the change."""
STILL = 1500
"""Sightings of a stream in which nothing changes."""
KINDS, PICTURES = 12, 40
"""Species of the stream's surroundings, each of a family of its own, and pictures of each."""
A_QUARTER = 5
"""Sightings in a quarter of a day."""
RESIDENTS = 6
"""Number of kinds that visit a stream before the change. The n-th visits 1/n as often as the first."""

View = Callable[[Picture, np.random.Generator], Picture]


def as_it_is(picture: Picture, _: np.random.Generator) -> Picture:
    """Return the unchanged picture."""
    return picture


def blurred(picture: Picture, _: np.random.Generator) -> Picture:
    """Blur by a thirtieth of the picture, like a lens out of focus."""
    sigma_px = max(picture.shape[:2]) / 30
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.uint8)


def at_night(picture: Picture, rng: np.random.Generator) -> Picture:
    """Make it grey, a fifth as bright, and noisy, as under a lamp that is too weak."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    dark = grey * 0.2 + 10 + rng.normal(0, 4, grey.shape)
    return np.asarray(cv2.cvtColor(np.clip(dark, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)


VIEWS: dict[str, View] = {"day": as_it_is, "blurred": blurred, "night": at_night}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The edge's answer to one picture."""

    prediction: EdgePrediction
    path: tuple[str, ...]
    probability: float


class PredictedPhotos:
    """The released edge's predictions for held-out pictures of some species, in each view."""

    def __init__(self, pack: Pack, tree: Taxonomy, model: EdgeModel, views: Sequence[str] = tuple(VIEWS)) -> None:
        rng = np.random.default_rng(0)
        rows: dict[int, list[int]] = {}
        for row in pack.rows("test"):
            rows.setdefault(tree.species.index(tree.find(pack.species[row])), []).append(row)
        families: dict[int, int] = {}
        for species in rng.permutation(sorted(rows)).tolist():
            family = int(tree.family_of[species])
            if len(rows[species]) >= PICTURES and KINGDOMS[tree.kingdom_of[family]] == "animal":
                families.setdefault(family, species)
        self.families = list(families)[:KINDS]
        self._shown: dict[tuple[str, int], list[EdgePrediction]] = {}
        for family in self.families:
            for row in rng.permutation(rows[families[family]])[:PICTURES].tolist():
                for name in views:
                    prediction = model.predict(VIEWS[name](pack.picture(row), rng))
                    self._shown.setdefault((name, family), []).append(prediction)

    def all_of(self, view: str, family: int) -> list[EdgePrediction]:
        """Return the predictions for every picture of a family."""
        return self._shown[view, family]

    def draw(self, rng: np.random.Generator, view: str, family: int, *, known: bool = True) -> Shown:
        """Draw a picture of a family; with `known` false, the model does not know the family."""
        shown = self._shown[view, family]
        prediction = shown[int(rng.integers(len(shown)))]
        scores = prediction.family
        if not known:
            without = np.where(np.arange(len(scores.labels)) == family, 0.0, scores.probabilities)
            scores = Scores("family", scores.labels, (without / without.sum()).astype(np.float32))
        found = deepest(replace(prediction, family=scores))
        return Shown(prediction, found.path, found.probability)


class VisitedCamera:
    """One stream: the families that visit it, and how often."""

    def __init__(self, photos: PredictedPhotos, seed: int, *, nights: bool = False) -> None:
        self._rng = np.random.default_rng(seed)
        self._photos = photos
        families = self._rng.permutation(photos.families).tolist()
        self.residents, self.strangers = families[:RESIDENTS], families[RESIDENTS:]
        self._nights = nights
        self._count = 0

    def sighting(self, change: str = "none") -> tuple[int, Shown]:
        """Return the quarter of the day and the next sighting."""
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
        return quarter, self._photos.draw(rng, view, family, known=known)

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


def alarms(camera: VisitedCamera, plan: Sequence[tuple[int, str]]) -> Iterator[tuple[int, drift.Alarm]]:
    """Yield alarms with the number of their sighting. `plan` lists counts of sightings, each with a change."""
    watch, number = drift.start("lite0@1"), 0
    for count, change in plan:
        for _ in range(count):
            number += 1
            quarter, shown = camera.sighting(change)
            seen = drift.Observation(
                "lite0@1", str(number), quarter, shown.path, shown.probability, shown.prediction.vector, "s"
            )
            watch, raised = drift.observe(watch, seen)
            yield from ((number, alarm) for alarm in raised)


def delays(photos: PredictedPhotos, change: str) -> tuple[list[int], Counter[str]]:
    """Return sightings from the change to the first alarm of each stream that had one, and the rules."""
    found, rules = [], Counter[str]()
    for seed in range(STREAMS):
        for at, alarm in alarms(VisitedCamera(photos, seed), ((BEFORE, "none"), (AFTER, change))):
            if at > BEFORE:
                found.append(at - BEFORE)
                rules[alarm.rule] += 1
                break
    return found, rules


def main() -> int:
    """Run this study."""
    photos = PredictedPhotos(open_pack("wild64"), load_taxonomy(), load_zoo().edge_model())
    for name, nights in (("nothing", False), ("nothing: each night follows a day", True)):
        rules = Counter[str]()
        for seed in range(STREAMS):
            rules.update(
                alarm.rule for _, alarm in alarms(VisitedCamera(photos, 100 + seed, nights=nights), ((STILL, "none"),))
            )
        alarmed = sum(rules.values())
        print(
            f"| {name} | {alarmed / (STREAMS * STILL) * 1000:.2f} false alarms in 1,000 sightings | | {_counts(rules)} |"
        )
    for change in CHANGES:
        found, rules = delays(photos, change)
        middle = f"{np.median(found):.0f}" if found else ""
        print(f"| {change} | {len(found)} of {STREAMS} | {middle} | {_counts(rules)} |")
    return 0


def _counts(rules: Counter[str]) -> str:
    return ", ".join(f"`{rule}` {count}" for rule, count in rules.most_common())


if __name__ == "__main__":
    sys.exit(main())
