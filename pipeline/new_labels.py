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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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


Place = Callable[[str, str, str, Sequence[NewLabel]], NewLabel | None]
"""``place(label, under, english, rows)``: the row that puts a label there in a tree with these rows; None: the tree has
the label anyway. Raises `Rejected` where it cannot stand there, or where a label that it lacks comes without `under`."""


@dataclass(frozen=True, slots=True)
class Places:
    """`rows` by label; `complaints`: why a label with this `under` does not count."""

    rows: Mapping[str, NewLabel] = field(default_factory=dict)
    complaints: Mapping[tuple[str, str], Rejected] = field(default_factory=dict)

    def counts(self, label: str, under: str) -> bool:
        return label in self.rows and (label, under) not in self.complaints


def find_places(claims: Iterable[Claim], place: Place) -> Places:
    """Where each new label stands. A label may stand in a family that another one brought, so it goes round until none moves."""
    open_ = sorted(claims, key=lambda claim: (claim.label, not claim.under, -claim.events, claim.first))
    rows: dict[str, NewLabel] = {}
    while True:
        found = len(rows)
        for claim in open_:
            if claim.label not in rows and claim.under and (row := _placed(claim, place, rows)):
                rows[claim.label] = row
        if len(rows) == found:
            break
    complaints = {
        (claim.label, claim.under): complaint
        for claim in open_
        if (complaint := _complaint(claim, place, rows)) is not None
    }
    return Places(rows, complaints)


def _placed(claim: Claim, place: Place, rows: Mapping[str, NewLabel]) -> NewLabel | None:
    try:
        return place(claim.label, claim.under, claim.english, _others(claim.label, rows))
    except Rejected:
        return None  # `_complaint` says so in the end


def _complaint(claim: Claim, place: Place, rows: Mapping[str, NewLabel]) -> Rejected | None:
    row = rows.get(claim.label)
    if row and not claim.under:
        return None
    try:
        its = place(claim.label, claim.under, claim.english, _others(claim.label, rows))
    except Rejected as error:
        return error
    if row and its and (its.kingdom, its.family) != (row.kingdom, row.family):
        return Rejected(
            "label-conflict",
            f"{claim.label!r} stands under {row.kingdom}/{row.family} for most of its events, not under {claim.under}",
        )
    return None


def _others(label: str, rows: Mapping[str, NewLabel]) -> list[NewLabel]:
    return [rows[name] for name in sorted(rows) if name != label]
