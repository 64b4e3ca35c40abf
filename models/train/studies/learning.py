"""Measure what twenty labels of a new species are worth: ``python -m models.train.studies.learning``.

The model without two families and five species (`models.train.studies.without`) gets 20 labels of each, of photos that
it was not made from, and is retrained (`models.training.retrain`). The figures are on all test photos of the packs, of
new and of old species, before and after, beside the nearest class mean over the same vectors and labels. Run it after
`features` and `without`.

Example::

    [(photo.pack, photo.row, photo.label, photo.under) for photo in lessons(packs, tree)][0]
    # ("wild64", 2087, "Caracal caracal", "Felidae")
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import Pack, open_pack
from models.heads.base import HeadBase
from models.heads.linear import Floats
from models.heads.pooled import pooled_species
from models.heads.release import FILES, HeadRelease
from models.labels.taxonomy import Species, Taxonomy, load_taxonomy
from models.labels.taxonomy_growth import grown, row_under
from models.shipped import feature_head, frame_head, load_zoo, projection
from models.train.lite0.features import FEATURES, SIZE_PX
from models.train.studies.without import BEFORE
from models.training.candidate import Held, HeldEvent
from models.training.new_label_weight import LabelledVectors
from models.training.report import TrainingFigures, figures
from models.training.retrain import TrainingOutcome, retrain
from pipeline.sums.sums import Sums

LABELS: Mapping[str, int] = {"wild64": 10, "wild256": 10}
"""Labels of each new species: half at 64 pixels, half full-sized. A class that was seen at one size is known at that
size only."""

FLIPPED = ("Caracal caracal", "Leopardus pardalis")
KINDS: Mapping[str, str] = {"wild64": "wild64", "wild256": "wild256-whole"}


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A labelled photo: a row of a pack and its label."""

    pack: str
    row: int
    label: str
    under: str
    english: str

    @property
    def event(self) -> str:
        """The name of its event."""
        return f"{self.pack}-{self.row}"


def lessons(
    packs: Mapping[str, Pack], before: Taxonomy, labels: Mapping[str, int] = LABELS, seed: int = 0
) -> tuple[LabelledPhoto, ...]:
    """Choose photos to label: some of each species that `before` lacks, from each pack's training split."""
    full, rng, found = load_taxonomy(), np.random.default_rng(seed), []
    for row in full.rows:
        if row.label in before.species or not row.names:
            continue
        under = row.family if row.family in before.families else f"{row.kingdom}/{row.family}"
        for name, count in labels.items():
            of_it = [at for at in packs[name].rows("train") if packs[name].species[at] in row.names]
            chosen = rng.permutation(np.array(of_it, np.intp))[:count]
            found += [LabelledPhoto(name, at, row.label, under, row.english) for at in chosen.tolist()]
    return tuple(found)


def rows_of(before: Taxonomy, photos: Sequence[LabelledPhoto]) -> tuple[Species, ...]:
    """Return the rows that the tree gains by labelled photos."""
    tree = before
    for lesson in photos:
        if lesson.label not in tree.paths:
            family = lesson.under.rpartition("/")[2]
            under = family if family in tree.families else lesson.under
            tree = grown(tree, (row_under(tree, lesson.label, under, lesson.english),))
    return tree.rows[len(before.rows) :]


@dataclass(frozen=True, slots=True, eq=False)
class Photographed:
    """A pack's photos: features (n, 1280), vectors (n, 256), row, split and label of each."""

    feature: Floats
    vectors: NDArray[np.uint8]
    row: NDArray[np.int32]
    split: NDArray[np.str_]
    labels: NDArray[np.str_]

    def chosen(self, kept: NDArray[np.bool_]) -> Photographed:
        """Return the photos that a mask keeps."""
        feature, vectors, row = self.feature[kept], self.vectors[kept], self.row[kept]
        return Photographed(feature, vectors, row, self.split[kept], self.labels[kept])


def photographed(pack: Pack, base: HeadBase) -> Photographed:
    """Read a pack's whole photos as features and vectors of a base."""
    with np.load(FEATURES / f"{KINDS[pack.name]}-{SIZE_PX}.npz") as file:
        feature, row = file["feature"].astype(np.float32), file["row"]
    full = load_taxonomy()
    labels = np.array([full.find(pack.species[at]) for at in row.tolist()])
    split = np.array(pack.split)[row]
    return Photographed(feature, projection(base.manifest).bytes(feature), row, split, labels)


