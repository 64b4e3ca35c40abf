"""The model of each tier: the device predicts kingdom and person, the edge family and vector, the cloud species.

::

    frame --DeviceModel--> kingdom, person?, box --crop--> EdgeModel --> family, vector --> CloudModel --> species

Device and edge run the backbone (`models.onnx_session`). The cloud reads only the vector and needs neither OpenCV nor
ONNX Runtime, so that the callers pass in what uses them. All predictions are over the labels of
`models.labels.taxonomy`, with probabilities calibrated on held-out photos.

Example::

    zoo = load_zoo()
    prediction = zoo.device_model().predict(frame, motion.box)
    if not prediction.person_raised:
        edge = zoo.edge_model().predict(crop(frame, prediction.crop_box))
        zoo.cloud_model().predict(edge.vector).species.best     # ("Panthera tigris", 0.94)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, FrameHead, Projection, components
from models.heads.pooled import PooledHeads
from models.labels.calibration import DEFAULT_THRESHOLDS, Answer, answer
from models.labels.scores import Scores
from models.labels.taxonomy import KINGDOMS, Taxonomy, roll_up
from models.vision.boxes import Box
from models.vision.frame_scan import Look
from models.vision.region_search import CROP_PERSON

Picture = NDArray[np.uint8]
FeatureOf = Callable[[Picture], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class DevicePrediction:
    """The device's prediction. `crop_box` is the part to send; `person_raised`: a person raises the privacy level."""

    kingdom: Scores
    person: float
    person_raised: bool
    crop_box: Box
    ms: float
    model: str


@dataclass(frozen=True, slots=True)
class SitePrediction:
    """A prediction from a site's own labels: the path from the kingdom, never deeper than a label of the site.

    If it is `sure`, the cloud need not be asked and does not overrule it.
    """

    path: tuple[str, ...]
    probability: float
    sure: bool


@dataclass(frozen=True, slots=True, eq=False)
class EdgePrediction:
    """The edge's prediction for a crop; `vector` is uint8 and all that the cloud gets.

    Family and kingdom were summed from `species`, over `tree`; it is None for a model that predicts families only.
    `site` is the prediction of a site that has labels of its own.
    """

    family: Scores
    kingdom: Scores
    person: float
    person_raised: bool
    vector: NDArray[np.uint8]
    ms: float
    model: str
    thresholds: Mapping[str, float]
    """The probability from which an answer of this model is published, by rank."""
    tree: Taxonomy
    species: Scores | None = None
    site: SitePrediction | None = None

    @property
    def scores(self) -> tuple[Scores, ...]:
        """Return the scores by rank, the deepest first."""
        return self.family, self.kingdom


@dataclass(frozen=True, slots=True, eq=False)
class CloudPrediction:
    """The cloud's prediction for a vector."""

    species: Scores
    family: Scores
    kingdom: Scores
    ms: float
    model: str
    thresholds: Mapping[str, float]
    tree: Taxonomy

    @property
    def scores(self) -> tuple[Scores, ...]:
        """Return the scores by rank, the deepest first."""
        return self.species, self.family, self.kingdom


def deepest(prediction: EdgePrediction | CloudPrediction) -> Answer:
    """Return the deepest rank whose best label reaches the threshold of the model that predicted it."""
    return answer(prediction.tree, prediction.scores, prediction.thresholds)


def rolled(tree: Taxonomy, species: Floats) -> tuple[Scores, Scores, Scores]:
    """Return scores over (species, families, kingdoms) of probabilities (species,) over the tree."""
    scores = Scores("species", tree.species, species)
    return scores, *roll_up(tree, scores)


class DeviceModel:
    """Predicts kingdom and person of a frame, and which part of it to send.

    `person_miss_rate` is the measured share of persons that a small network misses: if the settings accept less, no
    pixels leave the device. It is None for the backbone, whose person check always permits it.
    """

    def __init__(self, name: str, look: Look, person_threshold: float, person_miss_rate: float | None = None) -> None:
        self.name = name
        self.person_threshold = person_threshold
        self.person_miss_rate = person_miss_rate
        self._look = look

    def predict(self, frame: Picture, region: Box | None = None) -> DevicePrediction:
        """Predict from BGR uint8 (height, width, 3). `region` is what moved; a person anywhere in the frame raises."""
        start = time.perf_counter()
        found = self._look(frame, None if region == Box.WHOLE else region)
        return DevicePrediction(
            kingdom=Scores("kingdom", KINGDOMS, found.kingdoms),
            person=found.person,
            person_raised=found.person >= self.person_threshold,
            crop_box=found.box,
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
        )

    def measure_ms(self, repeats: int = 3) -> float:
        """Measure the milliseconds of processor time that `see` takes on a 640x480 frame in which something moved.

        The result is the minimum of several runs on this thread's own clock, so that other work at start does not
        count.
        """
        frame = np.full((480, 640, 3), 90, np.uint8)
        taken_s = []
        for _ in range(repeats + 1):
            start_s = time.thread_time()
            self.predict(frame, Box(0.25, 0.25, 0.75, 0.75))
            taken_s.append(time.thread_time() - start_s)
        return min(taken_s) * 1e3


class EdgeModel:
    """Predicts the family and makes the vector of a crop. `head` reads the vector alone."""

    def __init__(
        self,
        name: str,
        space: str,
        tree: Taxonomy,
        feature_of: FeatureOf,
        projection: Projection,
        feature_head: PooledHeads,
        vector_head: PooledHeads,
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

    def predict(self, picture: Picture, box: Box = Box.WHOLE) -> EdgePrediction:
        """Predict from BGR uint8 (h, w, 3) at `box` in the frame. A whole frame has a lower person threshold."""
        start = time.perf_counter()
        feature = self._feature_of(picture)
        vector = self._projection.bytes(feature)
        species = self._feature_head.species(feature, vector)
        person = float(self._frame_head.judge(feature[None])[1][0])
        threshold = self._frame_threshold if box == Box.WHOLE else CROP_PERSON
        return self._sight(species, person, person >= threshold, vector, start)

    def predict_vector(self, vector: NDArray[np.uint8]) -> EdgePrediction:
        """Predict from a vector that the device made. Raises `Rejected` for another length."""
        start = time.perf_counter()
        species = self.head.species(components(vector, self.head.dimension), vector)
        person = float(species[self.tree.species.index("person")])
        return self._sight(species, person, person >= self._frame_threshold, vector, start)

    def _sight(
        self, species: Floats, person: float, raised: bool, vector: NDArray[np.uint8], start: float
    ) -> EdgePrediction:
        scores, family, kingdom = rolled(self.tree, species)
        return EdgePrediction(
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


class CloudModel:
    """Predicts the species of a vector, over the whole tree."""

    def __init__(
        self,
        name: str,
        space: str,
        tree: Taxonomy,
        head: PooledHeads,
        thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    ) -> None:
        self.name = name
        self.space = space
        self._thresholds = thresholds
        self.tree = tree
        self.head = head

    def predict(self, vector: NDArray[np.uint8]) -> CloudPrediction:
        """Predict from uint8 (k,) of this model's space. Raises `Rejected` for another length."""
        start = time.perf_counter()
        species, family, kingdom = rolled(self.tree, self.head.species(components(vector, self.head.dimension), vector))
        ms = (time.perf_counter() - start) * 1e3
        return CloudPrediction(species, family, kingdom, ms, self.name, self._thresholds, self.tree)
