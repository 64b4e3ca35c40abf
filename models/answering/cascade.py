"""The cascade decides whether an answer stands or the next tier sees the event too, and names the rule that decided.

The decision is one pure function over a table. The first rule that applies wins. The rule's name travels in the
result, so that a person can look up why a frame was sent on or stayed::

    >>> cat = Situation(tier=Tier.EDGE, wants=Rank.SPECIES, path=("animal", "Felidae"), probability=0.93, margin=0.88)
    >>> decide(cat)
    Decision(forward=True, rule='wants-species', reason='the stream wants species: ask the cloud')
    >>> from dataclasses import replace
    >>> decide(replace(cat, person=0.4, person_raised=True)).rule
    'person-in-frame'

`RULES` prints as documentation (`table()`); docs/architecture.md renders it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.messages import UNKNOWN, Rank, Tier

RISK_MARGIN = 0.65
"""If a stream wants a family and the best label leads the second by less than this, the cloud is asked.

The widest margin, in steps of 0.05, that sends on less than a quarter of the validation pictures of both packs: 6% of
the photos, 24% of those of 64x64 pixels. docs/models.md shows the gain.
"""

LEAVES = (("person",), ("other",))
"""Paths below which the tree has nothing: they answer every rank."""

NOTHING_LIVING = 0.85
"""At this probability of `other` there is nothing to name, and the frame goes no further."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The input of a decision."""

    tier: Tier
    wants: Rank
    path: tuple[str, ...]
    """The answer so far; empty where it is unknown."""
    probability: float
    margin: float
    """The lead of the best label over the second, at this tier's own rank."""
    person: float = 0.0
    """Probability that a person is in the frame."""
    person_raised: bool = False
    """`person` reaches the threshold that raises privacy levels, far below the threshold for answering `person`."""
    person_ago_s: float | None = None
    """Seconds since this stream last showed a person, while that counts: a person who turns away is still there."""
    may_leave: bool = True
    """Policy lets pixels (from the device) or the feature (from the edge) go to the next tier."""
    advice: str = ""
    """The setting that the owner would have to change so that it may."""
    person_miss_rate: float = 0.0
    """The share of persons that the device's model is known to miss; 0 for a model whose check pixels may leave by."""
    person_miss_rate_accepted: float = 0.0
    """The highest such share that the settings accept."""
    damage: str = ""
    """The part of the picture that is missing, in words; empty for a whole one."""
    known_here: tuple[str, ...] = ()
    """The path that the site's own labels make sure, from the kingdom down."""
    asked: str | None = None
    """The event of this sighting about which the next tier was asked before."""
    stands: str | None = None
    """The earlier event whose answer stands while nothing moves."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a rule. With `forward` the next tier may still refine the answer."""

    forward: bool
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class CascadeRule:
    """One row of the table."""

    name: str
    tiers: tuple[Tier, ...]
    forward: bool
    when: str
    applies: Callable[[Situation], bool]
    reason: Callable[[Situation], str]


def _next(tier: Tier) -> str:
    return {Tier.DEVICE: "the edge", Tier.EDGE: "the cloud", Tier.CLOUD: "nobody"}[tier]


def _label(situation: Situation) -> str:
    return situation.path[-1] if situation.path else UNKNOWN


_NEAR = (Tier.DEVICE, Tier.EDGE)
_DEPTHS = {Rank.KINGDOM: 1, Rank.FAMILY: 2, Rank.SPECIES: 3}

