"""How commands open the one chain of all tiers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.rollout.imported_models import open_edge_model
from models.answering.edge import FamilyModel
from models.answering.model_source import FixedModel
from models.answering.tier_chain import SETTINGS, TierChain
from models.shipped import BACKBONE, load_zoo
from models.site_learning.learned_file import read_learning
from models.site_learning.lesson_log import General, Learning
from models.site_learning.site_answers import SiteModels
from models.site_learning.site_head import BackgroundSums
from models.vision.tier_models import EdgeModel
from pipeline.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class OpenChain:
    """Opens the chain of tiers; a plain value, so that it can be handed to other processes."""

    settings: Settings
    edge_model: str = ""
    device_model: str = BACKBONE
    ask_all: bool = False
    """Measure the models as released: every tier is asked, and no site's labels count."""

    def __call__(self) -> TierChain:
        """Raise `Stop` where a model is damaged or unknown."""
        families = open_edge_model(load_zoo(), self.settings, self.edge_model)
        site = None
        if isinstance(families, EdgeModel) and not self.ask_all and learned_file(self.settings).exists():
            site = SiteModels[FamilyModel](FixedModel(families))
            site.serve(read_site_learning(self.settings).served)
        return TierChain.open(
            chain_settings(self.settings),
            device_model=self.device_model,
            families=families,
            site=site,
            ask_all=self.ask_all,
        )


def learned_file(settings: Settings) -> Path:
    """Return the file of what this site learned from labels by path."""
    return settings.data_dir / "classify" / f"{settings.site}.lessons"


def read_site_learning(settings: Settings) -> Learning:
    """Return what this site learned from labels by path, over the released model. Raises `Stop`."""
    zoo = load_zoo()
    general = General.of(zoo.edge_model())
    return read_learning(learned_file(settings), general, settings.site, BackgroundSums.of(zoo.sums()))


def chain_settings(settings: Settings) -> Settings:
    """Return the settings of a chain: the starter's camera, with this site's zone and times."""
    own = settings.device
    device = msgspec.structs.replace(
        SETTINGS.device,
        person_miss_rate=own.person_miss_rate,
        still_s=own.still_s,
        sighting_gap_s=own.sighting_gap_s,
        person_hold_s=own.person_hold_s,
    )
    return msgspec.structs.replace(SETTINGS, device=device, timezone=settings.timezone)