def taught(
    base: HeadBase, photos: Mapping[str, Photographed], of_sites: Mapping[str, Sequence[LabelledPhoto]]
) -> TrainingOutcome:
    """Retrain a base by the labelled photos of some sites; every fifth of a label and site judges."""
    sites: dict[str, Sums] = {}
    events: list[HeldEvent] = []
    judging: list[NDArray[np.uint8]] = []
    for site, lessons in of_sites.items():
        vectors = np.stack(
            [photos[lesson.pack].vectors[photos[lesson.pack].row == lesson.row][0] for lesson in lessons]
        )
        held = [
            sum(other.label == lesson.label for other in lessons[:at]) % 5 == 2 for at, lesson in enumerate(lessons)
        ]
        labels = tuple(dict.fromkeys(lesson.label for lesson in lessons))
        teach = [at for at, judges in enumerate(held) if not judges]
        empty = Sums.empty(base.sums.space, base.sums.dimension, labels)
        sites[site] = empty.add(vectors[teach], [labels.index(lessons[at].label) for at in teach])
        events += [HeldEvent(lessons[at].event, site, lessons[at].label) for at, judges in enumerate(held) if judges]
        judging.append(vectors[np.array(held)])
    rows = rows_of(base.tree, [lesson for lessons in of_sites.values() for lesson in lessons])
    golden = load_zoo(BEFORE).golden()
    return retrain(base, golden, sites, Held(tuple(events), np.concatenate(judging)), None, rows=rows, version=2)


def answered(base: HeadBase, release: HeadRelease | None, photos: Photographed, tier: str) -> tuple[Taxonomy, Floats]:
    """Return the tree and the species (n, s) that a tier answers, without thresholds."""
    of = base.grown(release)
    calibration = of.calibration
    if tier == "cloud":
        tuned = LabelledVectors.of(base.tuned, photos.vectors, ()).tuned
        temperatures = calibration.cloud
    else:
        head = feature_head(base.manifest, base.tree, frame_head(base.manifest).evidence)
        tuned, temperatures = head.species(photos.feature), calibration.edge
    logits = of.solved.logits(photos.vectors)
    return of.tree, pooled_species(of.tree, tuned, logits, temperatures, calibration.solved_share, calibration.novelty)


