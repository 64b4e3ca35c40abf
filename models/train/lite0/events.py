"""Make the shipped sums from the packs, and from ImageNet's own classifier for species that the packs lack.

The packs' photos are events like those that a site learns later: a vector and a label, added to
`pipeline.sums.sums.Sums`. ImageNet's classifier also knows species that the packs lack. Its weights point from the
mean of all pictures to the mean of a species, so that a few vectors are imagined around that point, with the spread of
the packs' species, and added as events. They are few, so that real events soon outweigh them.

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

# An unchanged photo counts three times, since cameras send such photos. Every other view counts once.
TIMES = {"wild256-whole": 3}
# How far a class's mean lies along its weights, measured on species that both the packs and ImageNet know
# (the cosine of the two directions is 0.75); and the number of events of an imagined species.
REACH = 1.8
IMAGINED_EVENTS = 20


def add_views(sums: Sums, vectors: NDArray[np.uint8], species: NDArray[np.intp], times: int = 1) -> Sums:
    """Add views, each `times` times."""
    for _ in range(times):
        sums = sums.add(vectors, species)
    return sums


def imagined(seen: Sums, tree: Taxonomy, imagenet: Floats) -> Sums:
    """Imagine events of the species that ImageNet knows and `seen` lacks; the same every time.

    `imagenet` holds the weights of ImageNet's own classes over components, (d, 1000).
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
    """Return the covariance of the events around their species' means (d, d)."""
    known = np.flatnonzero(sums.counts)
    means = sums.cross[:-1, known] / sums.counts[known]
    covariance = (sums.gram[:-1, :-1] - (means * sums.counts[known]) @ means.T) / sums.events
    return np.asarray(covariance + 1e-3 * np.eye(sums.dimension), np.float32)
