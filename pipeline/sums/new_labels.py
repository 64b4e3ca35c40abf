"""Labels that the tree lacks, and where people put them. Pure.

Each event whose label is new may say where that belongs (``Felidae``, ``animal/Herpestidae``). Where most of its events put it,
there it stands; of equally many, where the first event does. Who puts it elsewhere counts for nothing until the others
follow, who says nothing follows the others::

    e1 herpestes under animal/Herpestidae ─┐
    e2 herpestes                           ├─> herpestes: animal > Herpestidae      e3 does not count: label-conflict
    e3 herpestes under Felidae             ┘

The outcome depends on what stands, not on what came first: so an event that is taken out has never had a say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pipeline.errors import Rejected


class NewLabel(NamedTuple):
    """A label that the tree lacks, and where people put it."""

    label: str
    kingdom: str
    family: str
    english: str


class Claim(NamedTuple):
    """So many events of this label say that it belongs there; `under` may be empty: they do not say."""

    label: str
    under: str
    english: str
    events: int
    first: str
    """The first event's id."""


class Place(Protocol):
    """What the fold must know of the label tree."""

    def knows(self, label: str) -> bool:
        """Whether the tree has it, as it ships."""

    def __call__(self, label: str, under: str, english: str, rows: Sequence[NewLabel]) -> NewLabel | None:
        """The row that puts a label there in a tree with these rows; None: that tree has the label anyway (a family that
        another new label brought, too).

        Raises `Rejected` where it cannot stand there, or where a label that the tree lacks comes without `under`.
        """


@dataclass(frozen=True, slots=True)
class Places:
    """`rows` by label (None: it came with another's); `complaints`: why a label with this `under` does not count."""

    found: Mapping[str, NewLabel | None] = field(default_factory=dict)
    complaints: Mapping[tuple[str, str], Rejected] = field(default_factory=dict)

    def counts(self, label: str, under: str) -> bool:
        return label in self.found and (label, under) not in self.complaints

    @property
    def rows(self) -> tuple[NewLabel, ...]:
        """What the tree gains, by label."""
        return tuple(row for _, row in sorted(self.found.items()) if row)


def find_places(claims: Iterable[Claim], place: Place) -> Places:
    """Where each new label stands. A label may stand in a family that another one brought, so it goes round until none moves."""
    open_ = sorted(claims, key=lambda claim: (claim.label, not claim.under, -claim.events, claim.first))
    found: dict[str, NewLabel | None] = {}
    while True:
        before = len(found)
        for claim in open_:
            if claim.label not in found:
                with contextlib.suppress(Rejected):  # `_complaint` says so in the end
                    found[claim.label] = place(
                        claim.label, claim.under, claim.english, _others(claim.label, found)
                    )
        if len(found) == before:
            break
    complaints = {
        (claim.label, claim.under): complaint
        for claim in open_
        if (complaint := _complaint(claim, place, found)) is not None
    }
    return Places(found, complaints)


def _complaint(claim: Claim, place: Place, found: Mapping[str, NewLabel | None]) -> Rejected | None:
    row = found.get(claim.label)
    if claim.label in found and (row is None or not claim.under):
        return None
    try:
        its = place(claim.label, claim.under, claim.english, _others(claim.label, found))
    except Rejected as error:
        return error
    if row and its and (its.kingdom, its.family) != (row.kingdom, row.family):
        return Rejected(
            "label-conflict",
            f"{claim.label!r} stands under {row.kingdom}/{row.family} for most of its events, not under {claim.under}",
        )
    return None


def _others(label: str, found: Mapping[str, NewLabel | None]) -> list[NewLabel]:
    return [row for name, row in sorted(found.items()) if row and name != label]
