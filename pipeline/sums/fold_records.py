"""The records that go into the fold, and the refusals and snapshots that come out of it.

They stand apart from `pipeline.sums.fold`, so that code that only reads a snapshot (the trainer's solver, a report)
does not need the fold's file::

    FoldRecord > Fold.take > FoldRefusal            Fold.snapshot > Snapshot > solver, report
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


class FoldRecord(NamedTuple):
    """A record and its place in Kafka. Without a message it was refused before, and only its offset counts."""

    source: str
    partition: int
    offset: int
    message: Labelled | SumIncrement | None
    site: str = ""
    """The site that shares these sums."""


class FoldRefusal(NamedTuple):
    """A record that does not count, and why."""

    record: FoldRecord
    reason: str
    message: str


class Judge(NamedTuple):
    """A held-out event, which judges models and teaches none."""

    event: str
    source: str
    label: str


class SiteContribution(NamedTuple):
    """One site's contribution: events by label (those in shared sums included), and the first and last event's id."""

    site: str
    events: Mapping[str, int]
    first_event: str
    last_event: str


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything that the fold holds at one moment."""

    space: str
    learned: Sums
    """The sums to learn from, of all sites, over the labels that hold events."""
    sites: Mapping[str, Sums]
    """The same by site."""
    judges: tuple[Judge, ...]
    vectors: NDArray[np.uint8]
    """The vectors of the judges, (n, d)."""
    new_labels: tuple[NewLabel, ...]
    shares: tuple[SiteContribution, ...]
    ranges: tuple[Range, ...]
    changes: int
    """Number of times that an event was added to the sums, changed in them or taken out."""

    @property
    def digest(self) -> str:
        """SHA-256 of `learned`, hex: equal sums have equal digests."""
        return hashlib.sha256(self.learned.snapshot()).hexdigest()

    @property
    def events(self) -> Mapping[str, int]:
        """The number of events by label, of all sites, judges included."""
        counts: dict[str, int] = defaultdict(int)
        for share in self.shares:
            for label, count in share.events.items():
                counts[label] += count
        return dict(counts)
