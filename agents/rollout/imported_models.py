"""A site's imported models, for roles and commands: the registry, the edge's model, and a signature for model cards."""

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
    """Return the registry of this site's imported models."""
    return Registry(settings.data_dir / MODELS)


OpenEdgeModel = Callable[[HeadRelease | None], EdgeModel | ImportedFamilyModel]
"""Opens the edge's model with a release of the heads, or as shipped with None."""


def edge_model_opener(zoo: Zoo, settings: Settings, title: str = "") -> OpenEdgeModel:
    """Return the opener of the edge's model: the one of `title`, or else of the settings, or else the released one.

    Raises `Stop` if the registry cannot provide the model.
    """
    try:
        return family_model.edge_model_opener(zoo, registry_of(settings), title or settings.edge.model)
    except Stop as error:
        if title or not settings.edge.model:
            raise
        raise Stop(f"edge.model: {error}") from error


def open_edge_model(zoo: Zoo, settings: Settings, title: str = "") -> EdgeModel | ImportedFamilyModel:
    """Open the edge's model without a release. Raises `Stop`."""
    return edge_model_opener(zoo, settings, title)(None)


def signature() -> dict[str, str]:
    """Return the user's name and the time, for a model card."""
    try:
        who = getpass.getuser()
    except (OSError, KeyError):  # in a container, a user may have no name
        who = "a user without a name"
    return {"who": who, "when": clock.rfc3339(time.time())}