RULES: tuple[CascadeRule, ...] = (
    CascadeRule(
        "nothing-moved",
        (Tier.DEVICE,),
        False,
        "nothing moved since the picture before",
        lambda s: s.stands is not None,
        lambda s: f"nothing moved: the answer of event {s.stands} stands",
    ),
    CascadeRule(
        "person-in-frame",
        _NEAR,
        False,
        "a person may be in the frame",
        lambda s: s.person_raised,
        lambda s: f"a person may be in the frame ({s.person:.2f}): pixels and feature stay on the device",
    ),
    CascadeRule(
        "person-a-moment-ago",
        (Tier.DEVICE,),
        False,
        "a person was in the stream's frame within `device.person_hold_s`",
        lambda s: s.person_ago_s is not None,
        lambda s: f"a person was in the frame {s.person_ago_s:.1f} s ago: pixels and feature stay on the device",
    ),
    CascadeRule(
        "image-damaged",
        (Tier.DEVICE,),
        False,
        "a part of the picture is missing",
        lambda s: bool(s.damage),
        lambda s: f"{s.damage}, and a person may be in that part: pixels and feature stay on the device",
    ),
    CascadeRule(
        "wants-no-deeper",
        _NEAR,
        False,
        "only the kingdom is wanted",
        lambda s: s.wants is Rank.KINGDOM,
        lambda s: f"the stream wants {s.wants}: no need to ask further",
    ),
    CascadeRule(
        "nothing-living",
        _NEAR,
        False,
        f"`other` at {NOTHING_LIVING} or more",
        lambda s: _label(s) == "other" and s.probability >= NOTHING_LIVING,
        lambda s: f"nothing living to name ({s.probability:.2f} other)",
    ),
    CascadeRule(
        "site-knows",
        (Tier.EDGE,),
        False,
        "the site's own labels make an answer sure that is as deep as the stream wants",
        lambda s: bool(s.known_here) and (s.known_here in LEAVES or len(s.known_here) >= _DEPTHS[s.wants]),
        lambda s: f"labels of this site name {s.known_here[-1]} ({s.probability:.2f}): no need to ask",
    ),
    CascadeRule(
        "sure-of-family",
        (Tier.EDGE,),
        False,
        f"a family is wanted and leads by {RISK_MARGIN} or more",
        lambda s: s.wants is Rank.FAMILY and s.margin >= RISK_MARGIN and (len(s.path) > 1 or s.path in LEAVES),
        lambda s: f"margin {s.margin:.2f} >= {RISK_MARGIN}: {_label(s)} stands",
    ),
    CascadeRule(
        "already-asked",
        (Tier.EDGE,),
        False,
        "the cloud was asked about this sighting before",
        lambda s: s.asked is not None,
        lambda s: f"the cloud was asked about this sighting with event {s.asked}",
    ),
    CascadeRule(
        "policy-keeps-pixels",
        (Tier.DEVICE,),
        False,
        "policy keeps the stream's pixels on the device",
        lambda s: not s.may_leave,
        lambda s: f"policy keeps these pixels on the device{'; ' + s.advice if s.advice else ''}",
    ),
    CascadeRule(
        "policy-keeps-feature",
        (Tier.EDGE,),
        False,
        "policy keeps the stream's features at the site",
        lambda s: not s.may_leave,
        lambda s: f"policy keeps this feature at the site{'; ' + s.advice if s.advice else ''}",
    ),
    CascadeRule(
        "person-check-too-weak",
        (Tier.DEVICE,),
        False,
        "the device runs without the backbone, and its network misses more persons than `device.person_miss_rate` accepts",
        lambda s: s.person_miss_rate > s.person_miss_rate_accepted,
        lambda s: (
            f"this device's network misses {s.person_miss_rate:.1%} of persons, device.person_miss_rate accepts "
            f"{s.person_miss_rate_accepted:.1%}: pixels stay on the device; to let crops leave, write under [device]: "
            f"person_miss_rate = {math.ceil(s.person_miss_rate * 100) / 100:g}"
        ),
    ),
    CascadeRule(
        "ask-the-edge",
        (Tier.DEVICE,),
        True,
        "otherwise: the edge names the family",
        lambda _: True,
        lambda s: f"the stream wants {s.wants}: ask {_next(s.tier)}",
    ),
    CascadeRule(
        "wants-species",
        (Tier.EDGE,),
        True,
        "a species is wanted",
        lambda s: s.wants is Rank.SPECIES,
        lambda s: f"the stream wants {s.wants}: ask {_next(s.tier)}",
    ),
    CascadeRule(
        "margin-below-risk",
        (Tier.EDGE,),
        True,
        f"a family is wanted and the lead is below {RISK_MARGIN}",
        lambda _: True,
        lambda s: f"margin {s.margin:.2f} < {RISK_MARGIN}: ask {_next(s.tier)}",
    ),
    CascadeRule(
        "species-named",
        (Tier.CLOUD,),
        False,
        "a species reaches its threshold",
        lambda s: len(s.path) > 2,
        lambda s: f"{_label(s)} at {s.probability:.2f}",
    ),
    CascadeRule(
        "rolled-up",
        (Tier.CLOUD,),
        False,
        "no species does: the answer is the deepest rank that reaches its own threshold, never a guess",
        lambda _: True,
        lambda s: f"no species is sure enough: answered as {_label(s)} ({s.probability:.2f})",
    ),
)


def decide(situation: Situation) -> Decision:
    """Return the decision of the first rule that applies at this tier."""
    rule = next(r for r in RULES if situation.tier in r.tiers and r.applies(situation))
    return Decision(rule.forward, rule.name, rule.reason(situation))


def deeper(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """Return the answer after a later tier's. A tier that is not sure does not change the earlier answer.

    >>> deeper(("animal",), ())
    ('animal',)
    >>> deeper(("animal", "Canidae"), ("animal", "Felidae"))
    ('animal', 'Felidae')
    >>> deeper(("animal", "Felidae"), ("animal",))
    ('animal', 'Felidae')
    """
    if not now or tuple(before[: len(now)]) == tuple(now):
        return tuple(before)
    return tuple(now)


def contradicts(known_here: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether a later tier's answer leaves the path that a site is sure of, so that the site's answer stands.

    >>> contradicts(("animal", "Felidae"), ("animal", "Felidae", "Felis catus"))
    False
    >>> contradicts(("animal", "Felidae"), ("animal",))
    False
    >>> contradicts(("animal", "Felidae"), ("animal", "Canidae"))
    True
    """
    return any(here != there for here, there in zip(known_here, now, strict=False))


def rank_of(path: Sequence[str]) -> Rank:
    """Return the rank that a wildlife path reaches; leaves such as `person` answer at the kingdom."""
    return (Rank.KINGDOM, Rank.KINGDOM, Rank.FAMILY, Rank.SPECIES)[min(len(path), 3)]


def table() -> str:
    """Return the rules as a Markdown table, in the order in which they are tried."""
    rows = ["| rule | tier | goes on | when |", "| --- | --- | --- | --- |"]
    rows += [f"| `{r.name}` | {', '.join(r.tiers)} | {'yes' if r.forward else 'no'} | {r.when} |" for r in RULES]
    return "\n".join(rows)
