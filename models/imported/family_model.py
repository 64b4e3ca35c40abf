"""The edge's model with families by a user's own model: the setting ``edge.model = "mine@2"``.

The user's model answers the families only. The released backbone makes the vector for the cloud, since vectors of two
backbones do not mix, and it checks for persons, since its person figures are measured. A person that the user's model
finds raises the privacy level, too; no model can lower it. If a device sends vectors and no pixels, the released head
answers. Results name the model that answered.

Example::

    model = edge_model_opener(load_zoo(), Registry(settings.data_dir / "models"), "mine@2")(None)
    model.predict(crop).model     # "mine@2"
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
from models.vision.tier_models import EdgeModel, EdgePrediction
from pipeline.errors import Stop


class ImportedFamilyModel:
    """An `EdgeModel` whose families come from an imported model."""

    def __init__(self, released: EdgeModel, own: ImportedModel) -> None:
        self.name = own.name
        self.space = released.space
        self.tree = released.tree
        self.head = released.head
        self._released = released
        self._own = own

    def predict(self, picture: NDArray[np.uint8], box: Box = Box.WHOLE) -> EdgePrediction:
        """Predict from BGR uint8 (height, width, 3) at `box` in its frame. Raises `Rejected` if the own model fails."""
        start = time.perf_counter()
        prediction = self._released.predict(picture, box)
        family, kingdom = self._own.predict(picture)
        return replace(
            prediction,
            family=family,
            kingdom=kingdom,
            # A person counts if either model finds one.
            person=max(prediction.person, kingdom["person"]),
            person_raised=prediction.person_raised or kingdom.best[0] == "person",
            ms=(time.perf_counter() - start) * 1e3,
            model=self.name,
            thresholds=DEFAULT_THRESHOLDS,
            species=None,
        )

    def predict_vector(self, vector: NDArray[np.uint8]) -> EdgePrediction:
        """Predict from a device's vector: the released head answers, under its own name."""
        return self._released.predict_vector(vector)


def edge_model_opener(
    zoo: Zoo, registry: Registry, title: str = ""
) -> Callable[[HeadRelease | None], EdgeModel | ImportedFamilyModel]:
    """Return a function that opens the model which the settings name, with or without a release of the heads.

    An empty title, or the released backbone's, means the released model. All opened models share their networks. Raises
    `Stop`; the returned function raises `Rejected` for a release of another base.
    """
    released = zoo.manifest(BACKBONE).title
    if title not in ("", released) and title in {manifest.title for manifest in zoo.manifests}:
        raise Stop(f"{title} answers no families: name {released}, or a model of your own that was imported")
    own = None if title in ("", released) else open_model(registry.entry(title), load_taxonomy())
    backbone = zoo.backbone()

    def opened(release: HeadRelease | None) -> EdgeModel | ImportedFamilyModel:
        model = zoo.edge_model(release, backbone)
        return model if own is None else ImportedFamilyModel(model, own)

    return opened
