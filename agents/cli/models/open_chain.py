"""How commands open the one chain of all tiers."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agents.rollout.imported_models import open_edge_model
from models.answering.tier_chain import SETTINGS, TierChain
from models.shipped import BACKBONE, load_zoo
from pipeline.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class OpenChain:
    """Opens the chain of tiers; a plain value, so that it can be handed to other processes."""

    settings: Settings
    edge_model: str = ""
    device_model: str = BACKBONE
    ask_all: bool = False

    def __call__(self) -> TierChain:
        """Raise `Stop` where a model is damaged or unknown."""
        return TierChain.open(
            chain_settings(self.settings),
            device_model=self.device_model,
            families=open_edge_model(load_zoo(), self.settings, self.edge_model),
            ask_all=self.ask_all,
        )


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
