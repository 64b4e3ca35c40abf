"""The cascade: may this answer stand, or does the next tier see the event too? And which rule said so.

The decision is one pure function over a table. The first rule that applies wins; its name travels in the result, so
that a person can look up why a frame went on, or why it stayed::

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
"""Where the stream wants a family, an answer whose best label leads the second by less asks the cloud.

The widest, in steps of 0.05, that sends on less than a quarter of the validation pictures of both packs: 6% of the
photos, 24% of those of 64x64 pixels. docs/models.md tells what it buys.
"""

LEAVES = (("person",), ("other",))
"""Answers below which the tree has no family."""

NOTHING_LIVING = 0.85
"""At this probability of `other` there is nothing to name: the frame stays where it is."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the decision depends on."""

    tier: Tier
    wants: Rank
    path: tuple[str, ...]
    """The answer so far; empty: unknown."""
    probability: float
    margin: float
    """By how much the best label leads the second, at this tier's own rank."""
    person: float = 0.0
    """Probability that a person is in the frame."""
    person_raised: bool = False
    """Whether that is above the level-raising threshold, which is far below the one for answering `person`."""
    person_ago_s: float | None = None
    """Since a person was last seen by this stream, while that still counts: who turns away has not left."""
    may_leave: bool = True
    """Whether policy lets pixels (from the device) or the feature (from the edge) go to the next tier."""
    advice: str = ""
    """What the owner would have to change so that it may."""
    person_miss_rate: float = 0.0
    """The share of persons that the device's eye is known to miss; 0: pixels may leave by its word."""
    person_miss_rate_accepted: float = 0.0
    """What the settings accept of that."""
    known_here: tuple[str, ...] = ()
    """As far as the site's own labels make it sure, from the kingdom down."""
    asked: str | None = None
    """The event of this sighting about which the next tier was asked already."""
    stands: str | None = None
    """The event whose answer stands while nothing moves."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`forward`: the next tier may still refine the answer."""

    forward: bool
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
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

