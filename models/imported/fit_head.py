"""Fit a head for an imported backbone from labelled photos, by the additive sums that a site learns by.

::

    photos --backbone--> features --ByteRange--> bytes --Sums--> solve --> head --temperature--> calibrated, then tested

Each label's photos are sorted by digest: of every five, three are learned from, one sets the temperature and one is
kept for the figures. So the split does not depend on file names, and a duplicate counts once. The sums are stored
beside the head, so that they can be merged with others of the same space.

Example::

    fitted = fit("mine", backbone_of(entry), read_photos(Path("photos")).photos, tree)
    registry.add("mine", next_version(entry, fitted, who="ada", when="2026-01-01"))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.answering.frame_gate import CROP_PX
from models.evaluation.metrics import Rate, rate
from models.evaluation.photo_set import Photo
from models.evaluation.report import interval, percent
from models.heads.solve import LinearHead, solve
from models.imported.imported_model import (
    HEAD,
    MODEL,
    SPEC,
    SUMS,
    ByteRange,
    ImportedNetwork,
    TreeSums,
    open_network,
    read_spec,
    write_head,
)
from models.imported.registry import Draft, ModelEntry
from models.imported.trial_run import FIGURES
from models.labels.calibration import DEFAULT_THRESHOLDS, expected_calibration_error
from models.labels.scores import softmax
from models.labels.taxonomy import Taxonomy
from models.manifest import digest
from models.vision import images
from pipeline.errors import Rejected, Stop
from pipeline.sums.sums import Sums

Floats = NDArray[np.float32]

PARTS: Final = ("learn", "learn", "learn", "calibrate", "test")
"""The use of each label's photos, in turn."""

LABELS_LEAST: Final = 2
THRESHOLD: Final = DEFAULT_THRESHOLDS["family"]


class FitFigures(msgspec.Struct, frozen=True):
    """``figures.json`` of a fit, measured on photos that neither the head nor its temperature saw.

    `likeliest` is how often the likeliest label is right, `families` how often an answered family is, and `answered`
    the share of photos whose family reaches the threshold.
    """

    photos: int
    labels: int
    learned_from: int
    calibrated_on: int
    temperature: float
    likeliest: Rate
    families: Rate
    answered: Rate
    calibration_error: float


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A calibrated head, its byte range, and the sums that it was solved from."""

    head: LinearHead
    byte_range: ByteRange
    sums: Sums
    figures: FitFigures


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Features (n, d) and their labels by position (n,)."""

    features: Floats
    labels: NDArray[np.intp]


def fit(
    name: str,
    network: ImportedNetwork,
    photos: Sequence[Photo],
    tree: Taxonomy,
    progress: Callable[[int], None] = lambda _: None,
) -> Fitted:
    """Compute features, sums, head, temperature and figures. The name of the space begins with `name`.

    Raises `Stop` for fewer than two labels, a label with fewer photos than `PARTS`, or a damaged photo.
    """
    labels = tuple(sorted({photo.truth[-1] for photo in photos}))
    if len(labels) < LABELS_LEAST:
        raise Stop(f"a head distinguishes labels: give photos of at least two; these are all {labels[0]}")
    learned, held, test = _parts(network, photos, labels, progress)
    byte_range = ByteRange.of(learned.features)
    meaning = network.spec.sha256 + digest(byte_range.low.tobytes() + byte_range.high.tobytes())
    empty = Sums.empty(f"{name}-{digest(meaning.encode())[:16]}", learned.features.shape[1], labels)
    sums = empty.add(byte_range.bytes(learned.features), learned.labels)
    head = solve(sums, rank="species").calibrated(byte_range.bytes(held.features), held.labels)
    logits = head.logits(byte_range.bytes(test.features))
    figures = _figures(head, softmax(logits / head.temperature), test.labels, tree)
    counts = {"learned_from": len(learned.labels), "calibrated_on": len(held.labels)}
    return Fitted(head, byte_range, sums, msgspec.structs.replace(figures, **counts))


