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
from models.calibrate import DEFAULT_THRESHOLDS
from models.eye_heads import Floats, FrameHead, Projection, components
from models.scores import Scores, softmax
from models.taxonomy import KINGDOMS, Taxonomy, roll_up
from models.witnesses import Witnesses

Picture = NDArray[np.uint8]
FeatureOf = Callable[[Picture], Floats]
# Pictures -> calibrated logits over `KINGDOMS` (n, 4), scores of a person (n,).
Judge = Callable[[Sequence[Picture]], tuple[Floats, Floats]]

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


def _rolled(tree: Taxonomy, species: Floats) -> tuple[Scores, Scores, Scores]:
    """Scores over (species, families, kingdoms)."""
    scores = Scores("species", tree.species, species)
    return scores, *roll_up(tree, scores)


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
    """Family and vector of a crop. `thresholds` by rank: from which probability its answers stand."""

    def __init__(
        self,
        name: str,
        space: str,
        tree: Taxonomy,
        feature_of: FeatureOf,
        projection: Projection,
        feature_head: Witnesses,
        vector_head: Witnesses,
        frame_head: FrameHead,
        thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    ) -> None:
        self.name = name
        self.space = space
        self.thresholds = thresholds
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
        vector = self._projection.bytes(feature)
        species = self._feature_head.species(feature, vector)
        person = float(self._frame_head.judge(feature[None])[1][0])
        return self._sight(species, person, vector, start)

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """A vector that the device made: the same answers from less. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species = self._vector_head.species(components(vector, self._vector_head.dimension), vector)
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
    """Species of a vector, over the whole tree. `thresholds` by rank: from which probability its answers stand."""

    def __init__(
        self,
        name: str,
        space: str,
        tree: Taxonomy,
        head: Witnesses,
        thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    ) -> None:
        self.name = name
        self.space = space
        self.thresholds = thresholds
        self._tree = tree
        self._head = head

    def see(self, vector: NDArray[np.uint8]) -> CloudSight:
        """uint8 (k,), of this eye's space. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species, family, kingdom = _rolled(
            self._tree, self._head.species(components(vector, self._head.dimension), vector)
        )
        return CloudSight(species, family, kingdom, (time.perf_counter() - start) * 1e3, self.name)
