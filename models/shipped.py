"""The zoo of shipped models. Each role opens its model here; the files are verified when they are read.

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
from models.heads.linear import Arrays, FrameHead, ImageNetEvidence, Projection, TreeHead
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


class Zoo:
    """The released models. Every method reads the files again, so that a role keeps the model that it opened."""

    def __init__(self, manifests: tuple[Manifest, ...], tree: Taxonomy | None = None) -> None:
        self.manifests = manifests
        self.tree = tree or load_taxonomy()

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a model by name. Raises `Stop`."""
        for manifest in self.manifests:
            if manifest.name == name:
                return manifest
        known = ", ".join(manifest.title for manifest in self.manifests) or "none"
        raise Stop(f"the zoo has no model {name} (it has: {known}); install tierwise again")

    def device_model(self, model: str = BACKBONE) -> DeviceModel:
        """Open the device's model for kingdom and person: the backbone, or the small network `GLIMPSE`."""
        if model == GLIMPSE:
            return self._glimpse_model()
        from models.vision import hog_people  # brings OpenCV, which the cloud does not have

        manifest = self._vision(model)
        head = frame_head(manifest)
        parts = PartsHead.of(_arrays(manifest, "parts.npz"))
        look = searching(_backbone(manifest), head, parts, hog_people.outline)
        return DeviceModel(manifest.title, look, parts.person_threshold)

    def backbone(self) -> Backbone:
        """Open the frozen network whose features all heads read."""
        return _backbone(self._vision())

    def edge_model(self, release: HeadRelease | None = None, backbone: Backbone | None = None) -> EdgeModel:
        """Open the edge's model for family and vector, with the heads of a release if one is given.

        Models may share a `backbone`, which takes most of their memory. Raises `Rejected` (reason `release-mismatch`)
        for a release of another base.
        """
        manifest, base = self._vision(), self.base()
        frame, grown = frame_head(manifest), base.grown(release)
        return EdgeModel(
            name=grown.title,
            space=str(manifest.space),
            tree=grown.tree,
            feature_of=(backbone or _backbone(manifest)).feature,
            projection=projection(manifest),
            feature_head=grown.pooled_heads(feature_head(manifest, self.tree, frame.evidence), grown.calibration.edge),
            vector_head=grown.pooled_heads(base.tuned, grown.calibration.cloud),
            frame_head=frame,
            thresholds=grown.thresholds,
        )

    def cloud_model(self, release: HeadRelease | None = None) -> CloudModel:
        """Open the cloud's model: species from the vector alone. Takes a release and raises as `edge_model` does."""
        base = self.base()
        grown = base.grown(release)
        head = grown.pooled_heads(base.tuned, grown.calibration.cloud)
        return CloudModel(grown.title, str(base.manifest.space), grown.tree, head, grown.thresholds)

    def base(self) -> HeadBase:
        """Read the model that releases of heads add to. Needs neither OpenCV nor ONNX Runtime."""
        manifest = self._vision()
        vector = _arrays(manifest, "vector.npz")
        tree_arrays = _arrays(manifest, "tree.npz")
        calibration = Calibration(edge=Temperatures.of(tree_arrays), cloud=Temperatures.of(vector))
        tuned = TreeHead.of(vector, ImageNetEvidence.of(vector), self.tree)
        return HeadBase(manifest, self.tree, shipped_sums(manifest), tuned, calibration, thresholds(manifest))

    def golden(self) -> GoldenSet:
        """Read the vectors by which a release is judged. Raises `Rejected` (reason `golden-mismatch`), `Stop`."""
        return GoldenSet.of(self._vision().read(GOLDEN))

    def thresholds(self) -> Mapping[str, float]:
        """Return the probability from which each rank's answer is published."""
        return thresholds(self._vision())

    def sums(self) -> Sums:
        """Read the sums that the shipped heads were solved from, over 256-byte vectors and the tree's species."""
        return shipped_sums(self._vision())

    def occupancy(self) -> OccupancyModel:
        """Open the model that answers vacant or occupied from a window over a room's readings."""
        from models.series.occupancy import OccupancyModel

        manifest = self.manifest("occupancy")
        return OccupancyModel(manifest.title, manifest.read("model.onnx"))

    def _glimpse_model(self) -> DeviceModel:
        from models.vision.glimpse import Glimpse

        manifest = self.manifest(GLIMPSE)
        if manifest.labels != digest_of_labels(KINGDOMS):
            raise Stop(f"{manifest.title} answers other kingdoms than this program; install tierwise again")
        if manifest.person_threshold is None or manifest.person_miss_rate is None:
            raise Stop(f"{manifest.title} states no person threshold or miss rate; install tierwise again")
        judge, threshold = Glimpse(manifest.read("model.onnx")).judge, manifest.person_threshold
        return DeviceModel(manifest.title, judging(judge), threshold, manifest.person_miss_rate)

    def _vision(self, model: str = BACKBONE) -> Manifest:
        manifest = self.manifest(model)
        if manifest.labels != digest_of_labels(self.tree.species):
            raise Stop(f"{manifest.title} was made for another label tree than {manifest.folder.parent / TABLE.name}")
        return manifest


