"""Figures of an evaluation: right when answered, share answered, calibration of the probabilities, and costs.

Pure: outcomes (`models.evaluation.evaluate`) in, an `EvaluationReport` out, which ``--json`` prints,
`models.evaluation.report` renders and `models.evaluation.plots` draws. Rates carry their 95% interval (Clopper &
Pearson 1934), so that a reader sees how far a figure over twenty photos can be trusted.

Example::

    report = measure(evaluate(photos))
    report.at("edge", "family").right.share      # 0.974 of what was answered
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np

from models.answering import cascade
from models.evaluation.evaluate import HOPS, TIERS, Evaluation, PhotoOutcome, TierOutcome
from models.labels.calibration import UNKNOWN, error_bound, expected_calibration_error
from models.labels.taxonomy import KINGDOMS, RANKS, Taxonomy, load_taxonomy
from pipeline.messages import Rank

CERTAINTY = 0.95
# Points of a curve and bins of a reliability diagram, enough for a picture.
CURVE_POINTS, BINS = 60, 15
# The rank that each tier is there to name.
OWN_RANK = {"device": "kingdom", "edge": "family", "cloud": "species"}


class Rate(msgspec.Struct, frozen=True):
    """`count` of `of`, as a share with its 95% interval."""

    count: int
    of: int
    share: float
    low: float
    high: float


class AtRank(msgspec.Struct, frozen=True):
    """Figures over the photos whose truth reaches a rank.

    `answered` counts answers at the rank or deeper, `right` the right ones of those, `likeliest` the photos whose
    likeliest label is right.

    `calibration_error` is the expected gap between probability and accuracy; `reliability` its bins (mean probability,
    share right, photos); `curve` is (share answered, share right of those), the surest photos first.
    """

    tier: str
    rank: str
    photos: int
    answered: Rate
    right: Rate
    likeliest: Rate
    calibration_error: float
    reliability: tuple[tuple[float, float, int], ...]
    curve: tuple[tuple[float, float], ...]


class Confusion(msgspec.Struct, frozen=True):
    """Photos of a family by the edge's answer: a family, a kingdom where it rolled up, or `unknown`."""

    true: str
    answered: str
    photos: int


class Recall(msgspec.Struct, frozen=True):
    """Recall of a label's photos: `answered` right at its rank, and the `likeliest` label right."""

    label: str
    photos: int
    answered: Rate
    likeliest: Rate


class Persons(msgspec.Struct, frozen=True):
    """Shares of photos, with and without a person, that raise the level at a tier. None if there are no such photos.

    The edge is asked about every photo here, though a device keeps photos in which it finds a person itself.
    """

    tier: str
    recall: Rate | None
    false_alarms: Rate | None


class Spread(msgspec.Struct, frozen=True):
    """Median and 95th percentile."""

    p50: float
    p95: float


class Forwards(msgspec.Struct, frozen=True):
    """Share of all events that each tier hands to the next one under a stream's `wants`, where policy lets it."""

    wants: str
    device: Rate
    edge: Rate


class StillFrames(msgspec.Struct, frozen=True):
    """Those of a fixed camera's frames in which nothing moved, so that an earlier answer stands."""

    apart_s: float
    stands: Rate


class EvaluationReport(msgspec.Struct, frozen=True):
    """All figures of an evaluation.

    `families` is the whole confusion matrix, most frequent first; `species` are those of the group, worst first.
    """

    photos: int
    models: Mapping[str, str]
    ranks: tuple[AtRank, ...]
    kingdoms: tuple[Recall, ...]
    persons: tuple[Persons, ...]
    species: tuple[Recall, ...]
    group: Recall | None
    families: tuple[Confusion, ...]
    forwards: tuple[Forwards, ...]
    ms: Mapping[str, Spread]
    bytes: Mapping[str, Spread]
    motion: StillFrames | None
    left_out: tuple[str, ...]

    def at(self, tier: str, rank: str) -> AtRank:
        """Return one row."""
        return next(row for row in self.ranks if (row.tier, row.rank) == (tier, rank))


