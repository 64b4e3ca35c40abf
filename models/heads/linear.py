"""The linear heads that read features, as the files of the zoo hold them; they need numpy only.

::

    feature (1280,) --FrameHead--> kingdom, person        (device)
                    --TreeHead---> species                (edge)
                    --Projection-> 256 bytes --TreeHead--> species   (cloud)

`ImageNetEvidence` extends the input of each kingdom head with what ImageNet's own classifier finds there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, Taxonomy
from pipeline.errors import Rejected

Floats = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]

# A whitened component of +-4 standard deviations spans a byte.
LEVELS_PER_SIGMA, ZERO_LEVEL = 32.0, 128
# The weights of a head's input and of the evidence beside it, chosen on held-out photos and species.
INPUT_WEIGHT, EVIDENCE_WEIGHT = 0.25, 2.0
SOFTENED = (1.0, 2.0)
GROUPS = 5
LEAST_PROBABILITY = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class ImageNetEvidence:
    """The prediction of ImageNet's own classifier, as ten more inputs of a head.

    Its thousand classes are summed into five groups (animals, plants, fungi, people with their clothes and tools,
    other things), once unchanged and once softened. That classifier has seen far more of the world than the photo
    packs show.
    """

    weights: Floats
    bias: Floats
    group: NDArray[np.intp]

    @classmethod
    def of(cls, arrays: Arrays) -> ImageNetEvidence:
        """Read the zoo's ``frame.npz`` or ``vector.npz``."""
        return cls(
            arrays["imagenet_weights"].astype(np.float32),
            arrays["imagenet_bias"].astype(np.float32),
            arrays["imagenet_group"].astype(np.intp),
        )

    def beside(self, x: Floats) -> Floats:
        """Extend inputs (..., d) to (..., d + 10): the input, scaled down, and the groups' log probabilities."""
        logits = x @ self.weights + self.bias
        groups = np.eye(GROUPS, dtype=np.float32)[self.group]
        logs = [np.log(softmax(logits / soft) @ groups + LEAST_PROBABILITY) for soft in SOFTENED]
        return np.concatenate([INPUT_WEIGHT * x, *(EVIDENCE_WEIGHT * log for log in logs)], axis=-1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class FrameHead:
    """Kingdom and person from the backbone's feature (1280,) and the evidence beside it."""

    evidence: ImageNetEvidence
    kingdom_weights: Floats
    kingdom_bias: Floats
    kingdom_temperature: float
    person_weights: Floats
    person_bias: float
    person_threshold: float

    @classmethod
    def of(cls, arrays: Arrays) -> FrameHead:
        """Read the zoo's ``frame.npz``."""
        return cls(
            ImageNetEvidence.of(arrays),
            arrays["kingdom_weights"].astype(np.float32),
            arrays["kingdom_bias"].astype(np.float32),
            float(arrays["kingdom_temperature"]),
            arrays["person_weights"].astype(np.float32),
            float(arrays["person_bias"]),
            float(arrays["person_threshold"]),
        )

    def judge(self, features: Floats) -> tuple[Floats, Floats]:
        """Return calibrated logits over `KINGDOMS` (n, 4) and person scores (n,) of features (n, 1280).

        A person score is no probability: only its order and its threshold have a meaning.
        """
        x = self.evidence.beside(features)
        logits = (x @ self.kingdom_weights + self.kingdom_bias) / self.kingdom_temperature
        person = 1 / (1 + np.exp(-(x @ self.person_weights + self.person_bias)))
        return logits.astype(np.float32), person.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TreeHead:
    """P(species) = P(kingdom) * P(species | kingdom), by one head for the kingdom and one for classes.

    Several classes may stand for one species. They are sorted by species, so that each species is one slice; `starts`
    holds the first class of each.
    """

    evidence: ImageNetEvidence
    kingdom_weights: Floats
    kingdom_bias: Floats
    tree_weights: Floats
    tree_bias: Floats
    starts: NDArray[np.intp]
    kingdom_of: NDArray[np.intp]
    kingdom_temperature: float
    tree_temperature: float

    @classmethod
    def of(cls, arrays: Arrays, evidence: ImageNetEvidence, tree: Taxonomy) -> TreeHead:
        """Read the zoo's ``tree.npz`` or ``vector.npz``, and sort the classes by species."""
        to = arrays["tree_to"].astype(np.intp)
        order = np.argsort(to, kind="stable")
        return cls(
            evidence,
            arrays["kingdom_weights"].astype(np.float32),
            arrays["kingdom_bias"].astype(np.float32),
            arrays["tree_weights"].astype(np.float32)[:, order],
            arrays["tree_bias"].astype(np.float32)[order],
            np.searchsorted(to[order], np.arange(len(tree.species))),
            tree.kingdom_of[tree.family_of],
            float(arrays["kingdom_temperature"]),
            float(arrays["tree_temperature"]),
        )

    def species(self, x: Floats) -> Floats:
        """Return probabilities (..., s) over the tree's species, from inputs (..., d) of the head's kind."""
        beside = self.evidence.beside(x)
        kingdoms = softmax((beside @ self.kingdom_weights + self.kingdom_bias) / self.kingdom_temperature)
        classes = softmax(x @ self.tree_weights + self.tree_bias)
        sums = np.log(np.maximum(np.add.reduceat(classes, self.starts, axis=-1), 1e-30))
        species = softmax(sums / self.tree_temperature)
        within = species @ np.eye(len(KINGDOMS))[self.kingdom_of] + 1e-12
        joint: Floats = (species * (kingdoms / within)[..., self.kingdom_of]).astype(np.float32)
        return joint


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The linear map from a feature (1280,) to a vector uint8 (k,)."""

    mean: Floats
    matrix: Floats

    @classmethod
    def of(cls, arrays: Arrays) -> Projection:
        """Read the zoo's ``projection.npz``."""
        return cls(arrays["mean"].astype(np.float32), arrays["matrix"].astype(np.float32))

    def bytes(self, feature: Floats) -> NDArray[np.uint8]:
        """Return the vector of a feature: float32 (..., 1280) -> uint8 (..., k)."""
        levels = np.rint((feature - self.mean) @ self.matrix * LEVELS_PER_SIGMA + ZERO_LEVEL)
        return np.clip(levels, 0, 255).astype(np.uint8)


def components(vector: NDArray[np.uint8], length: int) -> Floats:
    """Return a vector as the heads' input, float32 (length,). Raises `Rejected` for another length or type."""
    if vector.dtype != np.uint8 or vector.shape != (length,):
        raise Rejected("space-mismatch", f"a vector of {vector.dtype} {vector.shape}; this space has uint8 ({length},)")
    return (vector.astype(np.float32) - ZERO_LEVEL) / np.float32(LEVELS_PER_SIGMA)
