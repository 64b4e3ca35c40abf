"""One training: leave out sites that spoil the rest, solve a candidate, judge it, and make a release of it. Pure.

`models.training.retrain` is the entry, and shows the data flow.

Sources: leave-one-out influence on held-out data (Koh & Liang 2017, arXiv:1703.04730), exact here, since sums
subtract; forgetting a site is machine unlearning (Cao & Yang 2015).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.heads.base import HeadBase
from models.heads.pooled import pooled_species
from models.heads.release import FEW, Calibration, HeadRelease, Lineage, SiteShare, Smoke
from models.heads.solve import LinearHead
from models.labels.taxonomy import Species, Taxonomy
from models.labels.taxonomy_growth import grown
from models.training.new_label_weight import LabelledVectors, choose
from models.training.report import (
    Limits,
    OfSite,
    TrainingFigures,
    TrainingReport,
    complaints,
    figures,
    held_complaints,
    render,
)
from pipeline.sums.sums import Sums

LEAST_EVENTS: Final = 20
"""A label is answered from so many events on: a mean of few vectors is mostly those vectors."""

SPOILS_HELD, SPOILS_LEAST, SPOILS_GOLDEN = 0.05, 2, 0.01
"""A site is left out if without it so many more of the others' held-out events are right (as a share, and at least
two), or so many more golden photos: chance moves less."""

SMOKE_INPUTS: Final = 8


class HeldEvent(NamedTuple):
    """An event that judges: id, site, and the label that people gave, of any rank."""

    event: str
    site: str
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Held-out events and their vectors, uint8 (n, d)."""

    events: tuple[HeldEvent, ...]
    vectors: NDArray[np.uint8]

    def chosen(self, kept: Sequence[bool]) -> Held:
        """Return the events that a mask keeps."""
        mask = np.array(kept, bool).reshape(len(self.events))
        return Held(tuple(event for event, keep in zip(self.events, mask, strict=True) if keep), self.vectors[mask])

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each."""
        return tuple(event.label for event in self.events)

    def sums(self, space: str, dimension: int, labels: Sequence[str]) -> Sums:
        """Return their sums, as of events that teach."""
        empty = Sums.empty(space, dimension, labels)
        return empty.add(self.vectors, [labels.index(label) for label in self.labels]) if self.events else empty


@dataclass(frozen=True, slots=True)
class About:
    """The origin of a release, as its lineage states it beside the figures."""

    trigger: str = "by hand"
    made: str = ""
    code: str = ""
    offsets: Mapping[str, str] = field(default_factory=dict)
    first_last: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Candidate(NamedTuple):
    """A solved and judged candidate; `few` are labels with too few events, `refused` the reasons against a release."""

    sites: tuple[str, ...]
    calibration: Calibration
    tree: Taxonomy
    few: dict[str, int]
    golden: TrainingFigures
    held: TrainingFigures
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """One training's inputs, and the computations on them. `golden` is (choosing, judging)."""

    base: HeadBase
    golden: tuple[LabelledVectors, LabelledVectors]
    digest: str
    tree: Taxonomy
    rows: tuple[Species, ...]
    sites: dict[str, Sums]
    held: Held
    asked: LabelledVectors
    serving: HeadRelease | None

    def best(self, limits: Limits) -> tuple[Candidate, dict[str, str]]:
        """Return the candidate of all sites that do not spoil it, and the spoilers with the reason."""
        spoilers = dict(self.spoilers())
        kept = tuple(site for site in self.sites if site not in spoilers)
        best = self.candidate(kept, limits)
        for site in kept if best.refused and len(kept) > 1 else ():
            without = self.candidate(tuple(other for other in kept if other != site), limits)
            if not without.refused:
                return without, {**spoilers, site: best.refused[0]}
        return best, spoilers

    # --- robust merge ------------------------------------------------------------------------------------------------

    def spoilers(self) -> Iterator[tuple[str, str]]:
        """Yield each site without which other events or golden photos are named clearly better, and the reason."""
        kept = list(self.sites)
        while len(kept) > 1:
            found = [(gain, site, why) for site in kept for gain, why in self.gains_without(site, kept)]
            if not found:
                return
            _, worst, why = max(found)
            kept.remove(worst)
            yield worst, why

    def gains_without(self, site: str, kept: Sequence[str]) -> Iterator[tuple[float, str]]:
        """Yield each clear gain without a site, as a share and in words."""
        others = [other for other in kept if other != site]
        photos = (self.held_of(others), self.golden[0])
        with_it, without = (
            [self.right_alone(photo_set, self.merged(names)) for photo_set in photos] for names in (kept, others)
        )
        for what, least, photo_set, before, after in zip(
            ("of the others' held-out events", "golden photos"),
            (SPOILS_LEAST, 0),
            photos,
            with_it,
            without,
            strict=True,
        ):
            margin = SPOILS_HELD if least else SPOILS_GOLDEN
            count = len(photo_set.labels)
            if count and after - before >= max(least, margin * count):
                why = f"without it {after} of {count} {what} are right, with it {before}"
                yield (after - before) / count, why

    def right_alone(self, photos: LabelledVectors, learned: Sums) -> int:
        """Count the photos that the solved head alone names right, at the rank of their labels."""
        if not photos.labels:
            return 0
        best = self.base.solved(self.tree, learned, Calibration()).logits(photos.vectors).argmax(1).tolist()
        paths = {at: self.tree.path(self.tree.species[at]) for at in set(best)}
        return sum(label in paths[at] for label, at in zip(photos.labels, best, strict=True))

    def held_of(self, kept: Sequence[str]) -> LabelledVectors:
        """Return the held-out events of some sites."""
        return self.asked.chosen([event.site in kept for event in self.held.events])

    def merged(self, kept: Sequence[str]) -> Sums:
        """Return the sums of some sites, over all columns."""
        parts = [self.sites[site] for site in kept]
        labels = (
            *self.tree.species,
            *sorted({name for part in parts for name in part.labels} - set(self.tree.species)),
        )
        return _merged(parts, labels)

    # --- one candidate -----------------------------------------------------------------------------------------------

    def candidate(self, kept: tuple[str, ...], limits: Limits) -> Candidate:
        """Solve and judge a candidate from the sums of some sites."""
        held = self.held_of(kept)
        learned = self.merged(kept)
        few = self.few(learned, held.labels)
        tree = grown(self.base.tree, (row for row in self.rows if row.label not in few))
        learned = with_few_joined(learned, few, tree)
        judged = held.chosen([label in tree.paths for label in held.labels])
        calibration = choose(self.base, tree, learned, self.golden[0], judged)
        solved = self.base.solved(tree, learned, calibration)

        def after(photos: LabelledVectors) -> TrainingFigures:
            return self._figures(tree, solved, calibration, photos)

        golden, of_held = after(self.golden[1]), after(held)
        refused = (
            *complaints("golden set", self.before(self.golden[1]), golden, limits),
            *held_complaints(self.before(held), of_held, limits),
        )
        return Candidate(kept, calibration, tree, few, golden, of_held, refused)

    def few(self, learned: Sums, judges: Sequence[str]) -> dict[str, int]:
        """Return the labels with too few events to be answered, and how many they have."""
        counts = dict.fromkeys((row.label for row in self.rows), 0) | _events(learned, judges)
        return {label: count for label, count in sorted(counts.items()) if count < LEAST_EVENTS}

    def before(self, photos: LabelledVectors) -> TrainingFigures:
        """Return the serving model's figures."""
        serving = self.base.grown(self.serving)
        return self._figures(serving.tree, serving.solved, serving.calibration, photos)

    def _figures(
        self, tree: Taxonomy, solved: LinearHead, calibration: Calibration, photos: LabelledVectors
    ) -> TrainingFigures:
        species = pooled_species(
            tree,
            photos.tuned,
            solved.logits(photos.vectors),
            calibration.cloud,
            calibration.solved_share,
            calibration.novelty,
        )
        return figures(tree, species, photos.labels, self.tree)

    # --- its release and its report ----------------------------------------------------------------------------------

    def release(self, best: Candidate, version: int, about: About, report: TrainingReport) -> HeadRelease:
        """Make a release from all events of the candidate's sites; the events that judged now teach, too."""
        base, manifest = self.base, self.base.manifest
        judges = self.held.chosen([event.site in best.sites for event in self.held.events])
        taught = self.merged(best.sites)
        labels = (*taught.labels, *sorted(set(judges.labels) - set(taught.labels)))
        everything = with_few_joined(
            taught.with_labels(labels).merge(judges.sums(taught.space, taught.dimension, labels)),
            best.few,
            best.tree,
        )
        kept = [label for label, count in zip(everything.labels, everything.counts, strict=True) if count]
        release = HeadRelease(
            version=version,
            base=manifest.title,
            base_sums=manifest.files["sums.gz"],
            space=base.sums.space,
            dimension=base.sums.dimension,
            sums=everything.with_labels(kept),
            rows=best.tree.rows[len(base.tree.rows) :],
            calibration=best.calibration,
            smoke=Smoke(np.empty((0, base.sums.dimension), np.uint8), np.empty((0, 0), np.float32)),
            lineage=self.lineage(report, about),
            card=render(report),
            name=manifest.name,
        )
        return replace(release, smoke=Smoke.of(base.head(release), self.smoke_inputs(everything, best.tree)))

    def smoke_inputs(self, learned: Sums, tree: Taxonomy) -> NDArray[np.uint8]:
        """Return golden photos at equal distances, and the mean of each new label."""
        golden = self.golden[1].vectors
        few = golden[np.linspace(0, len(golden) - 1, SMOKE_INPUTS).astype(int)]
        new = [learned.labels.index(row.label) for row in tree.rows[len(self.base.tree.rows) :]][:SMOKE_INPUTS]
        means = np.rint(learned.cross[:-1, new] / learned.counts[new]).astype(np.uint8).T
        return np.vstack([few, means])

    def lineage(self, report: TrainingReport, about: About) -> Lineage:
        """Return the origin of a release."""
        shares = []
        for site, sums in self.sites.items():
            labels = _events(sums, [event.label for event in self.held.events if event.site == site])
            first, last = about.first_last.get(site, ("", ""))
            spoils = report.sites[site].spoils
            shares.append(SiteShare(site, sum(labels.values()), labels, first, last, spoils))
        return Lineage(
            parent=report.serving,
            trigger=about.trigger,
            made=about.made,
            code=about.code,
            golden=self.digest,
            sites=tuple(shares),
            offsets=dict(about.offsets),
            figures=report.flat,
        )

    def report(self, best: Candidate, spoilers: Mapping[str, str], title: str, about: About) -> TrainingReport:
        """Return the report about the best candidate."""
        learned = self.merged(best.sites)
        held, calibration = self.held_of(best.sites), best.calibration
        return TrainingReport(
            title=title,
            serving=self.serving.title if self.serving else self.base.manifest.title,
            trigger=about.trigger,
            events=_events(learned, held.labels),
            golden_before=self.before(self.golden[1]),
            golden_after=best.golden,
            held_before=self.before(held),
            held_after=best.held,
            sites={site: self.of_site(site, best, spoilers.get(site, "")) for site in self.sites},
            new_labels=best.tree.species[len(self.base.tree.species) :],
            few=best.few,
            calibration={
                "shrink": calibration.shrink,
                "solved_share": calibration.solved_share,
                "slope": calibration.novelty.slope,
                "offset": calibration.novelty.offset,
                "doubt": calibration.novelty.doubt,
            },
            refused=best.refused,
        )

    def of_site(self, site: str, best: Candidate, spoils: str) -> OfSite:
        """Return the report's row about one site."""
        photos = self.held_of([site])
        learned = with_few_joined(self.merged(best.sites), best.few, best.tree)
        solved = self.base.solved(best.tree, learned, best.calibration)
        after = self._figures(best.tree, solved, best.calibration, photos)
        return OfSite(self.sites[site].events, self.before(photos).labels, after.labels, spoils)


def with_few_joined(sums: Sums, few: Mapping[str, int], tree: Taxonomy) -> Sums:
    """Return the same events over a tree's columns, with one column for all labels that have too few events."""
    rest = [label for label in sums.labels if label not in few and label not in tree.species]
    joined = Sums.empty(sums.space, sums.dimension, (*tree.species, *rest, *([FEW] if few else [])))
    to = [
        joined.labels.index(FEW if label in few else label)
        for label in sums.labels
        if label in few or label in joined.labels
    ]
    np.add.at(joined.counts, to, sums.counts)
    np.add.at(joined.cross.T, to, sums.cross.T)
    return Sums(sums.space, joined.labels, joined.counts, sums.gram, joined.cross)


def _merged(parts: Sequence[Sums], labels: Sequence[str]) -> Sums:
    total = parts[0].with_labels(labels)
    for part in parts[1:]:
        total = total.merge(part.with_labels(labels))
    return total


def _events(learned: Sums, judges: Sequence[str]) -> dict[str, int]:
    """Count the events that teach and those that judge, by label."""
    counts = Counter(judges)
    counts.update({label: int(n) for label, n in zip(learned.labels, learned.counts, strict=True) if n})
    return dict(sorted(counts.items()))
