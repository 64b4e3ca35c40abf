"""How right the tiers are on labelled photos: accuracy by rank when they answer, how often they do, and at what price.

Photos come from a folder with a subfolder a label (``tiger/1.jpg``), or from a CSV with the columns `path` and `label`.
Labels may be scientific, English or the packs' names, of any rank: a photo that is only known to be `Felidae` counts at
family and kingdom. What cannot be read or has an unknown label ends the evaluation with the full list, before it starts.

Example::

    report = evaluate(read_photos(Path("photos")), load_zoo())
    print(render(report))

Each photo goes the road of a first frame: the device's eye, its crop as JPEG, the edge's eye, its vector, the cloud's.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import images
from models.calibrate import UNKNOWN, answer, expected_calibration_error
from models.registry import Zoo
from models.scores import Scores
from models.taxonomy import RANKS, Taxonomy, load_taxonomy
from pipeline.errors import Rejected, Stop

TIERS = ("device", "edge", "cloud")
PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
# What the device decodes of a frame and sends of a crop (agents use the same).
FRAME_PX, CROP_PX = 448, 320
# Nothing lies below these: they answer every rank.
LEAVES = (("person",), ("other",))
# A list of what is wrong is read by a person.
COMPLAINTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo: its bytes, what to call it in a complaint, and the path of its label in the tree."""

    name: str
    data: bytes
    truth: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtRank:
    """Of `photos` with a truth at a rank: how many were answered at it or deeper, and how many of those rightly."""

    photos: int
    answered: int
    right: int
    best_right: int
    calibration_error: float

    @property
    def accuracy_when_answered(self) -> float:
        return self.right / self.answered if self.answered else 0.0

    @property
    def share_answered(self) -> float:
        return self.answered / self.photos if self.photos else 0.0

    @property
    def accuracy_if_forced(self) -> float:
        """Of all photos, how often the likeliest label was right."""
        return self.best_right / self.photos if self.photos else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """`ranks` by (tier, rank); `confusions` are (true family, answered family) with their counts, most frequent first."""

    photos: int
    ranks: Mapping[tuple[str, str], AtRank]
    confusions: tuple[tuple[tuple[str, str], int], ...]
    person_recall: float | None
    person_false_alarms: float | None
    ms: Mapping[str, float]
    bytes: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the tiers said of one photo."""

    truth: tuple[str, ...]
    scores: Mapping[str, tuple[Scores, ...]]
    person_raised: bool
    ms: Mapping[str, float]
    bytes: Mapping[str, int]


def read_photos(source: Path, tree: Taxonomy | None = None) -> list[Photo]:
    """Photos of a folder or a CSV. Raises `Stop` with what is wrong: no photos, unreadable files, unknown labels."""
    tree = tree or load_taxonomy()
    found, complaints = [], []
    for path, label in _listed(source):
        try:
            data = path.read_bytes()
            images.inspect(data)
            found.append(Photo(str(path), data, tree.path(tree.find(label))))
        except OSError as error:
            complaints.append(f"{path}: {error.strerror}")
        except Rejected as error:
            complaints.append(f"{path}: {error}")
    if complaints:
        more = (
            f"\nand {len(complaints) - COMPLAINTS_SHOWN} more" if len(complaints) > COMPLAINTS_SHOWN else ""
        )
        raise Stop(f"{source} cannot be evaluated:\n" + "\n".join(complaints[:COMPLAINTS_SHOWN]) + more)
    if not found:
        raise Stop(
            f"{source} holds no photos; give a folder with a subfolder a label, or a CSV with path,label"
        )
    return found


def _listed(source: Path) -> Iterator[tuple[Path, str]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in PHOTOS:
                yield path, path.parent.name
        return
    try:
        with source.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise Stop(f"{source} needs the columns path and label; it has {rows.fieldnames or 'none'}")
            for row in rows:
                yield source.parent / row["path"], row["label"]
    except OSError as error:
        raise Stop(f"{source} cannot be read: {error.strerror}") from error


def evaluate(photos: Iterable[Photo], zoo: Zoo, thresholds: Mapping[str, float] | None = None) -> Report:
    """Sends every photo through the three eyes and counts; `thresholds` are the model's own without others."""
    tree, thresholds = load_taxonomy(), thresholds or zoo.thresholds()
    seen = list(_see(photos, zoo))
    ranks = {
        (tier, rank): _at_rank(tree, seen, tier, rank, thresholds)
        for tier, known in zip(TIERS, (1, 2, 3), strict=True)
        for rank in RANKS[:known]
    }
    people = np.array([its.truth[0] == "person" for its in seen])
    raised = np.array([its.person_raised for its in seen])
    return Report(
        photos=len(seen),
        ranks=ranks,
        confusions=_confusions(tree, seen, thresholds),
        person_recall=float(raised[people].mean()) if people.any() else None,
        person_false_alarms=float(raised[~people].mean()) if (~people).any() else None,
        ms={tier: float(np.median([its.ms[tier] for its in seen])) for tier in TIERS},
        bytes={
            hop: float(np.median([its.bytes[hop] for its in seen]))
            for hop in ("device to edge", "edge to cloud")
        },
    )