def load_zoo(root: Path | None = None) -> Zoo:
    """Read the manifests of the shipped models.

    Models under `root` replace shipped models of the same name, and a label tree there replaces the shipped one. Raises
    `Stop`, also for a `root` without a model.
    """
    manifests = _manifests(ZOO)
    if root is None:
        return Zoo(tuple(manifests.values()), load_taxonomy())
    found = _manifests(root)
    if not found:
        raise Stop(f"zoo: {root} holds no model: it needs a folder for each, with a manifest.json in it")
    table = root / TABLE.name
    tree = read_taxonomy(table) if table.is_file() else load_taxonomy()
    return Zoo(tuple((manifests | found).values()), tree)


def _manifests(root: Path) -> dict[str, Manifest]:
    """Read the models of a folder, by name."""
    read = (read_manifest(path.parent) for path in sorted(root.glob("*/manifest.json")))
    return {manifest.name: manifest for manifest in read}


def _arrays(manifest: Manifest, file: str) -> Arrays:
    with np.load(BytesIO(manifest.read(file)), allow_pickle=False) as arrays:
        return dict(arrays)


def frame_head(manifest: Manifest) -> FrameHead:
    """Read the head for kingdom and person from the backbone's feature."""
    return FrameHead.of(_arrays(manifest, "frame.npz"))


def shipped_sums(manifest: Manifest) -> Sums:
    """Read the sums of a model. Raises `Stop` if they have another space or other labels than the model."""
    sums = Sums.restore(gzip.decompress(manifest.read("sums.gz")))
    if sums.space != manifest.space or digest_of_labels(sums.labels) != manifest.labels:
        raise Stop(
            f"{manifest.title}: sums.gz has the space {sums.space}, the model {manifest.space}; install tierwise again"
        )
    return sums


def thresholds(manifest: Manifest) -> Mapping[str, float]:
    """Return the measured thresholds of a model by rank, with defaults for the other ranks."""
    measured = {rank: threshold.at for rank, threshold in (manifest.thresholds or {}).items()}
    return MappingProxyType({**DEFAULT_THRESHOLDS, **measured})


def projection(manifest: Manifest) -> Projection:
    """Read the projection from features to vectors."""
    return Projection.of(_arrays(manifest, "projection.npz"))


def feature_head(manifest: Manifest, tree: Taxonomy, evidence: ImageNetEvidence) -> TreeHead:
    """Read the edge's tuned head for species from the feature."""
    return TreeHead.of(_arrays(manifest, "tree.npz"), evidence, tree)


def _backbone(manifest: Manifest) -> Backbone:
    # Imported here, since the cloud has neither OpenCV nor ONNX Runtime.
    from models.onnx_session import Backbone

    assert manifest.size_px is not None, "a vision model names its served size"
    return Backbone(manifest.read("backbone.onnx"), manifest.size_px)
