"""What each tier sees in a frame: the device kingdom and person, the edge family and vector, the cloud species.

::

    frame --DeviceEye--> kingdom, person?, box --crop--> EdgeEye --> family, vector (256 bytes) --> CloudEye --> species

Device and edge run the backbone (`models.onnx_session`); the cloud sees nothing but the vector and needs neither OpenCV nor
ONNX Runtime, which are therefore handed in. All answers are over `models.labels.taxonomy`'s labels, probabilities calibrated
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, FrameHead, Projection, components
from models.heads.pooled import Witnesses
from models.labels.calibration import DEFAULT_THRESHOLDS
from models.labels.scores import Scores
from models.labels.taxonomy import KINGDOMS, Taxonomy, roll_up
from models.vision.boxes import Box
from models.vision.frame_scan import Look
from models.vision.region_search import CROP_PERSON

Picture = NDArray[np.uint8]
FeatureOf = Callable[[Picture], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSight:
    """The device's view. `crop_box` is what to send on; `person_raised` says that the frame's level has to rise."""

    kingdom: Scores
    person: float
    person_raised: bool
    crop_box: Box
    ms: float
    model: str


@dataclass(frozen=True, slots=True)
class SiteWord:
    """What a site's own labels name a crop, as deep as it was taught: the path from the kingdom, never past a label of its own.

    `sure`: it need not ask, and the cloud does not overrule it.
    """

    path: tuple[str, ...]
    probability: float
    sure: bool


@dataclass(frozen=True, slots=True, eq=False)
class EdgeSight:
    """The edge's view of a crop; `vector` is uint8, all that the cloud gets.

    `species` is what family and kingdom were summed from, over `tree`; None of a model that names families alone. `site` is the word of
    a site that has labels of its own.
    """

    family: Scores
    kingdom: Scores
    person: float
    person_raised: bool
    vector: NDArray[np.uint8]
    ms: float
    model: str
    thresholds: Mapping[str, float]
    """By rank: from which probability an answer of this model stands."""
    tree: Taxonomy
    species: Scores | None = None
    site: SiteWord | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CloudSight:
    """The cloud's view of a vector."""

    species: Scores
    family: Scores
    kingdom: Scores
    ms: float
    model: str
    thresholds: Mapping[str, float]


def _rolled(tree: Taxonomy, species: Floats) -> tuple[Scores, Scores, Scores]:
    """Scores over (species, families, kingdoms)."""
    scores = Scores("species", tree.species, species)
    return scores, *roll_up(tree, scores)


class DeviceEye:
    """Kingdom and person of a frame, and which part of it to send on.

    `person_miss_rate` is the share of persons that a small network is known to miss: where the settings accept less,
    no pixels leave by its word. The backbone's person check is the one that pixels may leave by: None.
    """

    def __init__(
        self, name: str, look: Look, person_threshold: float, person_miss_rate: float | None = None
    ) -> None:
        self.name = name
        self.person_threshold = person_threshold
        self.person_miss_rate = person_miss_rate
        self._look = look

    def see(self, frame: Picture, region: Box | None = None) -> DeviceSight:
        """BGR uint8 (height, width, 3). `region` is what moved. A person anywhere in the frame raises."""
        start = time.perf_counter()
        found = self._look(frame, None if region == Box.WHOLE else region)
        return DeviceSight(
            kingdom=Scores("kingdom", KINGDOMS, found.kingdoms),
            person=found.person,
            person_raised=found.person >= self.person_threshold,
            crop_box=found.box,
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
        )

    def measure_ms(self, repeats: int = 3) -> float:
        """Milliseconds of processor time that `see` takes on a 640x480 frame in which something moved.

        The least of some runs, on this thread's own clock: what else a machine does at a start says nothing about it.
        """
        frame = np.full((480, 640, 3), 90, np.uint8)
        taken_s = []
        for _ in range(repeats + 1):
            start_s = time.thread_time()
            self.see(frame, Box(0.25, 0.25, 0.75, 0.75))
            taken_s.append(time.thread_time() - start_s)
        return min(taken_s) * 1e3


class EdgeEye:
    """Family and vector of a crop. `head` answers of the vector alone."""

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
        self._thresholds = thresholds
        self._frame_threshold = frame_head.person_threshold
        self.tree = tree
        self._feature_of = feature_of
        self._projection = projection
        self._feature_head = feature_head
        self.head = vector_head
        self._frame_head = frame_head

    def see(self, picture: Picture, box: Box = Box.WHOLE) -> EdgeSight:
        """BGR uint8 (height, width, 3); `box` is where in its frame it lies: a whole frame raises at a lower person score."""
        start = time.perf_counter()
        feature = self._feature_of(picture)
        vector = self._projection.bytes(feature)
        species = self._feature_head.species(feature, vector)
        person = float(self._frame_head.judge(feature[None])[1][0])
        threshold = self._frame_threshold if box == Box.WHOLE else CROP_PERSON
        return self._sight(species, person, person >= threshold, vector, start)

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """A vector that the device made: the same answers from less. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species = self.head.species(components(vector, self.head.dimension), vector)
        person = float(species[self.tree.species.index("person")])
        return self._sight(species, person, person >= self._frame_threshold, vector, start)

    def _sight(
        self, species: Floats, person: float, raised: bool, vector: NDArray[np.uint8], start: float
    ) -> EdgeSight:
        scores, family, kingdom = _rolled(self.tree, species)
        return EdgeSight(
            family=family,
            kingdom=kingdom,
            person=person,
            person_raised=raised,
            vector=vector,
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
            thresholds=self._thresholds,
            tree=self.tree,
            species=scores,
        )


class CloudEye:
    """Species of a vector, over the whole tree."""

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
        self._thresholds = thresholds
        self.tree = tree
        self.head = head

    def see(self, vector: NDArray[np.uint8]) -> CloudSight:
        """uint8 (k,), of this eye's space. Raises `Rejected` for one of another length."""
        start = time.perf_counter()
        species, family, kingdom = _rolled(
            self.tree, self.head.species(components(vector, self.head.dimension), vector)
        )
        return CloudSight(
            species, family, kingdom, (time.perf_counter() - start) * 1e3, self.name, self._thresholds
        )
