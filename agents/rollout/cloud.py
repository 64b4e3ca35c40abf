"""The cloud's model under changing releases: opened with a release of the heads, smoke-tested, compared on vectors.

updates = cloud_updates(settings, load_zoo(), metrics, clock)
species_answer(updates.serving, envelope, ...)
updates.follow(source)
updates.start()
"""

from __future__ import annotations

from agents.role.telemetry import Metrics
from agents.rollout.driver import Updater
from agents.rollout.model_factory import factory_of
from agents.rollout.promoted_store import PromotedStore
from agents.rollout.serving import Serving
from agents.rollout.shadow import cloud_summary
from models.shipped import Zoo
from models.vision.tier_models import CloudModel
from pipeline.clock import Clock
from pipeline.settings.settings import Settings

CloudUpdates = Updater[CloudModel]


def cloud_updates(settings: Settings, zoo: Zoo, metrics: Metrics, time: Clock) -> CloudUpdates:
    """Return this cloud agent's updater. Raises `Stop` if the shipped model cannot be opened."""
    base = zoo.base()
    return Updater(
        factory_of(base, zoo.cloud_model),
        PromotedStore(settings.data_dir / "cloud", base.manifest.title),
        lambda model: Serving(model, cloud_summary),
        metrics,
        time,
    )