def _see(photos: Iterable[Photo], zoo: Zoo) -> Iterator[_Seen]:
    device, edge, cloud = zoo.device_eye(), zoo.edge_eye(), zoo.cloud_eye()
    for photo in photos:
        first = device.see(images.decode(photo.data, at_least_px=FRAME_PX))
        sent = images.encode_jpeg(
            images.shrink(
                images.crop(images.decode(photo.data, at_least_px=FRAME_PX), first.crop_box), CROP_PX
            )
        )
        second = edge.see(images.decode(sent))
        third = cloud.see(second.vector)
        yield _Seen(
            photo.truth,
            {
                "device": (first.kingdom,),
                "edge": (second.family, second.kingdom),
                "cloud": (third.species, third.family, third.kingdom),
            },
            first.person_raised,
            {"device": first.ms, "edge": second.ms, "cloud": third.ms},
            {"device to edge": len(sent), "edge to cloud": second.vector.nbytes},
        )


def _at_rank(
    tree: Taxonomy, seen: Sequence[_Seen], tier: str, rank: str, thresholds: Mapping[str, float]
) -> AtRank:
    depth = RANKS.index(rank)
    photos = answered = right = 0
    confidence: list[float] = []
    correct: list[bool] = []
    for its in seen:
        if len(its.truth) <= depth and its.truth not in LEAVES:
            continue
        photos += 1
        found = answer(tree, its.scores[tier], thresholds)
        stands = found.label != UNKNOWN and (len(found.path) > depth or found.path in LEAVES)
        answered += stands
        right += stands and _agree(found.path, its.truth, depth)
        best, probability = next(scores.best for scores in its.scores[tier] if scores.rank == rank)
        confidence.append(probability)
        correct.append(_agree(tree.path(best), its.truth, depth))
    return AtRank(
        photos,
        answered,
        right,
        sum(correct),
        expected_calibration_error(np.array(confidence), np.array(correct)) if photos else 0.0,
    )


def _agree(path: Sequence[str], truth: Sequence[str], depth: int) -> bool:
    return tuple(path[: depth + 1]) == tuple(truth[: depth + 1])


def _confusions(
    tree: Taxonomy, seen: Sequence[_Seen], thresholds: Mapping[str, float]
) -> tuple[tuple[tuple[str, str], int], ...]:
    wrong: Counter[tuple[str, str]] = Counter()
    for its in seen:
        path = answer(tree, its.scores["edge"], thresholds).path
        if path and not _agree(path, its.truth, min(len(path), 2) - 1):
            wrong[its.truth[min(1, len(its.truth) - 1)], path[min(1, len(path) - 1)]] += 1
    return tuple(wrong.most_common(COMPLAINTS_SHOWN))


def render(report: Report) -> str:
    """The report as Markdown tables."""
    lines = [
        f"{report.photos} photos",
        "",
        "| tier | rank | right when answered | answered | likeliest right | calibration error |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {tier} | {rank} | {its.accuracy_when_answered:.1%} | {its.share_answered:.1%} | "
        f"{its.accuracy_if_forced:.1%} | {its.calibration_error:.3f} |"
        for (tier, rank), its in report.ranks.items()
    ]
    lines += ["", "| | median |", "| --- | ---: |"]
    lines += [f"| {tier}, ms | {value:.1f} |" for tier, value in report.ms.items()]
    lines += [f"| {hop}, bytes | {value:,.0f} |" for hop, value in report.bytes.items()]
    if report.person_recall is not None:
        lines.append(f"| persons raised | {report.person_recall:.1%} |")
    if report.person_false_alarms is not None:
        lines.append(f"| raised without a person | {report.person_false_alarms:.1%} |")
    if report.confusions:
        lines += ["", "| true | answered | photos |", "| --- | --- | ---: |"]
        lines += [f"| {truth} | {said} | {count} |" for (truth, said), count in report.confusions]
    return "\n".join(lines) + "\n"
