"""The majority of people's votes on an event: the label that counts, or why none does. Pure.

The label with the most votes counts. If two or more have equally many, the event is disputed: it teaches nothing until
another vote decides. Each person has one vote, the latest::

    >>> ann, bob, eve = Vote("Lynx lynx", "ann"), Vote("Felis catus", "bob"), Vote("Lynx lynx", "eve")
    >>> majority((ann, bob, eve)).label
    'Lynx lynx'
    >>> majority((ann, bob))
    Majority(label=None, under='', english='', disputed=('Felis catus', 'Lynx lynx'))

`held_out` chooses the events that never teach: they judge the learned models, at every tier, always the same events.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from pipeline.messages import Vote

HELD_OUT_SHARE: Final = 0.2
"""Share of a new species' events that judge a head: of 20 events, 4 judge and 16 teach."""


class Majority(NamedTuple):
    """The label with the most votes; `under` and `english` place it in the tree if the tree lacks it."""

    label: str | None
    under: str = ""
    english: str = ""
    disputed: tuple[str, ...] = ()
    """The labels with equally many votes; empty if one label has the most, or if there are no votes."""


def majority(votes: Iterable[Vote]) -> Majority:
    """Return the label with the most votes, or the labels that tie. The order of the votes does not matter."""
    given = sorted((vote for vote in votes if vote.label is not None), key=lambda vote: vote.by)
    counts = Counter(vote.label for vote in given if vote.label is not None)
    if not counts:
        return Majority(None)
    most = max(counts.values())
    best = sorted(label for label, count in counts.items() if count == most)
    if len(best) > 1:
        return Majority(None, disputed=tuple(best))
    agreeing = [vote for vote in given if vote.label == best[0]]
    placed = next((vote for vote in agreeing if vote.under), agreeing[0])
    english = placed.english or next((vote.english for vote in agreeing if vote.english), "")
    return Majority(best[0], placed.under, english)


def held_out(event: str) -> bool:
    """Return whether an event judges instead of teaching: by a hash of its id, so that all tiers agree."""
    first = int.from_bytes(hashlib.sha256(event.encode()).digest()[:4], "big")
    return first < HELD_OUT_SHARE * 2**32
