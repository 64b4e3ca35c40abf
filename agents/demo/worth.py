"""What the labels were worth: the answers to the same photos before and after, and what the nearest class mean would have said.

Pure: answers in, a table out. *Right* means that a tier's last word names the photo's species (of the family: that family, or a species
of it); what stays at `unknown` or higher up the tree is not wrong, and not right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.demo.lessons import Photo
from pipeline.messages import Result

Vectors = NDArray[np.uint8]

LAST = "last word"


class Share(msgspec.Struct, frozen=True):
    """Of `photos`, how many were named right down to the species, to the family, and how many wrongly at all."""

    photos: int
    species: int
    family: int
    wrong: int

    def percent(self, count: int) -> float:
        return round(100 * count / self.photos, 1) if self.photos else 0.0


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """The demo's figures; `--report` writes them."""

    labels: int
    new: dict[str, tuple[Share, Share]]
    """Photos of new species, before and after: as the edge answered them, as the cloud did, and the last word."""
    known: tuple[Share, Share]
    """Photos of known species, before and after: the last word, whichever tier's it is."""
    nearest_mean: tuple[float, float]
    """Per cent of the new and of the known species' photos that the nearest class mean names, over the same labels."""
    by_species: dict[str, tuple[Share, Share]]
    learned_s: float
    """From the last label until edge and cloud served what was learned from them."""
    models: tuple[str, str]
    """What answered before and after."""


def share(photos: Sequence[Photo], answers: Sequence[Result | None]) -> Share:
    """Photos with the last word about each; None: no answer."""
    species = family = wrong = 0
    for photo, answer in zip(photos, answers, strict=True):
        path = answer.path if answer is not None else ()
        truth = truth_path(photo)
        species += path == truth
        family += path[:2] == truth[:2]
        wrong += path != truth[: len(path)]
    return Share(len(photos), species, family, wrong)


def truth_path(photo: Photo) -> tuple[str, ...]:
    """From the kingdom down; a leaf (`person`, `other`) is one step."""
    return tuple(dict.fromkeys((photo.kingdom, photo.family, photo.species)))


def nearest_mean(means: Mapping[str, NDArray[np.float64]], vector: Vectors) -> str:
    """The label whose mean vector (d,) lies nearest, by Euclid; the first of equals.

    >>> nearest_mean({"a": np.array([0.0, 0.0]), "b": np.array([9.0, 9.0])}, np.array([8, 7], np.uint8))
    'b'
    """
    return min(means, key=lambda label: float(np.square(means[label] - vector).sum()))