class NearestMean:
    """Predicts the class of the nearest mean, from the sums of the solved head."""

    def __init__(self, sums: Sums) -> None:
        self._at = np.flatnonzero(sums.counts)
        self._means = (sums.cross[:-1, self._at] / sums.counts[self._at]).T.astype(np.float32)

    def species(self, vectors: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Return positions (n,)."""
        far = (self._means**2).sum(1)[None] - 2 * vectors.astype(np.float32) @ self._means.T
        nearest: NDArray[np.intp] = self._at[far.argmin(1)]
        return nearest


def measure() -> Iterator[str]:
    """Yield the lines of the table."""
    base, full = load_zoo(BEFORE).base(), load_taxonomy()
    packs = {name: open_pack(name) for name in KINDS}
    photos = {name: photographed(pack, base) for name, pack in packs.items()}
    labelled = lessons(packs, base.tree)
    start_s = time.perf_counter()
    outcome = taught(base, photos, {"home": labelled})
    retrained_s = time.perf_counter() - start_s
    assert outcome.release is not None, outcome.report.refused
    release = outcome.release
    tree = release.tree(base.tree)
    nearest = NearestMean(base.sums.with_labels(tree.species).merge(release.learned(base.tree)))
    yield "| photos | tier | | before | after | nearest mean |"
    yield "| --- | --- | --- | ---: | ---: | ---: |"
    for name, whole in photos.items():
        test = whole.chosen((whole.split == "test") & np.isin(whole.labels, tree.species))
        is_new = ~np.isin(test.labels, base.tree.species)
        means = nearest.species(test.vectors)
        for tier in ("edge", "cloud"):
            for which, kept in (("new", is_new), ("old", ~is_new)):
                some = test.chosen(kept)
                before, after = (
                    figures(*answered(base, of, some, tier), some.labels.tolist(), full) for of in (None, release)
                )
                near = _of_means(tree, means[kept], some.labels.tolist(), full)
                for rank in ("species", "family", "kingdom"):
                    cells = [f"{100 * found.ranks[rank].rate:.1f}%" for found in (before, after, near)]
                    size = f"{name[4:]} px"
                    yield f"| {size} ({len(some.row):,}) | {tier} | {which}: {rank} | {' | '.join(cells)} |"
    start_s = time.perf_counter()
    base.grown(release)
    solved_ms = (time.perf_counter() - start_s) * 1e3
    size_bytes = sum(len(release.files()[file]) for file in FILES)
    yield ""
    yield (
        f"{len(labelled)} labels of {len(release.rows)} species; {outcome.report.calibration}; retrained in {retrained_s:.1f} s, "
        f"solved from a release in {solved_ms:.0f} ms; a release of {size_bytes:,} bytes"
    )


def by_size() -> Iterator[str]:
    """Yield the table of the cloud's species after labels of one size or both."""
    base, full = load_zoo(BEFORE).base(), load_taxonomy()
    packs = {name: open_pack(name) for name in KINDS}
    photos = {name: photographed(pack, base) for name, pack in packs.items()}
    yield ""
    yield "| labels | photos | new | old, before | old, after | new by the nearest mean |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for labels in (LABELS, {"wild64": 20}, {"wild256": 20}):
        release = taught(base, photos, {"home": lessons(packs, base.tree, labels)}).release
        assert release is not None
        tree = release.tree(base.tree)
        nearest = NearestMean(base.sums.with_labels(tree.species).merge(release.learned(base.tree)))
        labelled = " and ".join(f"{count} of {name[4:]} px" for name, count in labels.items())
        for name, whole in photos.items():
            test = whole.chosen((whole.split == "test") & np.isin(whole.labels, tree.species))
            is_new = ~np.isin(test.labels, base.tree.species)
            new, old = test.chosen(is_new), test.chosen(~is_new)
            rates = [
                figures(*answered(base, of, some, "cloud"), some.labels.tolist(), full).labels.rate
                for of, some in ((release, new), (None, old), (release, old))
            ]
            rates.append(_of_means(tree, nearest.species(new.vectors), new.labels.tolist(), full).labels.rate)
            yield f"| {labelled} | {name[4:]} px | {' | '.join(f'{100 * rate:.1f}%' for rate in rates)} |"


def poisoned() -> Iterator[str]:
    """Yield the table of a third site that exchanges two new species."""
    base, full = load_zoo(BEFORE).base(), load_taxonomy()
    packs = {name: open_pack(name) for name in KINDS}
    photos = {name: photographed(pack, base) for name, pack in packs.items()}
    first, second = FLIPPED
    right = {site: lessons(packs, base.tree, seed=seed) for seed, site in enumerate(("home", "garden"))}
    swap = {first: second, second: first}
    flipped = [
        replace(lesson, label=swap[lesson.label])
        for lesson in lessons(packs, base.tree, {"wild64": 40, "wild256": 20}, seed=2)
        if lesson.label in swap
    ]
    yield ""
    yield f"| sites | left out | test photos of {first} and {second} right |"
    yield "| --- | --- | ---: |"
    for name, sites in (
        ("two that are right", right),
        ("and a site that exchanges both", {**right, "spoiler": flipped}),
        ("that site alone", {"spoiler": flipped}),
    ):
        outcome = taught(base, photos, sites)
        spoilt = ", ".join(site for site, judged in outcome.report.sites.items() if judged.spoils) or "none"
        if outcome.release is None:
            yield f"| {name} | {spoilt} | refused: {outcome.report.refused[0]} |"
            continue
        rates = []
        for whole in photos.values():
            test = whole.chosen((whole.split == "test") & np.isin(whole.labels, FLIPPED))
            rate = figures(*answered(base, outcome.release, test, "cloud"), test.labels.tolist(), full).labels
            rates.append(str(rate))
        yield f"| {name} | {spoilt} | {', '.join(rates)} |"


def _of_means(tree: Taxonomy, species: NDArray[np.intp], labels: list[str], full: Taxonomy) -> TrainingFigures:
    return figures(tree, np.eye(len(tree.species), dtype=np.float32)[species], labels, full)


def main() -> None:
    """Run this study."""
    for line in (*measure(), *by_size(), *poisoned()):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
