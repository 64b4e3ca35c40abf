"""Retrain: merge the sums of all sites, solve, weigh, judge. Return a release, or the reasons against it. Pure.

::

    shipped sums --+--> solve (shrink) --> choose the weights ---> judge ---> release --+--> final: with held-out events
    sums by site --+        ^              held-out events,         golden set,         |
                            |              two golden photos of 3   the third          +--> refusal, with a report
                            +--- without a site that spoils the others' held-out events

Held-out events (`pipeline.sums.votes.held_out`: by a hash of the event's id) taught no head that they judge; the
release is then solved from all events. A label gets a column from `LEAST_EVENTS` events on; until then its events
share one column with those of all such labels. A label of another rank (`Felidae`, `animal`) has a column that is
never answered, and judges at its rank.

Example::

    outcome = retrain(base, golden, sites, judges, None, rows=rows, version=3)
    outcome.release.title           # "lite0@3"; without a release see outcome.report.refused
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.heads.base import HeadBase
from models.heads.golden_set import GoldenSet
from models.heads.release import HeadRelease
from models.labels.taxonomy import Species, Taxonomy
from models.labels.taxonomy_growth import grown
from models.training.candidate import About, Held, Training
from models.training.new_label_weight import LabelledVectors
from models.training.report import Limits, TrainingReport
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

LIMITS: Final = Limits()
JUDGING_OF: Final = 3
"""Every third golden photo only judges: no setting was chosen by it."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingOutcome:
    """A release or None, and the report with the reasons."""

    release: HeadRelease | None
    report: TrainingReport


def retrain(
    base: HeadBase,
    golden: GoldenSet,
    sites: Mapping[str, Sums],
    held: Held,
    serving: HeadRelease | None,
    *,
    rows: Sequence[Species] = (),
    version: int,
    about: About | None = None,
    limits: Limits = LIMITS,
) -> TrainingOutcome:
    """Make the next release from the sums of all sites.

    Parameters
    ----------
    sites
        Sums of the events that teach, by site: of the base's space, over labels of any rank of the grown tree.
    held
        The held-out events of all sites.
    serving
        The serving release, which the new one is compared with.
    rows
        Species that the label tree gains.

    Raises
    ------
    Rejected
        `golden-mismatch`, `space-mismatch`, `labels-mismatch`, `bad-label`, `release-mismatch`; `too-few-events` where
        no site has any.
    """
    tree = grown(base.tree, rows)
    taught = _checked(base, tree, sites, held)
    truths = golden.truths(base.tree, base.sums.space)
    names = [base.tree.species[at] for at in truths.tolist()]
    photos = LabelledVectors.of(base.tuned, golden.vectors, names)
    third = [at % JUDGING_OF == JUDGING_OF - 1 for at in range(len(names))]
    choosing, judging = photos.chosen([not judges for judges in third]), photos.chosen(third)
    asked = LabelledVectors.of(base.tuned, held.vectors, held.labels)
    training = Training(base, (choosing, judging), golden.digest, tree, tuple(rows), taught, held, asked, serving)
    origin, (best, spoilers) = about or About(), training.best(limits)
    report = training.report(best, spoilers, f"{base.manifest.name}@{version}", origin)
    return TrainingOutcome(None if best.refused else training.release(best, version, origin, report), report)


def _checked(base: HeadBase, tree: Taxonomy, sites: Mapping[str, Sums], held: Held) -> dict[str, Sums]:
    for site, sums in sites.items():
        if sums.space != base.sums.space or sums.dimension != base.sums.dimension:
            raise Rejected(
                "space-mismatch",
                f"sums of {site} are of {sums.space} ({sums.dimension}), the model of {base.sums.space} "
                f"({base.sums.dimension}): they were made with another model, and this one cannot use them",
            )
    named = {label for sums in sites.values() for label in sums.labels} | set(held.labels)
    if unknown := sorted(named - tree.paths.keys()):
        raise Rejected(
            "labels-mismatch",
            f"{unknown[:3]}: the label tree has no such labels; give the rows that it gains",
        )
    if held.vectors.dtype != np.uint8 or held.vectors.shape != (len(held.events), base.sums.dimension):
        raise Rejected("space-mismatch", f"held-out events of {held.vectors.dtype} {held.vectors.shape}")
    if not any(sums.events for sums in sites.values()):
        raise Rejected("too-few-events", "no site has labelled events that teach; label some first")
    return {site: sums for site, sums in sorted(sites.items()) if sums.events}
