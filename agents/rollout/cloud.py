"""The cloud's eye as releases change it: opened with a release of the heads, smoke-tested, compared on vectors.

updates = cloud_updates(settings, load_zoo(), metrics, clock)
species_answer(updates.serving, envelope, ...)
updates.follow(source)
updates.start()
"""

from __future__ import annotations

from agents.role.telemetry import Metrics
from agents.rollout.driver import Updater
from agents.rollout.model_factory import kit_of
from agents.rollout.promoted_store import ServingFiles
from agents.rollout.serving import Serving
from agents.rollout.shadow import cloud_glance
from models.shipped import Zoo
from models.vision.tier_models import CloudModel
from pipeline.clock import Clock
from pipeline.settings.settings import Settings

CloudUpdates = Updater[CloudModel]


def cloud_updates(settings: Settings, zoo: Zoo, metrics: Metrics, time: Clock) -> CloudUpdates:
    """What serves in this cloud agent, and who looks for the next. Raises `Stop` where the shipped model cannot be opened."""
    base = zoo.base()
    return Updater(
        kit_of(base, zoo.cloud_model),
        ServingFiles(settings.data_dir / "cloud", base.manifest.title),
        lambda eye: Serving(eye, cloud_glance),
        metrics,
        time,
    )
