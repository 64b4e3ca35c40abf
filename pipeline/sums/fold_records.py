"""What goes into the fold and what comes out of it: records with their places, refusals, one moment's snapshot.

Apart from `pipeline.sums.fold`, so that whoever only reads a snapshot (the trainer's solver, a report) needs no file.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Labelled, SumIncrement
from pipeline.sums.fold_file import Range
from pipeline.sums.new_labels import NewLabel
from pipeline.sums.sums import Sums


class Entry(NamedTuple):
    """One record and where it stood. No message: it was refused before; only its offset counts."""

    source: str
    partition: int
    offset: int
    message: Labelled | SumIncrement | None
    site: str = ""
    """Of sums: who says so."""


class Refused(NamedTuple):
    entry: Entry
    reason: str
    message: str


class Judge(NamedTuple):
    """A held-out event."""

    event: str
    source: str
    label: str


class Share(NamedTuple):
    """What one site gave: events by label (those that it only told of included), and the first and last event's id."""

    site: str
    events: Mapping[str, int]
    first_event: str
    last_event: str


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All that the fold holds at one moment."""

    space: str
    learned: Sums
    """What teaches: of all sites, over the labels that hold events."""
    sites: Mapping[str, Sums]
    """The same, by site."""
    judges: tuple[Judge, ...]
    vectors: NDArray[np.uint8]
    """Of the judges, (n, d)."""
    new_labels: tuple[NewLabel, ...]
    shares: tuple[Share, ...]
    ranges: tuple[Range, ...]
    changes: int
    """How often an event began, ceased or changed to count, so far."""

    @property
    def digest(self) -> str:
        """SHA-256 of what was learned, hex: equal sums, equal digest."""
        return hashlib.sha256(self.learned.snapshot()).hexdigest()

    @property
    def events(self) -> Mapping[str, int]:
        """By label, of all sites, judges included."""
        counts: dict[str, int] = defaultdict(int)
        for share in self.shares:
            for label, count in share.events.items():
                counts[label] += count
        return dict(counts)
