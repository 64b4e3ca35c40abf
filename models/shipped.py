"""The zoo: which models there are, and each role's eye, read and verified when it is first asked for.

Example::

    zoo = load_zoo()
    [manifest.title for manifest in zoo.manifests]  # ["glimpse@1", "lite0@2", "occupancy@1"]
    zoo.cloud_model()                                 # reads 4 MB; imports neither OpenCV nor ONNX Runtime
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from models.heads.base import HeadBase
from models.heads.golden_set import GOLDEN, GoldenSet
from models.heads.linear import Arrays, Evidence, FrameHead, Projection, TreeHead
from models.heads.pooled import Temperatures
from models.heads.release import Calibration, HeadRelease
from models.labels.calibration import DEFAULT_THRESHOLDS
from models.labels.taxonomy import KINGDOMS, TABLE, Taxonomy, load_taxonomy, read_taxonomy
from models.manifest import Manifest, digest_of_labels, read_manifest
from models.vision.frame_scan import judging, searching
from models.vision.region_search import PartsHead
from models.vision.tier_models import CloudModel, DeviceModel, EdgeModel
from pipeline.errors import Stop
from pipeline.sums.sums import Sums

if TYPE_CHECKING:
    from models.onnx_session import Backbone
    from models.series.occupancy import OccupancyModel

ZOO = Path(__file__).parent / "zoo"

BACKBONE, GLIMPSE = "lite0", "glimpse"
DEVICE_MODELS = (BACKBONE, GLIMPSE)
"""What a device can see with: the same backbone as the edge, or the small network of weak devices."""


class Zoo:
    """The released models. Every method reads its files anew: a role keeps the eye that it got."""

    def __init__(self, manifests: tuple[Manifest, ...], tree: Taxonomy | None = None) -> None:
        self.manifests = manifests
        self.tree = tree or load_taxonomy()

    def manifest(self, name: str) -> Manifest:
        """The manifest of a model by its name. Raises `Stop`."""
        for manifest in self.manifests:
            if manifest.name == name:
                return manifest
        known = ", ".join(manifest.title for manifest in self.manifests) or "none"
        raise Stop(f"the zoo has no model {name} (it has: {known}); install tierwise again")

    def device_model(self, model: str = BACKBONE) -> DeviceModel:
        """Kingdom and person, by the backbone or by `GLIMPSE`."""
        if model == GLIMPSE:
            return self._glimpse_model()
        from models.vision import hog_people  # OpenCV: the cloud must stay free of it

        manifest = self._vision(model)
        head = frame_head(manifest)
        parts = PartsHead.of(_arrays(manifest, "parts.npz"))
        look = searching(_backbone(manifest), head, parts, hog_people.outline)
        return DeviceModel(manifest.title, look, parts.person_threshold)

    def backbone(self) -> Backbone:
        """The frozen network that all heads read."""
        return _backbone(self._vision())

    def edge_model(self, release: HeadRelease | None = None, backbone: Backbone | None = None) -> EdgeModel:
        """Family and vector, by the backbone; with what a release learned, if one is given.

        Eyes that are there at the same time may share a `backbone`: it is most of what they weigh.
        Raises `Rejected` (reason `release-mismatch`) for a release of another model than this zoo's.
        """
        manifest, base = self._vision(), self.base()
        frame, grown = frame_head(manifest), base.grown(release)
        return EdgeModel(
            name=grown.title,
            space=str(manifest.space),
            tree=grown.tree,
            feature_of=(backbone or _backbone(manifest)).feature,
            projection=projection(manifest),
            feature_head=grown.witnesses(
                feature_head(manifest, self.tree, frame.evidence), grown.calibration.edge
            ),
            vector_head=grown.witnesses(base.tuned, grown.calibration.cloud),
            frame_head=frame,
            thresholds=grown.thresholds,
        )

    def cloud_model(self, release: HeadRelease | None = None) -> CloudModel:
        """Species, from the vector alone; with what a release learned, if one is given. Raises as `edge_model` does."""
        base = self.base()
        grown = base.grown(release)
        head = grown.witnesses(base.tuned, grown.calibration.cloud)
        return CloudModel(grown.title, str(base.manifest.space), grown.tree, head, grown.thresholds)

    def base(self) -> HeadBase:
        """What releases of heads add to; imports neither OpenCV nor ONNX Runtime."""
        manifest = self._vision()
        vector = _arrays(manifest, "vector.npz")
        tree_arrays = _arrays(manifest, "tree.npz")
        calibration = Calibration(edge=Temperatures.of(tree_arrays), cloud=Temperatures.of(vector))
        tuned = TreeHead.of(vector, Evidence.of(vector), self.tree)
        return HeadBase(manifest, self.tree, shipped_sums(manifest), tuned, calibration, thresholds(manifest))

    def golden(self) -> GoldenSet:
        """Photos as vectors, by which a release is judged. Raises `Rejected` (reason `golden-mismatch`), `Stop`."""
        return GoldenSet.of(self._vision().read(GOLDEN))

    def thresholds(self) -> Mapping[str, float]:
        """From which probability each rank's answer stands."""
        return thresholds(self._vision())

    def sums(self) -> Sums:
        """What the shipped heads were solved from, over 256-byte vectors and the tree's species.

        Sums of what was learned since are merged with these; `heads.discriminants` solves the head of both.
        """
        return shipped_sums(self._vision())

    def occupancy(self) -> OccupancyModel:
        """Vacant or occupied, from a window over a room's readings."""
        from models.series.occupancy import OccupancyModel

        manifest = self.manifest("occupancy")
        return OccupancyModel(manifest.title, manifest.read("model.onnx"))

    def _glimpse_model(self) -> DeviceModel:
        from models.vision.glimpse import Glimpse

        manifest = self.manifest(GLIMPSE)
        if manifest.labels != digest_of_labels(KINGDOMS):
            raise Stop(f"{manifest.title} answers other kingdoms than this program; install tierwise again")
        if manifest.person_threshold is None or manifest.person_miss_rate is None:
            raise Stop(f"{manifest.title} does not say how it sees persons; install tierwise again")
        judge, threshold = Glimpse(manifest.read("model.onnx")).judge, manifest.person_threshold
        return DeviceModel(manifest.title, judging(judge), threshold, manifest.person_miss_rate)

    def _vision(self, model: str = BACKBONE) -> Manifest:
        manifest = self.manifest(model)
        if manifest.labels != digest_of_labels(self.tree.species):
            raise Stop(
                f"{manifest.title} was made for another label tree than {manifest.folder.parent / TABLE.name}"
            )
        return manifest