def measure(
    done: Evaluation, *, group: Sequence[str] = (), left_out: Sequence[str] = (), tree: Taxonomy | None = None
) -> EvaluationReport:
    """Count the outcomes. `group` are labels of any rank whose species are listed; without it all species are."""
    tree, outcomes = tree or load_taxonomy(), done.outcomes
    named = _of_group(tree, outcomes, group)
    return EvaluationReport(
        photos=len(outcomes),
        models=done.models,
        ranks=tuple(
            _at_rank(tree, outcomes, tier, rank) for depth, tier in enumerate(TIERS, 1) for rank in RANKS[:depth]
        ),
        kingdoms=tuple(
            _recall(tree, kingdom, of_kingdom, "device", 0)
            for kingdom in KINGDOMS
            if (of_kingdom := [outcome for outcome in outcomes if outcome.truth[0] == kingdom])
        ),
        persons=(
            _persons("device", outcomes, [outcome.device.person_raised for outcome in outcomes]),
            _persons("edge", outcomes, [outcome.edge.person_raised for outcome in outcomes]),
        ),
        species=tuple(
            sorted(
                (_recall(tree, label, photos, "cloud", 2) for label, photos in named.items()),
                key=lambda recall: (recall.likeliest.share, recall.label),
            )
        ),
        group=_recall(tree, ", ".join(group), [photo for photos in named.values() for photo in photos], "cloud", 2)
        if group
        else None,
        families=_families(outcomes),
        forwards=tuple(_forwards(done, wants) for wants in (Rank.KINGDOM, Rank.FAMILY, Rank.SPECIES)),
        ms={tier: _spread(outcome.ms[tier] for outcome in outcomes if outcome.ms) for tier in TIERS},
        bytes={hop: _spread(outcome.sent[hop] for outcome in outcomes if outcome.sent) for hop in HOPS},
        motion=None
        if done.apart_s is None
        else StillFrames(done.apart_s, rate(sum(outcome.stands for outcome in outcomes), len(outcomes))),
        left_out=(*left_out, *done.left_out),
    )


@cache
def rate(count: int, of: int) -> Rate:
    """Return a share with its two-sided Clopper-Pearson interval; 0 of 0 lies between 0 and 1.

    >>> share = rate(188, 190)
    >>> round(share.share, 3), round(share.low, 3), round(share.high, 3)
    (0.989, 0.962, 0.999)
    """
    sided = 1 - (1 - CERTAINTY) / 2
    low = 1 - error_bound(of - count, of, sided) if of else 0.0
    return Rate(count, of, count / of if of else 0.0, low, error_bound(count, of, sided))


def _agree(path: Sequence[str], truth: Sequence[str], depth: int) -> bool:
    return tuple(path[: depth + 1]) == tuple(truth[: depth + 1])


def _reaches(path: tuple[str, ...], depth: int) -> bool:
    """Return whether a path reaches a rank: it is that long, or a leaf."""
    return len(path) > depth or path in cascade.LEAVES


def _at_rank(tree: Taxonomy, outcomes: Sequence[PhotoOutcome], tier: str, rank: str) -> AtRank:
    depth = RANKS.index(rank)
    known = [(each, each.tiers[tier]) for each in outcomes if _reaches(each.truth, depth)]
    answered = [(each, answer) for each, answer in known if _reaches(answer.path, depth)]
    confidence = np.array([answer.likeliest[rank][1] for _, answer in known])
    correct = np.array([_likeliest_right(tree, each, answer, depth) for each, answer in known], bool)
    return AtRank(
        tier,
        rank,
        len(known),
        rate(len(answered), len(known)),
        rate(sum(_agree(answer.path, each.truth, depth) for each, answer in answered), len(answered)),
        rate(int(correct.sum()), len(known)),
        round(expected_calibration_error(confidence, correct), 4) if known else 0.0,
        _reliability(confidence, correct),
        _curve(confidence, correct),
    )


