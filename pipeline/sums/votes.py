"""What people say of an event, taken together: the label that stands, or why none does. Pure.

The label with the most votes stands. Where two or more have equally many, the event is disputed: it teaches nothing until
somebody's word decides. Each person has one vote, the last word::

    >>> ann, bob, eve = Vote("Lynx lynx", "ann"), Vote("Felis catus", "bob"), Vote("Lynx lynx", "eve")
    >>> standing((ann, bob, eve)).label
    'Lynx lynx'
    >>> standing((ann, bob))
    Standing(label=None, under='', english='', disputed=('Felis catus', 'Lynx lynx'))

`held_out` says which events are never learned from: they judge what was learned, at every tier, always the same ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from pipeline.messages import Vote

HELD_OUT_SHARE: Final = 0.2
"""With 20 labels of a new species 4 judge what the other 16 taught."""


class Standing(NamedTuple):
    """`under` and `english` are what came with the label: where it belongs, if the tree lacks it."""

    label: str | None
    under: str = ""
    english: str = ""
    disputed: tuple[str, ...] = ()
    """The labels that have equally many votes; empty where one stands, or where nobody says anything."""


def standing(votes: Iterable[Vote]) -> Standing:
    """The label with the most votes; none of several with equally many. The order of the votes does not matter."""
    said = sorted((vote for vote in votes if vote.label is not None), key=lambda vote: vote.by)
    counts = Counter(vote.label for vote in said if vote.label is not None)
    if not counts:
        return Standing(None)
    most = max(counts.values())
    best = sorted(label for label, count in counts.items() if count == most)
    if len(best) > 1:
        return Standing(None, disputed=tuple(best))
    its = [vote for vote in said if vote.label == best[0]]
    placed = next((vote for vote in its if vote.under), its[0])
    return Standing(
        best[0], placed.under, placed.english or next((vote.english for vote in its if vote.english), "")
    )


def held_out(event: str) -> bool:
    """Whether an event judges instead of teaching: by a hash of its id, so that all tiers agree and no order matters."""
    first = int.from_bytes(hashlib.sha256(event.encode()).digest()[:4], "big")
    return first < HELD_OUT_SHARE * 2**32
