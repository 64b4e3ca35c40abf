"""The edge's eye with families by a model of one's own: a setting, ``edge.model = "mine@2"``.

Only families are the own model's. The vector that the cloud reads stays the released backbone's, since vectors of two
backbones do not mix; so does the look for persons, whose figures were measured on it. An own model that sees a person, too,
raises the level as well, and can never lower it. Where a device sends
vectors and no pixels there is nothing for an own model to look at, and the released head answers; results name the model
that did.

Example::

    eye = open_edge_model(load_zoo(), Registry(settings.data_dir / "models"), "mine@2")
    eye.predict(crop).model     # "mine@2"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.heads.release import HeadRelease
from models.imported.imported_model import OwnModel, open_model
from models.imported.registry import Registry
from models.labels.calibration import DEFAULT_THRESHOLDS
from models.labels.taxonomy import load_taxonomy
from models.shipped import BACKBONE, Zoo
from models.vision.boxes import Box
from models.vision.tier_models import EdgeModel, EdgePrediction
from pipeline.errors import Stop


class ImportedFamilyModel:
    """An `EdgeModel` whose families are another model's."""

    def __init__(self, released: EdgeModel, own: OwnModel) -> None:
        self.name = own.name
        self.space = released.space
        self.tree = released.tree
        self.head = released.head
        self._released = released
        self._own = own

    def predict(self, picture: NDArray[np.uint8], box: Box = Box.WHOLE) -> EdgePrediction:
        """BGR uint8 (height, width, 3); `box` is where in its frame it lies. Raises `Rejected` where the own model fails on it."""
        start = time.perf_counter()
        sight = self._released.predict(picture, box)
        family, kingdom = self._own.predict(picture)
        return replace(
            sight,
            family=family,
            kingdom=kingdom,
            # Either may find a person; neither may overlook the other's.
            person=max(sight.person, kingdom["person"]),
            person_raised=sight.person_raised or kingdom.best[0] == "person",
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
            thresholds=DEFAULT_THRESHOLDS,
            species=None,
        )

    def predict_vector(self, vector: NDArray[np.uint8]) -> EdgePrediction:
        """A vector that the device made: the released head's answer, under its own name."""
        return self._released.predict_vector(vector)


def edge_model_opener(
    zoo: Zoo, registry: Registry, title: str = ""
) -> Callable[[HeadRelease | None], EdgeModel | ImportedFamilyModel]:
    """What opens the eye that the settings name, with a release of the heads or without; all share their networks.

    Without a title, or with the released backbone's, it is the released one. Raises `Stop`; what is returned raises
    `Rejected` for a release of another base.
    """
    released = zoo.manifest(BACKBONE).title
    if title not in ("", released) and title in {manifest.title for manifest in zoo.manifests}:
        raise Stop(f"{title} names no families: name {released}, or a model of your own that was imported")
    own = None if title in ("", released) else open_model(registry.entry(title), load_taxonomy())
    backbone = zoo.backbone()

    def opened(release: HeadRelease | None) -> EdgeModel | ImportedFamilyModel:
        eye = zoo.edge_model(release, backbone)
        return eye if own is None else ImportedFamilyModel(eye, own)

    return opened


def open_edge_model(zoo: Zoo, registry: Registry, title: str = "") -> EdgeModel | ImportedFamilyModel:
    """The eye that the settings name, as it was shipped. Raises `Stop`."""
    return edge_model_opener(zoo, registry, title)(None)
