"""The edge's model under changing releases: opened with a release of the heads, smoke-tested, compared on live events.

updates = edge_updates(settings, load_zoo(), metrics, clock, on_change=...)
Families(policy, updates.serving, ...)
updates.follow(download.source)
updates.start()
"""

from __future__ import annotations

from collections.abc import Callable

from agents.role.telemetry import Metrics
from agents.rollout.driver import Updater
from agents.rollout.imported_models import edge_model_opener
from agents.rollout.model_factory import factory_of
from agents.rollout.promoted_store import PromotedStore
from agents.rollout.serving import Serving
from agents.rollout.shadow import edge_summary
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
    on_change: Callable[[], object] = lambda: None,
) -> EdgeUpdates:
    """Return this edge's updater. Raises `Stop` if the shipped model cannot be opened."""
    base = zoo.base()
    return Updater(
        factory_of(base, edge_model_opener(zoo, settings)),
        PromotedStore(settings.data_dir / "edge", base.manifest.title),
        lambda model: Serving(model, edge_summary),
        metrics,
        time,
        on_change,
    )
