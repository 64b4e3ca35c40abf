"""The gate's named rule `sums-of-many`: what a site learned may leave it only as sums over enough events that none can be told from them.

The sum over one event is its vector. So an increment in the clear passes only if every label in it holds at least `LEAST_EVENTS` of this
increment's own events, and nothing that is said of it is taken on trust: the sums are opened, and have to be sums of so many
bytes, with the counts that the increment states::

    >>> broken(increment_of(Sums.empty("s", DIMENSION, ["Felidae"]), 1))
    'it holds no events'

What one such increment does reveal is told in docs/privacy.md. That each event is in one increment at most is its maker's to keep
(`agents.edge.sum_sharing`): two that differ in one event would tell that event, and no gate that sees one at a time can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline import messages
from pipeline.errors import Rejected
from pipeline.messages import Envelope, Malformed, SumIncrement
from pipeline.sums.packing import pack, unpack
from pipeline.sums.sums import Sums

RULE: Final = "sums-of-many"

LEAST_EVENTS: Final = 20
"""Of each label in each increment."""

DIMENSION: Final = 256
"""Of the vectors that the released backbone makes; sums of others are not told."""

LARGEST_BYTES: Final = 100 << 10
"""Of packed sums: with its envelope an increment fits a batch of `messages.UPLINK_MAX_BYTES`."""

LONGEST_LABEL: Final = 120


def increment_of(sums: Sums, number: int, under: Mapping[str, str] | None = None) -> SumIncrement:
    """A site's increment of this number. `under`: where labels belong that the tree lacks."""
    counts = tuple((label, int(count)) for label, count in zip(sums.labels, sums.counts, strict=True))
    return SumIncrement(
        space=sums.space,
        number=number,
        counts=counts,
        sums=pack(sums),
        under=tuple(sorted((under or {}).items())),
    )


def complaint(envelope: Envelope) -> str:
    """Why an envelope with sums in the clear may not become public; empty where it may."""
    try:
        increment = messages.decode(SumIncrement, envelope.payload)
    except Malformed:
        return "it is no increment of sums"
    if (envelope.space, envelope.revision) != (increment.space, increment.number):
        return "its envelope is another increment's"
    return broken(increment)


def broken(increment: SumIncrement) -> str:
    """Which part of the rule an increment breaks; empty: none."""
    if len(increment.sums) > LARGEST_BYTES:
        return f"its sums have {len(increment.sums):,} bytes, more than {LARGEST_BYTES:,}"
    try:
        sums = unpack(increment.sums, DIMENSION)
    except Rejected as error:
        return f"its sums cannot be read: {error}"
    if sums.space != increment.space:
        return "its sums are of another space"
    stated = dict(increment.counts)
    held = {label: int(count) for label, count in zip(sums.labels, sums.counts, strict=True)}
    if stated != held or len(stated) != len(increment.counts):
        return "it states other counts than its sums hold"
    if not held or not sums.events:
        return "it holds no events"
    if few := [label for label, count in held.items() if count < LEAST_EVENTS]:
        return f"{len(few)} of its {len(held)} labels hold fewer than {LEAST_EVENTS} events"
    names = [*held, *(text for row in increment.under for text in row)]
    if any(not 0 < len(name) <= LONGEST_LABEL or not name.isprintable() for name in names):
        return "a label in it is no name"
    if not {label for label, _ in increment.under} <= held.keys():
        return "it places labels that it does not hold"
    return ""
