"""One training: sites that spoil the rest are found and left out, a candidate is solved, judged, and made a release. Pure.

`models.training.retrain` is the door, and tells the way of the data.

Sources: leave-one-out influence on held-out data (Koh & Liang 2017, arXiv:1703.04730), exact here, since sums subtract; forgetting
a site is what machine unlearning asks for (Cao & Yang 2015).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.heads.base import HeadBase
from models.heads.pooled import witnessed
from models.heads.release import FEW, Calibration, HeadRelease, Lineage, SiteShare, Smoke
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
"""Of a label, to be answered: one event's sum is its vector, and a mean of a few is mostly them."""

SPOILS_HELD, SPOILS_LEAST, SPOILS_GOLDEN = 0.05, 2, 0.01
"""A site is left out if without it so many more of the others' held-out events are right (as a share, and two at least), or so
many more golden photos: chance moves less."""

SMOKE_INPUTS: Final = 8


class HeldEvent(NamedTuple):
    """An event that judges: its id, its site, what people say it is (a label of any rank)."""

    event: str
    site: str
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Held-out events and their vectors, uint8 (n, d)."""

    events: tuple[HeldEvent, ...]
    vectors: NDArray[np.uint8]

    def chosen(self, kept: Sequence[bool]) -> Held:
        """Those that a mask keeps."""
        mask = np.array(kept, bool).reshape(len(self.events))
        return Held(
            tuple(its for its, keep in zip(self.events, mask, strict=True) if keep), self.vectors[mask]
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """What each shows."""
        return tuple(its.label for its in self.events)

    def sums(self, space: str, dimension: int, labels: Sequence[str]) -> Sums:
        """As events that teach."""
        empty = Sums.empty(space, dimension, labels)
        return (
            empty.add(self.vectors, [labels.index(label) for label in self.labels]) if self.events else empty
        )


@dataclass(frozen=True, slots=True)
class About:
    """What a release says of its making beside the figures."""

    trigger: str = "by hand"
    made: str = ""
    code: str = ""
    offsets: Mapping[str, str] = field(default_factory=dict)
    first_last: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Candidate(NamedTuple):
    sites: tuple[str, ...]
    calibration: Calibration
    tree: Taxonomy
    few: dict[str, int]
    golden: TrainingFigures
    held: TrainingFigures
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """One training's inputs, and what is asked of them more than once. `golden` is (choosing, judging)."""

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
        """The candidate of all sites that do not spoil it; and those, with why."""
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
        """Sites without which the others' held-out events, or golden photos, are named clearly better; and why."""
        kept = list(self.sites)
        while len(kept) > 1:
            found = [(gain, site, why) for site in kept for gain, why in self.gains_without(site, kept)]
            if not found:
                return
            _, worst, why = max(found)
            kept.remove(worst)
            yield worst, why

    def gains_without(self, site: str, kept: Sequence[str]) -> Iterator[tuple[float, str]]:
        others = [other for other in kept if other != site]
        photos = (self.held_of(others), self.golden[0])
        with_it, without = (
            [self.right_alone(its, self.merged(of)) for its in photos] for of in (kept, others)
        )
        for what, least, its, one, other in zip(
            ("of the others' held-out events", "golden photos"),
            (SPOILS_LEAST, 0),
            photos,
            with_it,
            without,
            strict=True,
        ):
            margin = SPOILS_HELD if least else SPOILS_GOLDEN
            count = len(its.labels)
            if count and other - one >= max(least, margin * count):
                yield (other - one) / count, f"without it {other} of {count} {what} are right, with it {one}"

    def right_alone(self, photos: LabelledVectors, learned: Sums) -> int:
        """How many photos the solved head alone names right, at the rank of their labels."""
        if not photos.labels:
            return 0
        said = self.base.solved(self.tree, learned, Calibration()).logits(photos.vectors).argmax(1).tolist()
        paths = {at: self.tree.path(self.tree.species[at]) for at in set(said)}
        return sum(label in paths[at] for label, at in zip(photos.labels, said, strict=True))

    def held_of(self, kept: Sequence[str]) -> LabelledVectors:
        return self.asked.chosen([its.site in kept for its in self.held.events])

    def merged(self, kept: Sequence[str]) -> Sums:
        """What some sites taught, over all columns."""
        parts = [self.sites[site] for site in kept]
        labels = (
            *self.tree.species,
            *sorted({name for part in parts for name in part.labels} - set(self.tree.species)),
        )
        return _merged(parts, labels)

    # --- one candidate -----------------------------------------------------------------------------------------------

    def candidate(self, kept: tuple[str, ...], limits: Limits) -> Candidate:
        held = self.held_of(kept)
        learned = self.merged(kept)
        few = self.few(learned, held.labels)
        tree = grown(self.base.tree, (row for row in self.rows if row.label not in few))
        learned = with_few_joined(learned, few, tree)
        judged = held.chosen([label in tree.paths for label in held.labels])
        calibration = choose(self.base, tree, learned, self.golden[0], judged)
        solved = self.base.solved(tree, learned, calibration)

        def after(photos: LabelledVectors) -> TrainingFigures:
            logits = solved.logits(photos.vectors)
            its = calibration
            species = witnessed(tree, photos.tuned, logits, its.cloud, its.solved_share, its.novelty)
            return figures(tree, species, photos.labels, self.tree)

        golden, of_held = after(self.golden[1]), after(held)
        refused = (
            *complaints("golden set", self.before(self.golden[1]), golden, limits),
            *held_complaints(self.before(held), of_held, limits),
        )
        return Candidate(kept, calibration, tree, few, golden, of_held, refused)

    def few(self, learned: Sums, judges: Sequence[str]) -> dict[str, int]:
        """Labels with events, but too few to be answered."""
        counts = Counter(judges)
        counts.update({label: int(n) for label, n in zip(learned.labels, learned.counts, strict=True)})
        names = {row.label for row in self.rows}
        return {
            label: count
            for label, count in sorted(counts.items())
            if count < LEAST_EVENTS and (count or label in names)
        }

    def before(self, photos: LabelledVectors) -> TrainingFigures:
        """What the serving model makes of them."""
        grown_ = self.base.grown(self.serving)
        its = grown_.calibration
        species = witnessed(
            grown_.tree,
            photos.tuned,
            grown_.solved.logits(photos.vectors),
            its.cloud,
            its.solved_share,
            its.novelty,
        )
        return figures(grown_.tree, species, photos.labels, self.tree)

    # --- what comes of it --------------------------------------------------------------------------------------------

    def release(self, best: Candidate, version: int, about: About, report: TrainingReport) -> HeadRelease:
        """From all events of the sites that are in: those that judged now teach, too."""
        base, manifest = self.base, self.base.manifest
        judges = self.held.chosen([its.site in best.sites for its in self.held.events])
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
        """Golden photos from all over, and the mean of each new label."""
        golden = self.golden[1].vectors
        few = golden[np.linspace(0, len(golden) - 1, SMOKE_INPUTS).astype(int)]
        new = [learned.labels.index(row.label) for row in tree.rows[len(self.base.tree.rows) :]][
            :SMOKE_INPUTS
        ]
        means = np.rint(learned.cross[:-1, new] / learned.counts[new]).astype(np.uint8).T
        return np.vstack([few, means])

    def lineage(self, report: TrainingReport, about: About) -> Lineage:
        shares = []
        for site, sums in self.sites.items():
            labels = Counter(its.label for its in self.held.events if its.site == site)
            labels.update({label: int(n) for label, n in zip(sums.labels, sums.counts, strict=True) if n})
            first, last = about.first_last.get(site, ("", ""))
            spoils = report.sites[site].spoils
            shares.append(SiteShare(site, labels.total(), dict(sorted(labels.items())), first, last, spoils))
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

    def report(
        self, best: Candidate, spoilers: Mapping[str, str], title: str, about: About
    ) -> TrainingReport:
        learned = self.merged(best.sites)
        held, its = self.held_of(best.sites), best.calibration
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
                "shrink": its.shrink,
                "solved_share": its.solved_share,
                "slope": its.novelty.slope,
                "offset": its.novelty.offset,
                "doubt": its.novelty.doubt,
            },
            refused=best.refused,
        )

    def of_site(self, site: str, best: Candidate, spoils: str) -> OfSite:
        photos = self.held_of([site])
        learned = with_few_joined(self.merged(best.sites), best.few, best.tree)
        its = best.calibration
        logits = self.base.solved(best.tree, learned, its).logits(photos.vectors)
        species = witnessed(best.tree, photos.tuned, logits, its.cloud, its.solved_share, its.novelty)
        after = figures(best.tree, species, photos.labels, self.tree)
        return OfSite(self.sites[site].events, self.before(photos).labels, after.labels, spoils)


def with_few_joined(sums: Sums, few: Mapping[str, int], tree: Taxonomy) -> Sums:
    """The same events over a tree's columns, those of labels with too few events in one column together."""
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
    counts = Counter(judges)
    counts.update({label: int(n) for label, n in zip(learned.labels, learned.counts, strict=True) if n})
    return dict(sorted(counts.items()))
