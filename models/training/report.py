"""A training in figures: before and after, by rank, class, label and site, and the reasons against a release. Pure.

Example::

    before, after = figures(tree, old_species, truths), figures(grown, new_species, truths)
    complaints(before, after, LIMITS)   # ("golden set: Felidae 91.2% -> 84.0% of 150",)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from models.heads.linear import Floats
from models.heads.pooled import sums_over
from models.labels.taxonomy import KINGDOMS, RANKS, Taxonomy, deepest_rank, label_at

PERSON: Final = "person"


class Limits(msgspec.Struct, frozen=True):
    """The most that a release may lose. A class is large from `large` golden photos or held-out events on."""

    rank: float = 0.01
    """Share of all photos at any rank: twice the share that chance moves among a thousand."""
    large: int = 25
    large_class: float = 0.05
    person: float = 0.01
    held_out: float = 0.05
    """Share of held-out events at any rank, but at least one event."""


class Accuracy(msgspec.Struct, frozen=True):
    """`right` of `of` are right."""

    right: int
    of: int

    @property
    def rate(self) -> float:
        """Return the share that is right, or 0 without photos."""
        return self.right / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{100 * self.rate:.1f}% of {self.of:,}"


class TrainingFigures(msgspec.Struct, frozen=True):
    """Photos named right: at each rank, and by label and family. `persons` is the recall.

    `labels` counts each photo once, at the rank of its label.
    """

    ranks: dict[str, Accuracy]
    classes: dict[str, Accuracy]
    persons: Accuracy
    labels: Accuracy


class OfSite(msgspec.Struct, frozen=True):
    """One site: the events that taught, and how many of its held-out events are right before and after.

    `spoils` is the reason why the site was left out, if it was.
    """

    events: int
    before: Accuracy
    after: Accuracy
    spoils: str = ""


class TrainingReport(msgspec.Struct, frozen=True):
    """A training's figures. `refused` are the reasons against a release, empty for a release."""

    title: str
    serving: str
    trigger: str
    events: dict[str, int]
    golden_before: TrainingFigures
    golden_after: TrainingFigures
    held_before: TrainingFigures
    held_after: TrainingFigures
    sites: dict[str, OfSite]
    new_labels: tuple[str, ...]
    few: dict[str, int]
    calibration: dict[str, float]
    refused: tuple[str, ...] = ()

    @property
    def flat(self) -> dict[str, float]:
        """Rates by name, for a lineage: ``golden.species.after``."""
        return {
            f"{where}.{rank}.{when}": round(share.rate, 4)
            for where, both in (
                ("golden", (self.golden_before, self.golden_after)),
                ("held-out", (self.held_before, self.held_after)),
            )
            for when, of_photos in zip(("before", "after"), both, strict=True)
            for rank, share in (*of_photos.ranks.items(), ("persons", of_photos.persons))
            if share.of
        }


def likeliest(tree: Taxonomy, species: Floats) -> dict[str, list[str]]:
    """Return by rank the likeliest label of each row of probabilities (n, s) over a tree's species."""
    families = sums_over(species.astype(np.float64), tree.family_of, len(tree.families))
    kingdoms = sums_over(families, tree.kingdom_of, len(KINGDOMS))
    return {
        "kingdom": [KINGDOMS[at] for at in kingdoms.argmax(1).tolist()],
        "family": [tree.families[at] for at in families.argmax(1).tolist()],
        "species": [tree.species[at] for at in species.argmax(1).tolist()],
    }


