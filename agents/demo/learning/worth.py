"""The worth of labels: the answers about the same photos before and after, beside those of the nearest class mean.

Pure: answers in, a table out. An answer is right if it names the photo's species (of the family: that family, or a
species of it). An answer of `unknown`, or higher up the tree, is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.demo.learning.lessons import LessonPhoto
from pipeline.messages import Result

Vectors = NDArray[np.uint8]

LAST = "last word"


class Score(msgspec.Struct, frozen=True):
    """Numbers of photos named right to the species, right to the family, and wrong."""

    photos: int
    species: int
    family: int
    wrong: int

    def percent(self, count: int) -> float:
        """Return a count as per cent of the photos."""
        return round(100 * count / self.photos, 1) if self.photos else 0.0


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """The demo's figures; `--report` writes them."""

    labels: int
    new: dict[str, tuple[Score, Score]]
    """Photos of new species, before and after: the answers of the edge, of the cloud, and the last ones."""
    known: tuple[Score, Score]
    """Photos of known species, before and after, by the last answer of any tier."""
    nearest_mean: tuple[float, float]
    """Per cent of the new and of the known species' photos that the nearest class mean names, over the same labels."""
    by_species: dict[str, tuple[Score, Score]]
    learned_s: float
    """Time from the last label until edge and cloud served a model that has learned from the labels."""
    models: tuple[str, str]
    """The models that answered before and after."""


def score(photos: Sequence[LessonPhoto], answers: Sequence[Result | None]) -> Score:
    """Count photos by their answers; None stands for no answer."""
    species = family = wrong = 0
    for photo, answer in zip(photos, answers, strict=True):
        path = answer.path if answer is not None else ()
        truth = truth_path(photo)
        species += path == truth
        family += path[:2] == truth[:2]
        wrong += path != truth[: len(path)]
    return Score(len(photos), species, family, wrong)


def truth_path(photo: LessonPhoto) -> tuple[str, ...]:
    """Return the true path from the kingdom down; a leaf (`person`, `other`) is one step."""
    return tuple(dict.fromkeys((photo.kingdom, photo.family, photo.species)))


def nearest_mean(means: Mapping[str, NDArray[np.float64]], vector: Vectors) -> str:
    """Return the label whose mean vector (d,) has the least Euclidean distance; the first of equals.

    >>> nearest_mean({"a": np.array([0.0, 0.0]), "b": np.array([9.0, 9.0])}, np.array([8, 7], np.uint8))
    'b'
    """
    return min(means, key=lambda label: float(np.square(means[label] - vector).sum()))
