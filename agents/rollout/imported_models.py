"""Models of one's own where roles and commands meet them: which registry, which eye at the edge, who imported what."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable

from models.heads.release import HeadRelease
from models.imported import family_model
from models.imported.family_model import ImportedFamilyModel
from models.imported.registry import MODELS, Registry
from models.shipped import Zoo
from models.vision.tier_models import EdgeModel
from pipeline import clock
from pipeline.errors import Stop
from pipeline.settings.settings import Settings


def registry_of(settings: Settings) -> Registry:
    """The registry of this site."""
    return Registry(settings.data_dir / MODELS)


OpenEdgeModel = Callable[[HeadRelease | None], EdgeModel | ImportedFamilyModel]
"""Opens the edge's eye with a release of the heads, or as it was shipped."""


def edge_model_opener(zoo: Zoo, settings: Settings, title: str = "") -> OpenEdgeModel:
    """What opens the eye that answers at the edge: `title`'s, otherwise the settings', otherwise the released one.

    Raises `Stop`.
    """
    try:
        return family_model.edge_model_opener(zoo, registry_of(settings), title or settings.edge.model)
    except Stop as error:
        if title or not settings.edge.model:
            raise
        raise Stop(f"edge.model: {error}") from error


def open_edge_model(zoo: Zoo, settings: Settings, title: str = "") -> EdgeModel | ImportedFamilyModel:
    """The same eye, as it was shipped. Raises `Stop`."""
    return edge_model_opener(zoo, settings, title)(None)


def signature() -> dict[str, str]:
    """Who and when, for a card."""
    try:
        who = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        who = "a user without a name"
    return {"who": who, "when": clock.rfc3339(time.time())}
