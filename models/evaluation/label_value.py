"""What labels were worth, as figures: before and after, by label, what is taken for what, how honest the probabilities are.

Pure: a replay (`models.evaluation.replay`) in, a `ReplaySummary` out, which ``--json`` and ``--report`` print and `render` shows. Without the
truths of the frames that were answered there are counts only.

Example::

    print(render(summary(sequence, done)))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from models.evaluation.frame_sequence import FrameSequence
from models.evaluation.metrics import LEAVES, Rate, rate
from models.evaluation.replay import Replay, SpeciesByMethod
from models.evaluation.report import percent
from models.heads.linear import Floats
from models.labels.calibration import expected_calibration_error
from models.labels.taxonomy import RANKS, Taxonomy
from models.vision.tier_models import rolled

WAYS: dict[str, Callable[[SpeciesByMethod], Floats]] = {
    "general, whole frame": lambda its: its.whole,
    "general, what moved": lambda its: its.moved,
    "learned": lambda its: its.learned,
}
CONFUSIONS_SHOWN = 10


class MethodFigures(msgspec.Struct, frozen=True):
    """One way of answering, over the frames whose truth reaches a rank: the likeliest label there is right."""

    way: str
    rank: str
    right: Rate
    calibration_error: float


class LabelRecall(msgspec.Struct, frozen=True):
    """Of the frames of one label: those in which it is the likeliest at its rank, by way."""

    label: str
    right: dict[str, Rate]


class Mistake(msgspec.Struct, frozen=True):
    """How many frames of one label were taken for another by what was learned, at the label's rank."""

    true: str
    answered: str
    frames: int


class ReplaySummary(msgspec.Struct, frozen=True):
    """The last line of ``--json``.

    `share` and `temperature` are how the site's head and the general one are weighed; `ms` an increment's median and the
    largest. `named` are the frames whose answer that stands is as deep as their truth, `named_right` those of them that are right;
    they and the last three are empty where not all frames had labels.
    """

    model: str
    frames: int
    visits: int
    timed: bool
    lessons: int
    labels: dict[str, int]
    taken: int
    held_back: int
    refused: int
    share: float
    temperature: float
    ms: tuple[float, float]
    answered: dict[str, int]
    left_out: tuple[str, ...]
    named: Rate | None = None
    named_right: Rate | None = None
    ways: tuple[MethodFigures, ...] = ()
    of_labels: tuple[LabelRecall, ...] = ()
    confusions: tuple[Mistake, ...] = ()


def summary(sequence: FrameSequence, done: Replay) -> ReplaySummary:
    """The figures of a replay."""
    rules = Counter(verdict.rule for verdict in done.verdicts)
    local = done.local
    deep = [sequence.tree.path(label) for label in done.truths]
    named = [
        its.path[: len(truth)] == truth
        for its, truth in zip(done.answers, deep, strict=bool(deep))
        if len(its.path) >= len(truth) or its.path[:1] in LEAVES
    ]
    return ReplaySummary(
        model=local.name,
        frames=sum(len(event.frames) for event in sequence.events),
        visits=len(sequence.events),
        timed=sequence.timed,
        lessons=len(done.verdicts),
        labels=dict(Counter(lesson.label for lesson in local.lessons)),
        taken=rules["taken"],
        held_back=rules["held-back"],
        refused=rules["refused"],
        share=local.weighing.share,
        temperature=round(local.weighing.temperature, 3),
        ms=(round(float(np.median(done.ms)), 2), round(max(done.ms), 2)) if done.ms else (0.0, 0.0),
        answered=dict(Counter(its.rule for its in done.answers)),
        left_out=(*sequence.left_out, *done.left_out),
        named=rate(len(named), len(deep)) if deep else None,
        named_right=rate(sum(named), len(named)) if deep else None,
        ways=tuple(_ways(sequence.tree, done)),
        of_labels=tuple(_of_labels(sequence.tree, done)),
        confusions=tuple(_confusions(sequence.tree, done)),
    )


