"""A general model that knows nothing, and labelled events around a place of their own for each label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.site_learning.lesson_log import General, Taught

TREE = load_taxonomy()
SPACE, DIMENSION = "space", 24
PATHS = (("animal", "Felidae"), ("animal", "Canidae", "Vulpes vulpes"), ("other",))
NEW = ("animal", "Felidae", "Leopardus guigna")
LOOKS = {path[-1]: at for at, path in enumerate((*PATHS, NEW, ("person",)))}


def general(name: str = "lite0@2", tree: Taxonomy = TREE) -> General:
    """All species alike, of any vector."""

    def says(vectors: NDArray[np.uint8]) -> Floats:
        return np.full((len(vectors), len(tree.species)), 1 / len(tree.species), np.float32)

    return General(name, SPACE, tree, DIMENSION, says)


def vector(label: str, seed: int) -> NDArray[np.uint8]:
    """Of something that looks like this label."""
    centre = np.full(DIMENSION, 128.0)
    centre[LOOKS[label] * 4 :][:4] += 60
    noise = np.random.default_rng(seed).normal(0, 12, DIMENSION)
    return np.clip(centre + noise, 0, 255).astype(np.uint8)


def taught(number: int, path: tuple[str, ...], *, visit: int | None = None, looks_like: str | None = None) -> Taught:
    """Event `number` of a visit, its own unless said, which looks like its label unless said."""
    of = number if visit is None else visit
    return Taught(f"event-{number}", f"visit-{of}", path, "", vector(looks_like or path[-1], number))
