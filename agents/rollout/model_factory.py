"""Open a tier's model from the shipped model and a release, smoke-test it, and find the labels that a release learned.

Example::

    factory = factory_of(zoo.base(), zoo.cloud_model)
    model = factory.open(release)           # raises Rejected if the release does not fit
    factory.smoke(release, model)           # (): all golden inputs get the expected answers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Generic

from models.answering.model_source import E, TierModel
from models.heads.base import HeadBase
from models.heads.release import HeadRelease
from models.labels.taxonomy import Taxonomy
from pipeline.sums.sums import Sums


def golden_complaints(release: HeadRelease, model: TierModel) -> Sequence[str]:
    """Return a complaint about each golden input of a release that the model answers otherwise than expected."""
    return release.smoke.complaints(model.head, model.tree)


@dataclass(frozen=True, slots=True)
class ModelFactory(Generic[E]):
    """Opens and smoke-tests the models of a tier."""

    base: str
    """The shipped model's title."""
    base_version: int
    open: Callable[[HeadRelease | None], E]
    """Raises `Rejected` if a release does not fit."""
    labels: Set[str]
    """The labels that the shipped model learned from events."""
    smoke: Callable[[HeadRelease, E], Sequence[str]] = golden_complaints


def factory_of(base: HeadBase, open_model: Callable[[HeadRelease | None], E]) -> ModelFactory[E]:
    """Return the factory of models that consist of a shipped model and a release on top of it."""
    return ModelFactory(base.manifest.title, base.manifest.version, open_model, _labels_with_events(base.sums))


def gained_labels(old_tree: Taxonomy, old: Set[str], new_tree: Taxonomy, new: Set[str]) -> frozenset[str]:
    """Return the labels that only the candidate can answer with: newly learned ones, and new rows of the taxonomy."""
    families = set(new_tree.families) - set(old_tree.families)
    return frozenset((new - old) | families | (set(new_tree.species) - set(old_tree.species)))


def labels_of(release: HeadRelease | None) -> frozenset[str]:
    """Return the labels that a release learned from events."""
    if release is None or release.sums is None:
        return frozenset()
    return _labels_with_events(release.sums)


def _labels_with_events(sums: Sums) -> frozenset[str]:
    return frozenset(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
