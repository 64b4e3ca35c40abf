"""The gate's rule `sums-of-many`: a site's sums may leave it only if each covers enough events to hide any single one.

The sum over one event is the event's vector. So an increment in the clear passes only if each of its labels has
at least `LEAST_EVENTS` events in this increment. The gate trusts no statement about an increment: it unpacks the sums
and checks that they are sums of so many bytes, with the counts that the increment states::

    >>> broken(increment_of(Sums.empty("s", DIMENSION, ["Felidae"]), 1))
    'it holds no events'

docs/privacy.md explains what such an increment reveals. Its maker (`agents.edge.sum_sharing`) must put each event into
at most one increment: two increments that differ by one event would reveal it, and the gate sees only one at a time.
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
"""The fewest events of each label in an increment."""

DIMENSION: Final = 256
"""Dimension of the released backbone's vectors; sums over other vectors may not leave."""

LARGEST_BYTES: Final = 100 << 10
"""Largest packed sums: an increment and its envelope fit into a batch of `messages.UPLINK_MAX_BYTES`."""

LONGEST_LABEL: Final = 120


def increment_of(sums: Sums, number: int, under: Mapping[str, str] | None = None) -> SumIncrement:
    """Return a site's increment with this number. `under` places labels that the tree lacks."""
    counts = tuple((label, int(count)) for label, count in zip(sums.labels, sums.counts, strict=True))
    return SumIncrement(
        space=sums.space,
        number=number,
        counts=counts,
        sums=pack(sums),
        under=tuple(sorted((under or {}).items())),
    )


def complaint(envelope: Envelope) -> str:
    """Return why an envelope with sums in the clear may not become public, or an empty text."""
    try:
        increment = messages.decode(SumIncrement, envelope.payload)
    except Malformed:
        return "it is not an increment of sums"
    if (envelope.space, envelope.revision) != (increment.space, increment.number):
        return "its envelope is another increment's"
    return broken(increment)


def broken(increment: SumIncrement) -> str:
    """Return the part of the rule that an increment breaks, or an empty text."""
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
        return "its counts differ from those of its sums"
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