def _at_rank(tree: Taxonomy, species: Floats, rank: str) -> tuple[str, float]:
    """The likeliest label at a rank; a leaf counts at every rank."""
    return next(scores for scores in rolled(tree, species) if scores.rank == rank).best


def _truth_at(tree: Taxonomy, label: str, rank: str) -> str | None:
    """What a label is at a rank; None where it does not reach it. The leaves `person` and `other` reach all."""
    path, depth = tree.path(label), RANKS.index(rank)
    if len(path) == 1 and label in tree.species:
        return label
    return path[depth] if depth < len(path) else None


def _ways(tree: Taxonomy, done: Replay) -> Iterator[MethodFigures]:
    for rank in RANKS:
        reach = [
            (truth, ways)
            for label, ways in zip(done.truths, done.ways, strict=True)
            if (truth := _truth_at(tree, label, rank))
        ]
        for name, of in WAYS.items() if reach else ():
            said = [_at_rank(tree, of(ways), rank) for _, ways in reach]
            right = np.array([label == truth for (label, _), (truth, _) in zip(said, reach, strict=True)])
            error = expected_calibration_error(np.array([p for _, p in said]), right)
            yield MethodFigures(name, rank, rate(int(right.sum()), len(right)), round(error, 4))


def _rank(tree: Taxonomy, label: str) -> str:
    return "species" if label in tree.species else tree.rank(label)


def _of_labels(tree: Taxonomy, done: Replay) -> Iterator[LabelRecall]:
    for label in sorted(set(done.truths)):
        its = [ways for truth, ways in zip(done.truths, done.ways, strict=True) if truth == label]
        yield LabelRecall(
            label,
            {
                name: rate(
                    sum(_at_rank(tree, of(ways), _rank(tree, label))[0] == label for ways in its), len(its)
                )
                for name, of in WAYS.items()
            },
        )


def _confusions(tree: Taxonomy, done: Replay) -> Iterator[Mistake]:
    pairs = Counter(
        (truth, _at_rank(tree, ways.learned, _rank(tree, truth))[0])
        for truth, ways in zip(done.truths, done.ways, strict=True)
    )
    for (true, said), frames in pairs.most_common():
        if true != said:
            yield Mistake(true, said, frames)


def render(its: ReplaySummary) -> str:
    """The summary as Markdown, for a terminal or a page."""
    return "\n".join(_lines(its)) + "\n"


def _lines(its: ReplaySummary) -> Iterator[str]:
    learned = ", ".join(f"{label} {count}" for label, count in its.labels.items())
    yield f"**{its.model}**, from {its.lessons:,} labelled visits of {its.visits:,} ({its.frames:,} frames): {learned}"
    yield ""
    yield (
        f"* {its.taken} taken, {its.held_back} held back to judge the others, {its.refused} refused; "
        f"{its.ms[0]:g} ms each, {its.ms[1]:g} at most"
    )
    yield f"* the general head counts {its.share:g} beside the site's, both at temperature {its.temperature:g}"
    if not its.timed:
        yield "* not every frame has a time: they go by name, and each is a visit of its own unless the CSV names its event"
    if its.named and its.named_right:
        yield (
            f"* an answer as deep as the truth stands in {percent(its.named)} of the frames and is right in "
            f"{percent(its.named_right)} of those"
        )
    if its.ways:
        yield from ("", f"| likeliest label right | {' | '.join(WAYS)} |", "| --- | ---: | ---: | ---: |")
        for rank in RANKS:
            cells = [
                f"{percent(way.right)} (ECE {way.calibration_error:.2f})"
                for way in its.ways
                if way.rank == rank
            ]
            if cells:
                yield f"| {rank} | {' | '.join(cells)} |"
        for of in its.of_labels:
            yield f"| {of.label} | {' | '.join(percent(of.right[name]) for name in WAYS)} |"
    if its.confusions:
        yield from ("", "| taken for another | frames |", "| --- | ---: |")
        for each in its.confusions[:CONFUSIONS_SHOWN]:
            yield f"| {each.true} as {each.answered} | {each.frames} |"
