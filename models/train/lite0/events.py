"""The sums that ship: what the packs showed, and what ImageNet's own classifier knows of species they lack.

The packs' photos are events like any that a site learns later: a vector, a label, added to `pipeline.sums.sums.Sums`. Of a
species that they do not show, ImageNet's classifier has an idea nevertheless. Its weights point from the mean of all
pictures to the mean of its own, so a few vectors are imagined around that point, spread as the species of the packs are,
and added as events, too. A few, because real ones have to outweigh them soon.

Example::

    sums = add_views(Sums.empty(space, 256, tree.species), vectors, species, times=3)
    sums = sums.merge(imagined(sums, tree, weights))        # of ImageNet's classes over components, (256, 1000)
    discriminants(sums)                                     # the head that the cloud answers with
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import LEVELS_PER_SIGMA, Floats
from models.labels.taxonomy import Taxonomy
from pipeline.sums.sums import Sums

# A photo as it is counts three times: it is what cameras send. Every other view of the sets counts once.
TIMES = {"wild256-whole": 3}
# How far along a class's weights its mean lies, from the species that both the packs and ImageNet know (the cosine
# between the two ways is 0.75); and as how many events an imagined species counts.
REACH = 1.8
IMAGINED_EVENTS = 20


def add_views(sums: Sums, vectors: NDArray[np.uint8], species: NDArray[np.intp], times: int = 1) -> Sums:
    """Adds views, each `times` over."""
    for _ in range(times):
        sums = sums.add(vectors, species)
    return sums


def imagined(seen: Sums, tree: Taxonomy, imagenet: Floats) -> Sums:
    """Events of the species that ImageNet names and `seen` lacks; the same every time.

    `imagenet` are the weights of ImageNet's own classes over components, (d, 1000).
    """
    rng = np.random.default_rng(0)
    weights = imagenet - imagenet.mean(1, keepdims=True)
    mean = seen.gram[-1, :-1] / seen.events
    spread = np.linalg.cholesky(_within(seen))
    vectors, species = [np.empty((0, seen.dimension), np.uint8)], []
    for position, row in enumerate(tree.rows):
        if seen.counts[position] or not row.imagenet:
            continue
        centre = mean + LEVELS_PER_SIGMA * REACH * weights[:, list(row.imagenet)].mean(1)
        drawn = centre + rng.standard_normal((IMAGINED_EVENTS, seen.dimension)) @ spread.T
        vectors.append(np.clip(np.rint(drawn), 0, 255).astype(np.uint8))
        species += [position] * IMAGINED_EVENTS
    empty = Sums.empty(seen.space, seen.dimension, seen.labels)
    return empty.add(np.concatenate(vectors), np.array(species, np.intp))


def _within(sums: Sums) -> Floats:
    """Covariance of the events around their species' means (d, d)."""
    known = np.flatnonzero(sums.counts)
    means = sums.cross[:-1, known] / sums.counts[known]
    covariance = (sums.gram[:-1, :-1] - (means * sums.counts[known]) @ means.T) / sums.events
    return np.asarray(covariance + 1e-3 * np.eye(sums.dimension), np.float32)
