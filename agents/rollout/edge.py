"""The edge's eyes as releases change them: opened with a release of the heads, smoke-tested, compared on crops and vectors.

updates = edge_updates(settings, load_zoo(), metrics, clock, changed=...)
Families(policy, updates.serving, ...)
updates.follow(download.source)
updates.start()
"""

from __future__ import annotations

from collections.abc import Callable

from agents.role.telemetry import Metrics
from agents.rollout.driver import Updater
from agents.rollout.imported_models import edge_model_opener
from agents.rollout.model_factory import kit_of
from agents.rollout.promoted_store import ServingFiles
from agents.rollout.serving import Serving
from agents.rollout.shadow import edge_glance
from models.imported.family_model import ImportedFamilyModel
from models.shipped import Zoo
from models.vision.tier_models import EdgeModel
from pipeline.clock import Clock
from pipeline.settings.settings import Settings

EdgeUpdates = Updater[EdgeModel | ImportedFamilyModel]


def edge_updates(
    settings: Settings,
    zoo: Zoo,
    metrics: Metrics,
    time: Clock,
    changed: Callable[[], object] = lambda: None,
) -> EdgeUpdates:
    """What serves at this edge, and who looks for the next. Raises `Stop` where the shipped model cannot be opened."""
    base = zoo.base()
    return Updater(
        kit_of(base, edge_model_opener(zoo, settings)),
        ServingFiles(settings.data_dir / "edge", base.manifest.title),
        lambda eye: Serving(eye, edge_glance),
        metrics,
        time,
        changed,
    )
