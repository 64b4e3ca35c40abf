"""The zoo: which models there are, and each role's eye, read and verified when it is first asked for.

Example::

    zoo = load_zoo()
    [manifest.title for manifest in zoo.manifests]  # ["glimpse@1", "lite0@1", "occupancy@1"]
    zoo.cloud_eye()                                 # reads 0.5 MB; imports neither OpenCV nor ONNX Runtime
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.eye_heads import Arrays, Evidence, FrameHead, Projection, TreeHead
from models.eyes import CloudEye, DeviceEye, EdgeEye
from models.looks import judging, searching
from models.manifest import Manifest, digest_of_labels, read_manifest
from models.search import PartsHead
from models.taxonomy import KINGDOMS, Taxonomy, load_taxonomy
from pipeline.errors import Stop

if TYPE_CHECKING:
    from models.occupancy import OccupancyModel
    from models.runtime import Backbone

ZOO = Path(__file__).parent / "zoo"

BACKBONE, GLIMPSE = "lite0", "glimpse"
DEVICE_MODELS = (BACKBONE, GLIMPSE)
"""What a device can see with: the same backbone as the edge, or the small network of weak devices."""


class Zoo:
    """The released models. Every method reads its files anew: a role keeps the eye that it got."""

    def __init__(self, manifests: tuple[Manifest, ...]) -> None:
        self.manifests = manifests

    def manifest(self, name: str) -> Manifest:
        """The manifest of a model by its name. Raises `Stop`."""
        for manifest in self.manifests:
            if manifest.name == name:
                return manifest
        known = ", ".join(manifest.title for manifest in self.manifests) or "none"
        raise Stop(f"the zoo has no model {name} (it has: {known}); install tierwise again")

    def device_eye(self, model: str = BACKBONE) -> DeviceEye:
        """Kingdom and person, by the backbone or by `GLIMPSE`."""
        if model == GLIMPSE:
            return self._glimpse_eye()
        from models import people  # OpenCV: the cloud must stay free of it

        manifest = self._vision(model)
        head = frame_head(manifest)
        parts = PartsHead.of(_arrays(manifest, "parts.npz"))
        look = searching(_backbone(manifest), head, parts, people.outline)
        return DeviceEye(manifest.title, look, parts.person_threshold)

    def backbone(self) -> Backbone:
        """The frozen network that all heads read."""
        return _backbone(self._vision())

    def edge_eye(self) -> EdgeEye:
        """Family and vector, by the backbone."""
        manifest, tree = self._vision(), load_taxonomy()
        frame = frame_head(manifest)
        return EdgeEye(
            name=manifest.title,
            space=str(manifest.space),
            tree=tree,
            feature_of=_backbone(manifest).feature,
            projection=Projection.of(_arrays(manifest, "projection.npz")),
            feature_head=TreeHead.of(_arrays(manifest, "tree.npz"), frame.evidence, tree),
            vector_head=_vector_head(manifest, tree),
            frame_head=frame,
        )

    def cloud_eye(self) -> CloudEye:
        """Species, from the vector alone."""
        manifest, tree = self._vision(), load_taxonomy()
        return CloudEye(manifest.title, str(manifest.space), tree, _vector_head(manifest, tree))

    def occupancy(self) -> OccupancyModel:
        """Vacant or occupied, from a window over a room's readings."""
        from models.occupancy import OccupancyModel

        manifest = self.manifest("occupancy")
        return OccupancyModel(manifest.title, manifest.read("model.onnx"))

    def _glimpse_eye(self) -> DeviceEye:
        from models.glimpse import Glimpse

        manifest = self.manifest(GLIMPSE)
        if manifest.labels != digest_of_labels(KINGDOMS):
            raise Stop(f"{manifest.title} answers other kingdoms than this program; install tierwise again")
        if manifest.person_threshold is None or manifest.person_miss_rate is None:
            raise Stop(f"{manifest.title} does not say how it sees persons; install tierwise again")
        judge, threshold = Glimpse(manifest.read("model.onnx")).judge, manifest.person_threshold
        return DeviceEye(manifest.title, judging(judge), threshold, manifest.person_miss_rate)

    def _vision(self, model: str = BACKBONE) -> Manifest:
        manifest = self.manifest(model)
        if manifest.labels != digest_of_labels(load_taxonomy().species):
            raise Stop(f"{manifest.title} was made for another label tree than models/zoo/taxonomy.tsv")
        return manifest


def load_zoo(root: Path | None = None) -> Zoo:
    """Reads the manifests of all models under `root` (the package's own zoo without it). Raises `Stop`."""
    folders = sorted(path.parent for path in (root or ZOO).glob("*/manifest.json"))
    return Zoo(tuple(read_manifest(folder) for folder in folders))


def _arrays(manifest: Manifest, file: str) -> Arrays:
    with np.load(BytesIO(manifest.read(file)), allow_pickle=False) as arrays:
        return dict(arrays)


def frame_head(manifest: Manifest) -> FrameHead:
    """Kingdom and person from the backbone's feature, as the device answers them."""
    return FrameHead.of(_arrays(manifest, "frame.npz"))


def _vector_head(manifest: Manifest, tree: Taxonomy) -> TreeHead:
    arrays = _arrays(manifest, "vector.npz")
    return TreeHead.of(arrays, Evidence.of(arrays), tree)


def _backbone(manifest: Manifest) -> Backbone:
    # Here, not above: the cloud must stay free of OpenCV and ONNX Runtime.
    from models.runtime import Backbone

    assert manifest.size_px is not None, "a vision model names its served size"
    return Backbone(manifest.read("backbone.onnx"), manifest.size_px)
