"""The edge's model with families by a user's own model: the setting ``edge.model = "mine@2"``.

The user's model answers the families only. The released backbone makes the vector for the cloud, since vectors of two
backbones do not mix, and it checks for persons, since its person figures are measured. A person that the user's model finds
raises the privacy level, too; no model can lower it. If a device sends vectors and no pixels, the released head answers.
Results name the model that answered.

Example::

    eye = edge_eyes(load_zoo(), Registry(settings.data_dir / "models"), "mine@2")(None)
    eye.see(crop).model     # "mine@2"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.heads.release import HeadRelease
from models.imported.imported_model import ImportedModel, open_model
from models.imported.registry import Registry
from models.labels.calibration import DEFAULT_THRESHOLDS
from models.labels.taxonomy import load_taxonomy
from models.shipped import BACKBONE, Zoo
from models.vision.boxes import Box
from models.vision.tier_models import EdgeEye, EdgeSight
from pipeline.errors import Stop


class OwnEye:
    """An `EdgeEye` whose families come from an imported model."""

    def __init__(self, released: EdgeEye, own: ImportedModel) -> None:
        self.name = own.name
        self.space = released.space
        self.tree = released.tree
        self.head = released.head
        self._released = released
        self._own = own

    def see(self, picture: NDArray[np.uint8], box: Box = Box.WHOLE) -> EdgeSight:
        """Predict from BGR uint8 (height, width, 3), which lies at `box` in its frame. Raises `Rejected` if the own model fails."""
        start = time.perf_counter()
        sight = self._released.see(picture, box)
        family, kingdom = self._own.see(picture)
        return replace(
            sight,
            family=family,
            kingdom=kingdom,
            # A person counts if either model finds one.
            person=max(sight.person, kingdom["person"]),
            person_raised=sight.person_raised or kingdom.best[0] == "person",
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
            thresholds=DEFAULT_THRESHOLDS,
            species=None,
        )

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """Predict from a device's vector: the released head answers, under its own name."""
        return self._released.see_vector(vector)


def edge_eyes(
    zoo: Zoo, registry: Registry, title: str = ""
) -> Callable[[HeadRelease | None], EdgeEye | OwnEye]:
    """Return a function that opens the model which the settings name, with or without a release of the heads.

    An empty title, or the released backbone's, means the released model. All opened models share their networks. Raises
    `Stop`; the returned function raises `Rejected` for a release of another base.
    """
    released = zoo.manifest(BACKBONE).title
    if title not in ("", released) and title in {manifest.title for manifest in zoo.manifests}:
        raise Stop(f"{title} answers no families: name {released}, or a model of your own that was imported")
    own = None if title in ("", released) else open_model(registry.entry(title), load_taxonomy())
    backbone = zoo.backbone()

    def open_eye(release: HeadRelease | None) -> EdgeEye | OwnEye:
        eye = zoo.edge_eye(release, backbone)
        return eye if own is None else OwnEye(eye, own)

    return open_eye