RULES: tuple[Rule, ...] = (
    Rule(
        "nothing-moved",
        (Tier.DEVICE,),
        False,
        "the picture is the one before",
        lambda s: s.stands is not None,
        lambda s: f"nothing moved: the answer of event {s.stands} stands",
    ),
    Rule(
        "person-in-frame",
        _NEAR,
        False,
        "a person may be in the frame",
        lambda s: s.person_raised,
        lambda s: f"a person may be in the frame ({s.person:.2f}): pixels and feature stay on the device",
    ),
    Rule(
        "person-a-moment-ago",
        (Tier.DEVICE,),
        False,
        "a person was in the stream's frame within `device.person_hold_s`",
        lambda s: s.person_ago_s is not None,
        lambda s: (
            f"a person was in the frame {s.person_ago_s:.1f} s ago: pixels and feature stay on the device"
        ),
    ),
    Rule(
        "wants-no-deeper",
        _NEAR,
        False,
        "only the kingdom is wanted",
        lambda s: s.wants is Rank.KINGDOM,
        lambda s: f"the stream wants {s.wants}: no need to ask further",
    ),
    Rule(
        "nothing-living",
        _NEAR,
        False,
        f"`other` at {NOTHING_LIVING} or more",
        lambda s: _label(s) == "other" and s.probability >= NOTHING_LIVING,
        lambda s: f"nothing living to name ({s.probability:.2f} other)",
    ),
    Rule(
        "site-knows",
        (Tier.EDGE,),
        False,
        "what the site's own labels make it sure of is as deep as what is wanted",
        lambda s: bool(s.known_here) and (s.known_here in LEAVES or len(s.known_here) >= _DEPTHS[s.wants]),
        lambda s: f"labels of this site name {s.known_here[-1]} ({s.probability:.2f}): no need to ask",
    ),
    Rule(
        "sure-of-family",
        (Tier.EDGE,),
        False,
        f"a family is wanted and leads by {RISK_MARGIN} or more",
        lambda s: (
            s.wants is Rank.FAMILY and s.margin >= RISK_MARGIN and (len(s.path) > 1 or s.path in LEAVES)
        ),
        lambda s: f"margin {s.margin:.2f} >= {RISK_MARGIN}: {_label(s)} stands",
    ),
    Rule(
        "already-asked",
        (Tier.EDGE,),
        False,
        "the cloud was asked about this sighting before",
        lambda s: s.asked is not None,
        lambda s: f"the cloud was asked about this sighting with event {s.asked}",
    ),
    Rule(
        "policy-keeps-pixels",
        (Tier.DEVICE,),
        False,
        "policy keeps the stream's pixels on the device",
        lambda s: not s.may_leave,
        lambda s: f"policy keeps these pixels on the device{'; ' + s.advice if s.advice else ''}",
    ),
    Rule(
        "policy-keeps-feature",
        (Tier.EDGE,),
        False,
        "policy keeps the stream's features at the site",
        lambda s: not s.may_leave,
        lambda s: f"policy keeps this feature at the site{'; ' + s.advice if s.advice else ''}",
    ),
    Rule(
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
    Rule(
        "ask-the-edge",
        (Tier.DEVICE,),
        True,
        "otherwise: the edge names the family",
        lambda _: True,
        lambda s: f"the stream wants {s.wants}: ask {_next(s.tier)}",
    ),
    Rule(
        "wants-species",
        (Tier.EDGE,),
        True,
        "a species is wanted",
        lambda s: s.wants is Rank.SPECIES,
        lambda s: f"the stream wants {s.wants}: ask {_next(s.tier)}",
    ),
    Rule(
        "margin-below-risk",
        (Tier.EDGE,),
        True,
        f"a family is wanted and the lead is below {RISK_MARGIN}",
        lambda _: True,
        lambda s: f"margin {s.margin:.2f} < {RISK_MARGIN}: ask {_next(s.tier)}",
    ),
    Rule(
        "species-named",
        (Tier.CLOUD,),
        False,
        "a species reaches its threshold",
        lambda s: len(s.path) > 2,
        lambda s: f"{_label(s)} at {s.probability:.2f}",
    ),
    Rule(
        "rolled-up",
        (Tier.CLOUD,),
        False,
        "no species does: the deepest rank that reaches its own is told, never a guess",
        lambda _: True,
        lambda s: f"no species is sure enough: told as {_label(s)} ({s.probability:.2f})",
    ),
)


def decide(situation: Situation) -> Decision:
    """The first rule of the table that applies at this tier."""
    rule = next(r for r in RULES if situation.tier in r.tiers and r.applies(situation))
    return Decision(rule.forward, rule.name, rule.reason(situation))


def deeper(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """Refine an answer in place: a tier that will not guess leaves what was known before.

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
    """Whether a later tier's answer leaves the path that a site is sure of: then the site's word stands.

    >>> contradicts(("animal", "Felidae"), ("animal", "Felidae", "Felis catus")), contradicts(("animal", "Felidae"), ("animal",))
    (False, False)
    >>> contradicts(("animal", "Felidae"), ("animal", "Canidae"))
    True
    """
    return any(here != there for here, there in zip(known_here, now, strict=False))


def rank_of(path: Sequence[str]) -> Rank:
    """The rank that a wildlife path reaches; leaves such as `person` answer at the kingdom."""
    return (Rank.KINGDOM, Rank.KINGDOM, Rank.FAMILY, Rank.SPECIES)[min(len(path), 3)]


def table() -> str:
    """The rules as a Markdown table, in the order in which they are tried."""
    rows = ["| rule | tier | goes on | when |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{r.name}` | {', '.join(r.tiers)} | {'yes' if r.forward else 'no'} | {r.when} |" for r in RULES
    ]
    return "\n".join(rows)
