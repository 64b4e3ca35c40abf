"""The edge's eye with families by a model of one's own: a setting, ``edge.model = "mine@2"``.

Only families are the own model's. The vector that the cloud reads stays the released backbone's, since vectors of two
backbones do not mix; so does the look for persons, whose figures were measured on it. An own model that sees a person, too,
raises the level as well, and can never lower it. Where a device sends
vectors and no pixels there is nothing for an own model to look at, and the released head answers; results name the model
that did.

Example::

    eye = open_edge_eye(load_zoo(), Registry(settings.data_dir / "models"), "mine@2")
    eye.see(crop).model     # "mine@2"
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
from models.vision.tier_models import EdgeEye, EdgeSight
from pipeline.errors import Stop


class OwnEye:
    """An `EdgeEye` whose families are another model's."""

    def __init__(self, released: EdgeEye, own: OwnModel) -> None:
        self.name = own.name
        self.space = released.space
        self.tree = released.tree
        self.head = released.head
        self._released = released
        self._own = own

    def see(self, picture: NDArray[np.uint8], box: Box = Box.WHOLE) -> EdgeSight:
        """BGR uint8 (height, width, 3); `box` is where in its frame it lies. Raises `Rejected` where the own model fails on it."""
        start = time.perf_counter()
        sight = self._released.see(picture, box)
        family, kingdom = self._own.see(picture)
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

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """A vector that the device made: the released head's answer, under its own name."""
        return self._released.see_vector(vector)


def edge_eyes(
    zoo: Zoo, registry: Registry, title: str = ""
) -> Callable[[HeadRelease | None], EdgeEye | OwnEye]:
    """What opens the eye that the settings name, with a release of the heads or without; all share their networks.

    Without a title, or with the released backbone's, it is the released one. Raises `Stop`; what is returned raises
    `Rejected` for a release of another base.
    """
    released = zoo.manifest(BACKBONE).title
    if title not in ("", released) and title in {manifest.title for manifest in zoo.manifests}:
        raise Stop(f"{title} names no families: name {released}, or a model of your own that was imported")
    own = None if title in ("", released) else open_model(registry.entry(title), load_taxonomy())
    backbone = zoo.backbone()

    def open_eye(release: HeadRelease | None) -> EdgeEye | OwnEye:
        eye = zoo.edge_eye(release, backbone)
        return eye if own is None else OwnEye(eye, own)

    return open_eye


def open_edge_eye(zoo: Zoo, registry: Registry, title: str = "") -> EdgeEye | OwnEye:
    """The eye that the settings name, as it was shipped. Raises `Stop`."""
    return edge_eyes(zoo, registry, title)(None)
