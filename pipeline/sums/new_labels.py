"""Finds the place in the tree for labels that the tree lacks, from people's claims. Pure.

An event with a new label may claim a place for it (``Felidae``, ``animal/Herpestidae``). The label gets the place that
most of its events claim; if two places have equally many, the place of the first event. An event that claims another
place does not count; an event without a claim follows the others::

    e1 herpestes under animal/Herpestidae ─┐
    e2 herpestes                           ├─> herpestes: animal > Herpestidae      e3 does not count: label-conflict
    e3 herpestes under Felidae             ┘

The outcome depends only on the current events, not on the order of their arrival: an event that is taken out leaves no
trace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pipeline.errors import Rejected


class NewLabel(NamedTuple):
    """A label that the tree lacks, and its place."""

    label: str
    kingdom: str
    family: str
    english: str


class Claim(NamedTuple):
    """A number of events that claim a place for a label; `under` is empty if they claim none."""

    label: str
    under: str
    english: str
    events: int
    first: str
    """The first event's id."""


class Place(Protocol):
    """The fold's view of the label tree."""

    def knows(self, label: str) -> bool:
        """Return whether the shipped tree has the label."""

    def __call__(self, label: str, under: str, english: str, rows: Sequence[NewLabel]) -> NewLabel | None:
        """Return the row that puts a label there in a tree with these rows; None if that tree has the label already.

        (A family may come with another new label.) Raises `Rejected` if the label cannot stand there, or if the tree
        lacks it and `under` is empty.
        """


@dataclass(frozen=True, slots=True)
class Places:
    """The rows by label (None if another label's row brought it), and why a label with this `under` does not count."""

    found: Mapping[str, NewLabel | None] = field(default_factory=dict)
    complaints: Mapping[tuple[str, str], Rejected] = field(default_factory=dict)

    def counts(self, label: str, under: str) -> bool:
        """Return whether events with this label and claimed place count."""
        return label in self.found and (label, under) not in self.complaints

    @property
    def rows(self) -> tuple[NewLabel, ...]:
        """The rows that the tree gains, in the order of the labels."""
        return tuple(row for _, row in sorted(self.found.items()) if row)


def find_places(claims: Iterable[Claim], place: Place) -> Places:
    """Find the place of each new label, in rounds: a label may belong to a family that another new label brings."""
    open_ = sorted(claims, key=lambda claim: (claim.label, not claim.under, -claim.events, claim.first))
    found: dict[str, NewLabel | None] = {}
    while True:
        before = len(found)
        for claim in open_:
            if claim.label not in found:
                with contextlib.suppress(Rejected):  # `_complaint` reports it in the end
                    found[claim.label] = place(claim.label, claim.under, claim.english, _others(claim.label, found))
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
        claimed = place(claim.label, claim.under, claim.english, _others(claim.label, found))
    except Rejected as error:
        return error
    if row and claimed and (claimed.kingdom, claimed.family) != (row.kingdom, row.family):
        return Rejected(
            "label-conflict",
            f"most events place {claim.label!r} under {row.kingdom}/{row.family}, not under {claim.under}",
        )
    return None


def _others(label: str, found: Mapping[str, NewLabel | None]) -> list[NewLabel]:
    return [row for name, row in sorted(found.items()) if row and name != label]