def load_zoo(root: Path | None = None) -> Zoo:
    """Reads the manifests of the package's own models; those under `root` stand in for theirs of the same name, and its label
    tree, if it has one, for the package's.

    Raises `Stop`, also for a `root` without a model.
    """
    manifests = _manifests(ZOO)
    if root is None:
        return Zoo(tuple(manifests.values()), load_taxonomy())
    found = _manifests(root)
    if not found:
        raise Stop(
            f"zoo: {root} holds no model: a folder a model, with a manifest.json, is what stands there"
        )
    table = root / TABLE.name
    tree = read_taxonomy(table) if table.is_file() else load_taxonomy()
    return Zoo(tuple((manifests | found).values()), tree)


def _manifests(root: Path) -> dict[str, Manifest]:
    """By name, the models whose folders stand in `root`."""
    read = (read_manifest(path.parent) for path in sorted(root.glob("*/manifest.json")))
    return {manifest.name: manifest for manifest in read}


def _arrays(manifest: Manifest, file: str) -> Arrays:
    with np.load(BytesIO(manifest.read(file)), allow_pickle=False) as arrays:
        return dict(arrays)


def frame_head(manifest: Manifest) -> FrameHead:
    """Kingdom and person from the backbone's feature, as the device answers them."""
    return FrameHead.of(_arrays(manifest, "frame.npz"))


def shipped_sums(manifest: Manifest) -> Sums:
    """The sums that a model ships. Raises `Stop` where they are of another space or other labels than the model."""
    sums = Sums.restore(gzip.decompress(manifest.read("sums.gz")))
    if sums.space != manifest.space or digest_of_labels(sums.labels) != manifest.labels:
        raise Stop(
            f"{manifest.title}: sums.gz is of {sums.space}, the model of {manifest.space}; install tierwise again"
        )
    return sums


def thresholds(manifest: Manifest) -> Mapping[str, float]:
    """From which probability each rank's answer stands, as measured for this model."""
    measured = {rank: its.at for rank, its in (manifest.thresholds or {}).items()}
    return MappingProxyType({**DEFAULT_THRESHOLDS, **measured})


def projection(manifest: Manifest) -> Projection:
    """What makes the vector of a feature."""
    return Projection.of(_arrays(manifest, "projection.npz"))


def feature_head(manifest: Manifest, tree: Taxonomy, evidence: Evidence) -> TreeHead:
    """Species as the edge's tuned head reads them from the feature."""
    return TreeHead.of(_arrays(manifest, "tree.npz"), evidence, tree)


def _backbone(manifest: Manifest) -> Backbone:
    # Here, not above: the cloud must stay free of OpenCV and ONNX Runtime.
    from models.onnx_session import Backbone

    assert manifest.size_px is not None, "a vision model names its served size"
    return Backbone(manifest.read("backbone.onnx"), manifest.size_px)
