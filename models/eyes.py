"""What each tier sees in a frame: the device kingdom and person, the edge family and vector, the cloud species.

::

    frame --DeviceEye--> kingdom, person?, box --crop--> EdgeEye --> family, vector (256 bytes) --> CloudEye --> species

Device and edge run the backbone (`models.runtime`); the cloud sees nothing but the vector and needs neither OpenCV nor
ONNX Runtime, which are therefore handed in. All answers are over `models.taxonomy`'s labels, probabilities calibrated
on held-out photos.

Example::

    zoo = load_zoo()
    sight = zoo.device_eye().see(frame, motion.box)
    if not sight.person_raised:
        edge = zoo.edge_eye().see(crop(frame, sight.crop_box))
        zoo.cloud_eye().see(edge.vector).species.best     # ("Panthera tigris", 0.94)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import Box, crop
from models.scores import Scores, softmax
from models.taxonomy import KINGDOMS, Taxonomy
from pipeline.errors import Rejected

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]
FeatureOf = Callable[[Picture], Floats]
# Pictures -> calibrated logits over `KINGDOMS` (n, 4), scores of a person (n,).
Judge = Callable[[Sequence[Picture]], tuple[Floats, Floats]]

# A whitened component of +-4 standard deviations spans a byte.
LEVELS_PER_SIGMA, ZERO_LEVEL = 32.0, 128
# How a head's input and the evidence beside it are weighed, chosen on held-out photos and species.
INPUT_WEIGHT, EVIDENCE_WEIGHT = 0.25, 2.0
SOFTENED = (1.0, 2.0)
GROUPS = 5
LEAST_PROBABILITY = 1e-4
# Where nothing says which part of a frame matters, it is also looked at in parts: three across the longer side, two
# across the shorter, overlapping by a third, so that an animal of 2% of the frame covers a fifth of one of them.
TILES_LONG, TILES_SHORT, TILE_OVERLAP = 3, 2, 1 / 3
# What a tile needs to speak for the frame. Measured on 1,166 held-out photos, where tiles can only do harm (kingdom 0.973
# as without; persons' false alarms +0.5 points), and on scenes with a small subject (5% of the frame: animals named
# 0.70 instead of 0.25, persons raised 0.85 instead of 0.70).
TILE_CLEARER, TILE_CERTAIN, TILE_PERSON = 0.2, 0.95, 0.7
# Below that short side a frame has no detail to be found by looking closer.
TILED_FROM_PX = 320


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSight:
    """The device's view. `crop_box` is what to send on; `person_raised` says that the frame's level has to rise."""

    kingdom: Scores
    person: float
    person_raised: bool
    crop_box: Box
    ms: float
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class EdgeSight:
    """The edge's view of a crop; `vector` is uint8, all that the cloud gets."""

    family: Scores
    kingdom: Scores
    person: float
    person_raised: bool
    vector: NDArray[np.uint8]
    ms: float
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class CloudSight:
    """The cloud's view of a vector."""

    species: Scores
    family: Scores
    kingdom: Scores
    ms: float
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What ImageNet's own classifier makes of an input, as ten more numbers for a head to weigh.

    Its thousand classes are summed into five groups (animals, plants, fungi, people with what they wear or hold, other
    things), once as they are and once softened: it has seen far more of the world than the packs show.
    """

    weights: Floats
    bias: Floats
    group: NDArray[np.intp]

    @classmethod
    def of(cls, arrays: Arrays) -> Evidence:
        """From the zoo's ``frame.npz`` or ``vector.npz``."""
        return cls(
            arrays["imagenet_weights"].astype(np.float32),
            arrays["imagenet_bias"].astype(np.float32),
            arrays["imagenet_group"].astype(np.intp),
        )

    def beside(self, x: Floats) -> Floats:
        """Inputs (..., d) -> (..., d + 10): the input, scaled down, and the groups' log probabilities."""
        logits = x @ self.weights + self.bias
        groups = np.eye(GROUPS, dtype=np.float32)[self.group]
        logs = [np.log(softmax(logits / soft) @ groups + LEAST_PROBABILITY) for soft in SOFTENED]
        return np.concatenate([INPUT_WEIGHT * x, *(EVIDENCE_WEIGHT * log for log in logs)], axis=-1).astype(
            np.float32
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameHead:
    """Kingdom and person from the backbone's feature (1280,) and the evidence beside it."""

    evidence: Evidence
    kingdom_weights: Floats
    kingdom_bias: Floats
    kingdom_temperature: float
    person_weights: Floats
    person_bias: float
    person_threshold: float

    @classmethod
    def of(cls, arrays: Arrays) -> FrameHead:
        """From the zoo's ``frame.npz``."""
        return cls(
            Evidence.of(arrays),
            arrays["kingdom_weights"].astype(np.float32),
            arrays["kingdom_bias"].astype(np.float32),
            float(arrays["kingdom_temperature"]),
            arrays["person_weights"].astype(np.float32),
            float(arrays["person_bias"]),
            float(arrays["person_threshold"]),
        )

    def judge(self, features: Floats) -> tuple[Floats, Floats]:
        """Features (n, 1280) -> calibrated logits over `KINGDOMS` (n, 4) and scores of a person (n,).

        Of the person score only the order and the threshold are meant.
        """
        x = self.evidence.beside(features)
        logits = (x @ self.kingdom_weights + self.kingdom_bias) / self.kingdom_temperature
        person = 1 / (1 + np.exp(-(x @ self.person_weights + self.person_bias)))
        return logits.astype(np.float32), person.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TreeHead:
    """P(species) = P(kingdom) * P(species | kingdom): the kingdom by a head of its own, the rest by classes that sum.

    `to` says which species each class stands for, sorted, so that a sum over a species is one slice.
    """

    evidence: Evidence
    kingdom_weights: Floats
    kingdom_bias: Floats
    tree_weights: Floats
    tree_bias: Floats
    starts: NDArray[np.intp]
    kingdom_of: NDArray[np.intp]
    kingdom_temperature: float
    tree_temperature: float

    @classmethod
    def of(cls, arrays: Arrays, evidence: Evidence, tree: Taxonomy) -> TreeHead:
        """From the zoo's ``tree.npz`` or ``vector.npz``; classes are brought into the order of their species."""
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
        """Probabilities over the tree's species, from the input that the head was made for."""
        beside = self.evidence.beside(x)
        kingdoms = softmax((beside @ self.kingdom_weights + self.kingdom_bias) / self.kingdom_temperature)
        classes = softmax(x @ self.tree_weights + self.tree_bias)
        sums = np.log(np.maximum(np.add.reduceat(classes, self.starts), 1e-30))
        species = softmax(sums / self.tree_temperature)
        within = np.bincount(self.kingdom_of, species, len(KINGDOMS)) + 1e-12
        joint: Floats = (species * (kingdoms / within)[self.kingdom_of]).astype(np.float32)
        return joint


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Feature (1280,) -> vector uint8 (k,), and the vector as heads take it."""

    mean: Floats
    matrix: Floats

    @classmethod
    def of(cls, arrays: Arrays) -> Projection:
        """From the zoo's ``projection.npz``."""
        return cls(arrays["mean"].astype(np.float32), arrays["matrix"].astype(np.float32))

    def bytes(self, feature: Floats) -> NDArray[np.uint8]:
        levels = np.rint((feature - self.mean) @ self.matrix * LEVELS_PER_SIGMA + ZERO_LEVEL)
        return np.clip(levels, 0, 255).astype(np.uint8)


def components(vector: NDArray[np.uint8], length: int) -> Floats:
    """A vector as its heads take it. Raises `Rejected` where its length is another than the space's."""
    if vector.dtype != np.uint8 or vector.shape != (length,):
        raise Rejected(
            "space-mismatch", f"a vector of {vector.dtype} {vector.shape}; this space has uint8 ({length},)"
        )
    return (vector.astype(np.float32) - ZERO_LEVEL) / np.float32(LEVELS_PER_SIGMA)


def _rolled(tree: Taxonomy, species: Floats) -> tuple[Scores, Scores, Scores]:
    """Scores over (species, families, kingdoms)."""
    families = np.bincount(tree.family_of, species, len(tree.families)).astype(np.float32)
    kingdoms = np.bincount(tree.kingdom_of, families, len(KINGDOMS)).astype(np.float32)
    return (
        Scores("species", tree.species, species),
        Scores("family", tree.families, families),
        Scores("kingdom", tree.kingdoms, kingdoms),
    )


def tiles(width: int, height: int) -> tuple[Box, ...]:
    """Overlapping parts that cover a frame, row by row."""
    across, down = (TILES_LONG, TILES_SHORT) if width >= height else (TILES_SHORT, TILES_LONG)

    def spans(count: int) -> list[tuple[float, float]]:
        size = 1 / (count - (count - 1) * TILE_OVERLAP)
        return [(at * (1 - size) / (count - 1), at * (1 - size) / (count - 1) + size) for at in range(count)]

    return tuple(
        Box(left, top, right, bottom) for top, bottom in spans(down) for left, right in spans(across)
    )


class DeviceEye:
    """Kingdom and person of a frame; `tiled` says whether a frame in which nothing moved is looked at in parts, too."""

    def __init__(self, name: str, judge: Judge, person_threshold: float, *, tiled: bool) -> None:
        self.name = name
        self.person_threshold = person_threshold
        self._judge = judge
        self._tiled = tiled

    def see(self, frame: Picture, region: Box | None = None) -> DeviceSight:
        """BGR uint8 (height, width, 3). `region` is what moved.

        A person anywhere raises: the person score is the highest of all parts. The kingdom is answered for the part
        that shows something living most clearly, and that part is what `crop_box` names.
        """
        start = time.perf_counter()
        region = None if region == Box.WHOLE else region
        boxes = self._parts(frame, region)
        logits, persons = self._judge([crop(frame, box) for box in boxes])
        if region is None:
            # Six tiles have six chances of a false alarm: each has to be surer to weigh as much.
            persons[1:] *= self.person_threshold / TILE_PERSON
        chosen = _clearest(softmax(logits), surely=region is None)
        person = float(persons.max())
        return DeviceSight(
            kingdom=Scores("kingdom", KINGDOMS, softmax(logits[chosen])),
            person=person,
            person_raised=person >= self.person_threshold,
            crop_box=boxes[chosen],
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
        )

    def measure_ms(self, repeats: int = 10) -> float:
        """Median milliseconds of `see` on a 640x480 frame in which something moved."""
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        return float(
            np.median([self.see(frame, Box(0.25, 0.25, 0.75, 0.75)).ms for _ in range(repeats + 1)][1:])
        )

    def _parts(self, frame: Picture, region: Box | None) -> tuple[Box, ...]:
        if region is not None:
            return Box.WHOLE, region
        height, width = frame.shape[:2]
        if self._tiled and min(height, width) >= TILED_FROM_PX:
            return (Box.WHOLE, *tiles(width, height))
        return (Box.WHOLE,)


def by_backbone(feature_of: FeatureOf, head: FrameHead) -> Judge:
    """Judges pictures by the backbone's feature."""
    return lambda pictures: head.judge(np.stack([feature_of(picture) for picture in pictures]))


def _clearest(kingdoms: Floats, surely: bool) -> int:
    """Which part of a frame answers: the whole (0), unless another shows an animal or person more clearly.

    Takes probabilities (parts, 4). With `surely`, where nothing moved to say that a part matters, it has to be much
    clearer and nearly certain.
    """
    living = np.maximum(kingdoms[:, KINGDOMS.index("animal")], kingdoms[:, KINGDOMS.index("person")])
    best = int(living.argmax())
    needs = max(living[0] + TILE_CLEARER, TILE_CERTAIN) if surely else living[0]
    return best if living[best] > needs else 0


class EdgeEye:
    """Family and vector of a crop."""

    def __init__(
        self,
        name: str,
        space: str,
        tree: Taxonomy,
        feature_of: FeatureOf,
        projection: Projection,
        feature_head: TreeHead,
        vector_head: TreeHead,
        frame_head: FrameHead,
    ) -> None:
        self.name = name
        self.space = space
        self.person_threshold = frame_head.person_threshold
        self._tree = tree
        self._feature_of = feature_of
        self._projection = projection
        self._feature_head = feature_head
        self._vector_head = vector_head
        self._frame_head = frame_head

    def see(self, picture: Picture) -> EdgeSight:
        """BGR uint8 (height, width, 3): the crop around what moved."""
        start = time.perf_counter()
        feature = self._feature_of(picture)
        species = self._feature_head.species(feature)
        person = float(self._frame_head.judge(feature[None])[1][0])
        return self._sight(species, person, self._projection.bytes(feature), start)

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """A vector that the device made: the same answers from less. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species = self._vector_head.species(components(vector, len(self._vector_head.tree_weights)))
        return self._sight(species, float(species[self._tree.species.index("person")]), vector, start)

    def _sight(self, species: Floats, person: float, vector: NDArray[np.uint8], start: float) -> EdgeSight:
        _, family, kingdom = _rolled(self._tree, species)
        return EdgeSight(
            family=family,
            kingdom=kingdom,
            person=person,
            person_raised=person >= self.person_threshold,
            vector=vector,
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
        )


class CloudEye:
    """Species of a vector, over the whole tree."""

    def __init__(self, name: str, space: str, tree: Taxonomy, head: TreeHead) -> None:
        self.name = name
        self.space = space
        self._tree = tree
        self._head = head

    def see(self, vector: NDArray[np.uint8]) -> CloudSight:
        """uint8 (k,), of this eye's space. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species, family, kingdom = _rolled(
            self._tree, self._head.species(components(vector, len(self._head.tree_weights)))
        )
        return CloudSight(species, family, kingdom, (time.perf_counter() - start) * 1e3, self.name)