def _likeliest_right(tree: Taxonomy, each: PhotoOutcome, answer: TierOutcome, depth: int) -> bool:
    return _agree(tree.path(answer.likeliest[RANKS[depth]][0]), each.truth, depth)


def _reliability(confidence: np.ndarray, correct: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        (
            round(float(confidence[at == b].mean()), 4),
            round(float(correct[at == b].mean()), 4),
            int((at == b).sum()),
        )
        for b in range(BINS)
        if (at == b).any()
    )


def _curve(confidence: np.ndarray, correct: np.ndarray) -> tuple[tuple[float, float], ...]:
    if not len(correct):
        return ()
    right = np.cumsum(correct[np.argsort(-confidence, kind="stable")])
    answered = np.unique(np.linspace(1, len(correct), CURVE_POINTS).round().astype(int))
    return tuple((round(n / len(correct), 4), round(float(right[n - 1]) / n, 4)) for n in answered.tolist())


def _recall(tree: Taxonomy, label: str, outcomes: Sequence[PhotoOutcome], tier: str, depth: int) -> Recall:
    right = sum(
        _reaches(outcome.tiers[tier].path, depth) and _agree(outcome.tiers[tier].path, outcome.truth, depth)
        for outcome in outcomes
    )
    likeliest = sum(_likeliest_right(tree, outcome, outcome.tiers[tier], depth) for outcome in outcomes)
    return Recall(label, len(outcomes), rate(right, len(outcomes)), rate(likeliest, len(outcomes)))


def _of_group(
    tree: Taxonomy, outcomes: Sequence[PhotoOutcome], group: Sequence[str]
) -> Mapping[str, list[PhotoOutcome]]:
    """Return the photos with a known species by species, of the group alone if there is one. Raises `UnknownLabel`."""
    wanted = {tree.path(tree.find(label)) for label in group}
    found: dict[str, list[PhotoOutcome]] = defaultdict(list)
    for each in outcomes:
        if len(each.truth) == len(RANKS) and (not wanted or any(each.truth[: len(path)] == path for path in wanted)):
            found[each.truth[-1]].append(each)
    return found


def _persons(tier: str, outcomes: Sequence[PhotoOutcome], raised: Sequence[bool]) -> Persons:
    with_one = [up for outcome, up in zip(outcomes, raised, strict=True) if outcome.truth[0] == "person"]
    without = [up for outcome, up in zip(outcomes, raised, strict=True) if outcome.truth[0] != "person"]
    return Persons(
        tier,
        rate(sum(with_one), len(with_one)) if with_one else None,
        rate(sum(without), len(without)) if without else None,
    )


def _families(outcomes: Sequence[PhotoOutcome]) -> tuple[Confusion, ...]:
    """Count the photos with a known family by the edge's answer; a leaf counts as a family."""
    pairs = Counter(
        (_at_family(outcome.truth), _at_family(outcome.tiers["edge"].path))
        for outcome in outcomes
        if _reaches(outcome.truth, 1)
    )
    return tuple(Confusion(true, answered, count) for (true, answered), count in pairs.most_common())


def _at_family(path: tuple[str, ...]) -> str:
    return path[min(1, len(path) - 1)] if path else UNKNOWN


def _forwards(done: Evaluation, wants: Rank) -> Forwards:
    def goes_on(situation: cascade.Situation) -> bool:
        return cascade.decide(replace(situation, wants=wants)).forward

    outcomes = done.outcomes
    at_edge = [outcome for outcome in outcomes if goes_on(outcome.device)]
    at_cloud = [outcome for outcome in at_edge if goes_on(outcome.edge)]
    return Forwards(wants.value, rate(len(at_edge), len(outcomes)), rate(len(at_cloud), len(outcomes)))


def _spread(values: Iterable[float]) -> Spread:
    p50, p95 = np.percentile(np.fromiter(values, float), (50, 95))
    return Spread(round(float(p50), 2), round(float(p95), 2))