def figures(
    tree: Taxonomy, species: Floats, labels: Sequence[str], truths_in: Taxonomy | None = None
) -> TrainingFigures:
    """Compare probabilities (n, s) over a tree with labels (n) of any rank.

    `truths_in` is the tree that holds all labels, where `tree` lacks the new ones and so names these wrong.
    """
    known = truths_in or tree
    named = likeliest(tree, species) if labels else {rank: [] for rank in RANKS}
    ranks: dict[str, Accuracy] = {}
    by_class: dict[str, list[bool]] = {}
    for rank in RANKS:
        pairs = [
            (truth, truth == answer)
            for label, answer in zip(labels, named[rank], strict=True)
            if (truth := label_at(known, label, rank)) is not None
        ]
        ranks[rank] = Accuracy(sum(right for _, right in pairs), len(pairs))
        if rank != "kingdom":
            for truth, right in pairs:
                by_class.setdefault(truth, []).append(right)
    persons = [answer == PERSON for label, answer in zip(labels, named["kingdom"], strict=True) if label == PERSON]
    classes = {
        name: Accuracy(sum(rights), len(rights)) for name, rights in sorted(by_class.items()) if name not in KINGDOMS
    }
    at_label = [named[deepest_rank(known, label)][at] == label for at, label in enumerate(labels)]
    return TrainingFigures(ranks, classes, Accuracy(sum(persons), len(persons)), Accuracy(sum(at_label), len(at_label)))


def complaints(where: str, before: TrainingFigures, after: TrainingFigures, limits: Limits) -> Iterator[str]:
    """Yield every loss on the golden set beyond the limits."""
    for rank in RANKS:
        yield from _lost(f"{where}, {rank}", before.ranks[rank], after.ranks[rank], limits.rank)
    yield from _lost(f"{where}, persons", before.persons, after.persons, limits.person)
    for name, accuracy in before.classes.items():
        if accuracy.of >= limits.large:
            yield from _lost(f"{where}, {name}", accuracy, after.classes[name], limits.large_class)


def held_complaints(before: TrainingFigures, after: TrainingFigures, limits: Limits) -> Iterator[str]:
    """Yield every loss on held-out events beyond the limits; they are few, so one event is always forgiven."""
    for rank in RANKS:
        accuracy = before.ranks[rank]
        if accuracy.of:
            margin = max(limits.held_out, 1 / accuracy.of)
            yield from _lost(f"held-out events, {rank}", accuracy, after.ranks[rank], margin)


def _lost(what: str, before: Accuracy, after: Accuracy, margin: float) -> Iterator[str]:
    if before.rate - after.rate > margin + 1e-9:
        yield f"{what}: {100 * before.rate:.1f}% -> {after}, more than {100 * margin:.1f} points lost"


def render(report: TrainingReport) -> str:
    """Return the report as Markdown: a release's card, or the reasons against one."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: TrainingReport) -> Iterator[str]:
    yield f"# {report.title}" + (" (refused)" if report.refused else "")
    yield ""
    yield f"Learned from {sum(report.events.values()):,} labelled events; served before: {report.serving}. Trigger: {report.trigger}."
    for line in report.refused:
        yield f"* refused: {line}"
    yield from ("", "| | before | after |", "| --- | ---: | ---: |")
    for where, before, after in (
        ("golden set", report.golden_before, report.golden_after),
        ("held-out events", report.held_before, report.held_after),
    ):
        for name, old, new in (
            *((rank, before.ranks[rank], after.ranks[rank]) for rank in RANKS),
            ("persons", before.persons, after.persons),
        ):
            if old.of:
                yield f"| {where}, {name} | {old} | {new} |"
    for label in report.new_labels:
        if after_share := report.held_after.classes.get(label):
            yield f"| held-out events, {label} (new) | {report.held_before.classes[label]} | {after_share} |"
    yield from (
        "",
        "| site | events | held-out right before | after | |",
        "| --- | ---: | ---: | ---: | --- |",
    )
    for site, of in report.sites.items():
        yield f"| {site} | {of.events:,} | {of.before} | {of.after} | {of.spoils and 'left out: ' + of.spoils} |"
    if report.few:
        waiting = ", ".join(f"{label} ({count})" for label, count in report.few.items())
        yield from ("", f"Labels with too few events to be answered yet: {waiting}.")
