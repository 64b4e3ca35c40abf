"""Measure how soon a broken camera is reported, and false alarms: ``python -m models.train.studies.camera_health``.

A camera is a window into a photo of a wild256 scene, in frames of 640x480 every six minutes: a day of drifting light
and clouds, a night with an infrared lamp or without light, noise, and an animal in every tenth frame. After three days
it breaks, at an hour of its own.

Printed: a Markdown table, as in docs/explanation/drift.md. Takes a quarter of an hour.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import Pack, open_pack
from models.train.lite0.features import SCENES
from models.vision.camera_health import Camera, Finding, check, glance
from models.vision.tier_models import Picture

EVERY_S = 360.0
CAMERAS = 4
WELL_DAYS = 4
BREAKS_AFTER_S = 3 * 86_400.0
WATCHED_S = 86_400.0
NOISE = 3.0
Broken = Literal["", "covered", "frozen", "nudged", "turned", "defocused", "slightly defocused"]


@dataclass(slots=True)
class SyntheticPlace:
    """One camera's scene and its visitors."""

    scene: Picture
    visitors: list[Picture]
    rng: np.random.Generator
    lamp: bool = True
    dusk_h: float = 18.0
    last: Picture | None = None

    def frame(self, at_s: float, broken: Broken) -> Picture:
        """Return BGR (480, 640, 3) at a time; each day dusk is three minutes earlier."""
        if broken == "frozen" and self.last is not None:
            return self.last
        hour, day = at_s / 3600 % 24, int(at_s // 86_400)
        side = 0.7 * self.scene.shape[1]
        shift = {"nudged": 0.04, "turned": 0.25}.get(broken, 0.0) * side
        left, top = 0.02 * self.scene.shape[1] + shift, 0.1 * self.scene.shape[0] + shift / 2
        zoom = 640 / side
        at = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]], np.float32)
        window = cv2.warpAffine(self.scene, at, (640, 480), borderMode=cv2.BORDER_REFLECT)
        seen = np.asarray(window, np.float32)
        if self.rng.random() < 0.1:
            self._pass_by(seen)
        light = float(np.clip(min(hour - 6, self.dusk_h - day / 20 - hour) / 1.5, 0, 1))
        if light > 0:
            seen *= (0.25 + 0.75 * light) * self.rng.uniform(0.75, 1.1)
        elif self.lamp:
            grey = seen.mean(2, keepdims=True)
            ys, xs = np.mgrid[-1:1:480j, -1:1:640j]
            seen = np.repeat(grey * (0.8 * np.exp(-(xs**2 + ys**2)))[..., None], 3, axis=2)
        else:
            seen *= 0.01
        if broken == "covered":
            seen *= 0.01
        sigma = {"defocused": 10.0, "slightly defocused": 4.0}.get(broken)
        if sigma:
            seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), sigma), np.float32)
        noise = self.rng.normal(0, NOISE, seen.shape[:2])[..., None]
        self.last = np.clip(seen + noise, 0, 255).astype(np.uint8)
        return self.last

    def _pass_by(self, seen: NDArray[np.float32]) -> None:
        side = int(self.rng.integers(80, 260))
        visitor = cv2.resize(self.visitors[int(self.rng.integers(len(self.visitors)))], (side, side))
        top, left = int(self.rng.integers(480 - side)), int(self.rng.integers(640 - side))
        seen[top : top + side, left : left + side] = visitor


def places(pack: Pack, *, lamp: bool = True) -> Iterator[SyntheticPlace]:
    """Yield cameras at scenes of the training split, which has more scenes; nothing is trained here."""
    rng = np.random.default_rng(0)
    rows = pack.rows("train")
    scenes = [row for row in rows if pack.species[row] in SCENES]
    visitors = [pack.picture(row) for row in rng.permutation(pack.rows("val"))[:30].tolist()]
    for number, row in enumerate(rng.permutation(scenes)[:CAMERAS].tolist()):
        yield SyntheticPlace(pack.picture(row), visitors, np.random.default_rng(number), lamp)


def findings(
    place: SyntheticPlace, until_s: float, broken: Broken = "", from_s: float = np.inf
) -> Iterator[tuple[float, Finding]]:
    """Yield the findings about a camera with their times."""
    camera = Camera()
    for at_s in np.arange(0.0, until_s, EVERY_S).tolist():
        frame = place.frame(at_s, broken if at_s >= from_s else "")
        camera, finding = check(camera, glance(frame), at_s=at_s, hour=int(at_s / 3600 % 24))
        if finding is not None:
            yield at_s, finding


def main() -> int:
    """Run this study."""
    pack = open_pack("wild256")
    for lamp in (True, False):
        rules = Counter(
            finding.rule for place in places(pack, lamp=lamp) for _, finding in findings(place, WELL_DAYS * 86_400.0)
        )
        print(f"| well for {WELL_DAYS} days, {'a lamp' if lamp else 'black'} at night | {dict(rules) or 'nothing'} | |")
    kinds: tuple[Broken, ...] = ("covered", "frozen", "turned", "nudged", "defocused", "slightly defocused")
    for broken in kinds:
        first, minutes = Counter[str](), []
        for number, place in enumerate(places(pack)):
            from_s = BREAKS_AFTER_S + number * 86_400.0 / CAMERAS
            found = [each for each in findings(place, from_s + WATCHED_S, broken, from_s) if each[0] >= from_s]
            first[found[0][1].rule if found else "nothing"] += 1
            minutes += [(found[0][0] - from_s) / 60] if found else []
        middle = f"{np.median(minutes):.0f} ({max(minutes):.0f})" if minutes else ""
        print(f"| {broken} | {', '.join(f'`{rule}` {count}' for rule, count in first.most_common())} | {middle} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