def _parts(
    network: ImportedNetwork,
    photos: Sequence[Photo],
    labels: tuple[str, ...],
    progress: Callable[[int], None],
) -> tuple[_Part, _Part, _Part]:
    """Return the features to learn from, to calibrate with and to test on."""
    seen: dict[str, dict[str, Floats]] = {label: {} for label in labels}
    for photo in photos:
        try:
            data = photo.read()
            # The edge will see crops, which are no larger than this.
            picture = images.shrink(images.decode(data, at_least_px=CROP_PX), CROP_PX)
        except Rejected as error:
            raise Stop(f"{photo.name}: {error}") from error
        mine, key = seen[photo.truth[-1]], digest(data)
        if key not in mine:
            mine[key] = network.output(picture)
        progress(1)
    few = [f"{label} ({len(found)})" for label, found in seen.items() if len(found) < len(PARTS)]
    if few:
        raise Stop(f"each label needs {len(PARTS)} different photos or more; fewer have: {', '.join(few)}")
    dealt: dict[str, list[tuple[Floats, int]]] = defaultdict(list)
    for position, label in enumerate(labels):
        for at, key in enumerate(sorted(seen[label])):
            dealt[PARTS[at % len(PARTS)]].append((seen[label][key], position))
    learn, calibrate, test = (
        _Part(np.stack([feature for feature, _ in pairs]), np.array([label for _, label in pairs], np.intp))
        for pairs in (dealt[part] for part in dict.fromkeys(PARTS))
    )
    return learn, calibrate, test


def _figures(head: LinearHead, probabilities: Floats, truths: NDArray[np.intp], tree: Taxonomy) -> FitFigures:
    """Measure the test part: probabilities (n, labels), truths (n,)."""
    sums = TreeSums(tree, head.labels)
    family_of = [sums.up(row)[0].best[0] for row in np.eye(len(head.labels), dtype=np.float32)]
    best = [sums.up(each)[0].best for each in probabilities]
    stands = [(label, truth) for (label, p), truth in zip(best, truths.tolist(), strict=True) if p >= THRESHOLD]
    correct = probabilities.argmax(1) == truths
    return FitFigures(
        photos=len(truths),
        labels=len(head.labels),
        learned_from=0,
        calibrated_on=0,
        temperature=round(head.temperature, 4),
        likeliest=rate(int(correct.sum()), len(truths)),
        families=rate(sum(label == family_of[truth] for label, truth in stands), len(stands)),
        answered=rate(len(stands), len(truths)),
        calibration_error=round(expected_calibration_error(probabilities.max(1), correct), 4),
    )


def next_version(entry: ModelEntry, fitted: Fitted, *, who: str, when: str) -> Draft:
    """Return the draft of the entry with this head. Raises `Stop` if the entry is damaged."""
    spec = read_spec(entry)
    figures = fitted.figures
    rows = {
        "made from": f"{entry.title} by {who}, {when}",
        "head": f"least squares on {figures.learned_from:,} photos of {figures.labels:,} labels, "
        f"temperature {figures.temperature:g} from {figures.calibrated_on:,} others",
        "likeliest label right": f"{interval(figures.likeliest)} of {figures.photos:,} photos that neither saw",
        "family": f"{interval(figures.families)} right when answered, {percent(figures.answered)} answered",
        "calibration error": f"{figures.calibration_error:.3f}",
        "feature space": fitted.sums.space,
        "labels": ", ".join(fitted.head.labels),
    }
    lines = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    before = entry.card.partition("\n\nHow right it is")[0].partition("\n")[2].strip()
    before = before.partition("\n| made from")[0]  # of a fit before this one

    def card(title: str) -> str:
        name, _, version = title.partition("@")
        return f"# {name}, version {version}\n\n{before}\n{lines}\n"

    return Draft(
        files={
            MODEL: entry.read(MODEL),
            SPEC: entry.read(SPEC),
            HEAD: write_head(fitted.head, fitted.byte_range),
            SUMS: fitted.sums.snapshot(),
            FIGURES: msgspec.json.encode(figures),
        },
        card=card,
        labels=fitted.head.labels,
        terms=entry.manifest.terms,
        size_px=spec.size[0],
        space=fitted.sums.space,
    )


def backbone_of(entry: ModelEntry) -> ImportedNetwork:
    """Open the network to fit a head for. Raises `Stop` for a classifier, which has its own labels."""
    network = open_network(entry)
    if network.spec.kind != "backbone":
        raise Stop(
            f"{entry.title} is a classifier and answers already; to learn labels of your own, import its pooled layer "
            "with --kind backbone"
        )
    return network
