"""How a tier makes its eyes of the shipped model and releases on top of it, tries them, and tells what one has learned.

Example::

    kit = kit_of(zoo.base(), zoo.cloud_model)
    eye = kit.open(release)                 # Rejected where it does not fit
    kit.smoke(release, eye)                 # (): it answers its golden inputs as expected
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.answering.model_source import TierModel
from models.heads.base import HeadBase
from models.heads.release import HeadRelease
from models.labels.taxonomy import Taxonomy
from pipeline.sums.sums import Sums

E = TypeVar("E", bound=TierModel)


def golden(release: HeadRelease, eye: TierModel) -> Sequence[str]:
    """A complaint about each golden input of a release that an eye answers otherwise than expected."""
    return release.smoke.complaints(eye.head, eye.tree)


@dataclass(frozen=True, slots=True)
class Kit(Generic[E]):
    """How a tier makes and tries its eyes."""

    base: str
    """The shipped model's title."""
    base_version: int
    open: Callable[[HeadRelease | None], E]
    """Raises `Rejected` where a release does not fit."""
    labels: Set[str]
    """That the shipped model learned from events."""
    smoke: Callable[[HeadRelease, E], Sequence[str]] = golden


def kit_of(base: HeadBase, open_model: Callable[[HeadRelease | None], E]) -> Kit[E]:
    """The kit of eyes that are made of a shipped model and releases on top of it."""
    return Kit(base.manifest.title, base.manifest.version, open_model, learned(base.sums))


def gained(old_tree: Taxonomy, old: Set[str], new_tree: Taxonomy, new: Set[str]) -> frozenset[str]:
    """Labels that a candidate can answer with and what serves could not: just learned, or rows that the tree gained."""
    families = set(new_tree.families) - set(old_tree.families)
    return frozenset((new - old) | families | (set(new_tree.species) - set(old_tree.species)))


def labels_of(release: HeadRelease | None) -> frozenset[str]:
    """The labels that a release learned from events."""
    return learned(release.sums) if release is not None and release.sums is not None else frozenset()


def learned(sums: Sums) -> frozenset[str]:
    """The labels that have events."""
    return frozenset(label for label, count in zip(sums.labels, sums.counts, strict=True) if count)
