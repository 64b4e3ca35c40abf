"""Models of one's own where the commands meet them: which registry, which eye at the edge, who imported what."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass

from models.entries import MODELS, Registry
from models.evaluate import Eyes
from models.eyes import FeatureOf
from models.own_eye import OwnEye, open_edge_eye
from models.registry import load_zoo
from models.runtime import Backbone
from pipeline import clock
from pipeline.settings import Settings


def registry_of(settings: Settings) -> Registry:
    """The registry of this site."""
    return Registry(settings.data_dir / MODELS)


def family_eye(settings: Settings, title: str = "") -> OwnEye | None:
    """The eye that answers at the edge in the released one's place: `title`'s, or that of the settings. Raises `Stop`."""
    eye = open_edge_eye(load_zoo(), registry_of(settings), title or settings.edge.model)
    return eye if isinstance(eye, OwnEye) else None


@dataclass(frozen=True, slots=True)
class OpenEyes:
    """Opens the eyes that an evaluation asks; a plain value, so that it can be handed to other processes."""

    settings: Settings
    title: str = ""

    def __call__(self) -> Eyes:
        """Raises `Stop`."""
        zoo = load_zoo()
        edge = open_edge_eye(zoo, registry_of(self.settings), self.title or self.settings.edge.model)
        return Eyes(zoo.device_eye(), edge, zoo.cloud_eye())


def released_feature() -> FeatureOf:
    """The released backbone, to measure others beside it."""
    manifest = load_zoo().manifest("lite0")
    assert manifest.size_px is not None, "a vision model names its served size"
    return Backbone(manifest.read("backbone.onnx"), manifest.size_px).feature


def signature() -> dict[str, str]:
    """Who and when, for a card."""
    try:
        who = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        who = "a user without a name"
    return {"who": who, "when": clock.rfc3339(time.time())}
