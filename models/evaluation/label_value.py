"""The value of labels in figures: accuracy before and after, by label, with mistakes and calibration.

Pure: a replay (`models.evaluation.replay`) in, a `ReplaySummary` out, which ``--json`` and ``--report`` print and
`render` shows. Where the truths of the answered frames are unknown, there are counts only.

Example::

    print(render(summary(sequence, done)))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from models.answering.cascade import LEAVES
from models.evaluation.frame_sequence import FrameSequence
from models.evaluation.metrics import Rate, rate
from models.evaluation.replay import Replay, SpeciesByMethod
from models.evaluation.report import percent
from models.heads.linear import Floats
from models.labels.calibration import expected_calibration_error
from models.labels.taxonomy import RANKS, Taxonomy, deepest_rank, label_at
from models.vision.tier_models import rolled

WAYS: dict[str, Callable[[SpeciesByMethod], Floats]] = {
    "general, whole frame": lambda species: species.whole,
    "general, what moved": lambda species: species.moved,
    "learned": lambda species: species.learned,
}
CONFUSIONS_SHOWN = 10


class MethodFigures(msgspec.Struct, frozen=True):
    """One method, over the frames whose truth reaches a rank: how often the likeliest label at that rank is right."""

    way: str
    rank: str
    right: Rate
    calibration_error: float


class LabelRecall(msgspec.Struct, frozen=True):
    """Share of a label's frames whose likeliest label at its rank is right, by method."""

    label: str
    right: dict[str, Rate]


class Mistake(msgspec.Struct, frozen=True):
    """Number of frames of one label that the learned head takes for another, at the label's rank."""

    true: str
    answered: str
    frames: int


class ReplaySummary(msgspec.Struct, frozen=True):
    """The last line of ``--json``.

    `share` and `temperature` are the weights of the site's head and the general one; `ms` is the median and the
    maximum of the increments. `named` are the frames with an answer as deep as their truth, `named_right` those of
    them that are right; they and the last three are empty where not all frames had labels.
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
    """Return the figures of a replay."""
    rules = Counter(verdict.rule for verdict in done.verdicts)
    local = done.local
    deep = [sequence.tree.path(label) for label in done.truths]
    named = [
        answer.path[: len(truth)] == truth
        for answer, truth in zip(done.answers, deep, strict=bool(deep))
        if len(answer.path) >= len(truth) or answer.path[:1] in LEAVES
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
        answered=dict(Counter(answer.rule for answer in done.answers)),
        left_out=(*sequence.left_out, *done.left_out),
        named=rate(len(named), len(deep)) if deep else None,
        named_right=rate(sum(named), len(named)) if deep else None,
        ways=tuple(_ways(sequence.tree, done)),
        of_labels=tuple(_of_labels(sequence.tree, done)),
        confusions=tuple(_confusions(sequence.tree, done)),
    )


def _at_rank(tree: Taxonomy, species: Floats, rank: str) -> tuple[str, float]:
    """Return the likeliest label at a rank, and its probability."""
    return next(scores for scores in rolled(tree, species) if scores.rank == rank).best


def _ways(tree: Taxonomy, done: Replay) -> Iterator[MethodFigures]:
    for rank in RANKS:
        reach = [
            (truth, ways)
            for label, ways in zip(done.truths, done.ways, strict=True)
            if (truth := label_at(tree, label, rank))
        ]
        for name, of in WAYS.items() if reach else ():
            best = [_at_rank(tree, of(ways), rank) for _, ways in reach]
            right = np.array([label == truth for (label, _), (truth, _) in zip(best, reach, strict=True)])
            error = expected_calibration_error(np.array([p for _, p in best]), right)
            yield MethodFigures(name, rank, rate(int(right.sum()), len(right)), round(error, 4))


def _of_labels(tree: Taxonomy, done: Replay) -> Iterator[LabelRecall]:
    for label in sorted(set(done.truths)):
        frames = [ways for truth, ways in zip(done.truths, done.ways, strict=True) if truth == label]
        rank = deepest_rank(tree, label)
        yield LabelRecall(
            label,
            {
                name: rate(sum(_at_rank(tree, of(ways), rank)[0] == label for ways in frames), len(frames))
                for name, of in WAYS.items()
            },
        )


def _confusions(tree: Taxonomy, done: Replay) -> Iterator[Mistake]:
    pairs = Counter(
        (truth, _at_rank(tree, ways.learned, deepest_rank(tree, truth))[0])
        for truth, ways in zip(done.truths, done.ways, strict=True)
    )
    for (true, answered), frames in pairs.most_common():
        if true != answered:
            yield Mistake(true, answered, frames)


def render(figures: ReplaySummary) -> str:
    """Return the summary as Markdown, for a terminal or a page."""
    return "\n".join(_lines(figures)) + "\n"


def _lines(figures: ReplaySummary) -> Iterator[str]:
    learned = ", ".join(f"{label} {count}" for label, count in figures.labels.items())
    yield f"**{figures.model}**, from {figures.lessons:,} labelled visits of {figures.visits:,} ({figures.frames:,} frames): {learned}"
    yield ""
    yield (
        f"* {figures.taken} taken, {figures.held_back} held back to judge the others, {figures.refused} refused; "
        f"{figures.ms[0]:g} ms each, {figures.ms[1]:g} at most"
    )
    yield f"* the general head counts {figures.share:g} beside the site's, both at temperature {figures.temperature:g}"
    if not figures.timed:
        yield "* not every frame has a time: they are ordered by name, and each is a visit of its own unless the CSV names figures event"
    if figures.named and figures.named_right:
        yield (
            f"* an answer as deep as the truth stands in {percent(figures.named)} of the frames and is right in "
            f"{percent(figures.named_right)} of those"
        )
    if figures.ways:
        yield from ("", f"| likeliest label right | {' | '.join(WAYS)} |", "| --- | ---: | ---: | ---: |")
        for rank in RANKS:
            cells = [
                f"{percent(way.right)} (ECE {way.calibration_error:.2f})" for way in figures.ways if way.rank == rank
            ]
            if cells:
                yield f"| {rank} | {' | '.join(cells)} |"
        for of in figures.of_labels:
            yield f"| {of.label} | {' | '.join(percent(of.right[name]) for name in WAYS)} |"
    if figures.confusions:
        yield from ("", "| taken for another | frames |", "| --- | ---: |")
        for each in figures.confusions[:CONFUSIONS_SHOWN]:
            yield f"| {each.true} as {each.answered} | {each.frames} |"
