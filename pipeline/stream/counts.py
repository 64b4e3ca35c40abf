"""What was seen where: sightings by species, device and day, without any picture. Pure; `results.py` drives it.

Every answer about a sighting, the edge's consensus and the cloud's, is evidence; what is known of a sighting is the join
of all its evidence (earliest time, latest time, best answer), so that neither order nor repetition matters. A sighting
counts once, on the day when it began, under its deepest label; when a better answer comes, its count moves::

    >>> tally = Tally(ZoneInfo("UTC"))
    >>> felid = Evidence("home/cam1", "s1", Seen(0.0, 9.0, 1, 0.9, ("animal", "Felidae")))
    >>> [cell.label for cell in tally.add(felid)], tally.add(felid)
    (['Felidae'], [])
    >>> cat = felid._replace(seen=Seen(0.0, 9.0, 2, 0.6, ("animal", "Felidae", "Felis catus")))
    >>> [(cell.label, tally.count(cell).sightings) for cell in tally.add(cat)]
    [('Felidae', 0), ('Felis catus', 1)]

A device's records share a partition (their key is site/device), so counts are kept by device and no worker needs
another's; readers add the devices up (`totals`). A sighting is remembered for `KEEP_DAYS` days; what is older changes no
count any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from pipeline import clock
from pipeline.messages import (
    RANKS,
    Message,
    Rank,
    Result,
    SightingReport,
    Task,
    decode,
)
from pipeline.records import NAMED_KINGDOMS

DAY_S: Final = 86_400.0
KEEP_DAYS: Final = 8
"""A site that was cut off for a week still counts; a sighting of that time costs about 1 KB of memory."""
EARLY_S: Final = DAY_S
"""A sighting that claims to begin later than a day from now is told by a broken clock: it is not counted."""

_DEPTHS: Final = {rank: depth for depth, rank in enumerate(RANKS[Task.WILDLIFE])}


class Seen(NamedTuple):
    """What is known of one sighting. A join-semilattice: `join` is commutative, associative and idempotent."""

    first_s: float
    last_s: float
    depth: int
    """Of the best answer's rank; -1: unknown."""
    probability: float
    path: tuple[str, ...]

    def join(self, other: Seen) -> Seen:
        """Earliest, latest, and the better answer: deeper, then surer, then by name."""
        best = max(self[2:], other[2:])
        return Seen(min(self.first_s, other.first_s), max(self.last_s, other.last_s), *best)

    @property
    def label(self) -> str:
        return self.path[-1]


class Evidence(NamedTuple):
    """One answer about one sighting."""

    device: str
    """``site/device``."""
    sighting: str
    seen: Seen

    @property
    def key(self) -> str:
        """Of the table that remembers sightings."""
        return f"{self.device}/{self.sighting}"


class Cell(NamedTuple):
    """What one count is about; `device` is ``site/device``."""

    device: str
    day: str
    label: str

    @property
    def key(self) -> str:
        """Of the counts topic."""
        return f"{self.device}|{self.day}|{self.label}"


class Count(Message, frozen=True):
    """Sightings of a label by one device on one day. Key `site/device|day|label`.

    `sightings` falls to 0 when all of them turned out to be something else.
    """

    site: str
    device: str
    day: str
    label: str
    path: tuple[str, ...]
    rank: Rank
    sightings: int
    first: str
    last: str


class Total(Message, frozen=True):
    """A count over all devices of a site."""

    site: str
    day: str
    label: str
    path: tuple[str, ...]
    rank: Rank
    sightings: int
    devices: tuple[str, ...]
    first: str
    last: str


def totals(values: Iterable[bytes]) -> list[Total]:
    """Add up the devices of each site: newest day first, then the most seen. Takes values of the counts topic.

    Raises
    ------
    Malformed
        A value is no `Count`.
    """
    found: dict[tuple[str, str, str], Total] = {}
    for value in values:
        count = decode(Count, value)
        if not count.sightings:
            continue
        key = (count.site, count.day, count.label)
        so_far = found.get(key)
        found[key] = Total(
            site=count.site,
            day=count.day,
            label=count.label,
            path=count.path,
            rank=count.rank,
            sightings=count.sightings + (so_far.sightings if so_far else 0),
            devices=tuple(sorted({count.device, *(so_far.devices if so_far else ())})),
            first=min(count.first, so_far.first) if so_far else count.first,
            last=max(count.last, so_far.last) if so_far else count.last,
        )
    by_label = sorted(found.values(), key=lambda total: (-total.sightings, total.site, total.label))
    return sorted(by_label, key=lambda total: total.day, reverse=True)


def evidence_of(answered: Result | SightingReport) -> Evidence | None:
    """What an answer says about a sighting; None of an answer that is about no frame, or that names nothing.

    Raises
    ------
    ValueError
        Its times are not RFC 3339.
    """
    depth = _DEPTHS.get(answered.rank)
    if depth is None or not NAMED_KINGDOMS.intersection(answered.path[:1]):
        return None
    if isinstance(answered, Result):
        sighting, last = answered.sighting or answered.event, answered.time
    else:
        sighting, last = answered.sighting, answered.until
    seen = Seen(clock.seconds(answered.time), clock.seconds(last), depth, answered.probability, answered.path)
    return Evidence(f"{answered.site}/{answered.device}", sighting, seen)


def remembered(key: str, value: Sequence[Any]) -> Evidence:
    """A row of the table, which holds plain JSON, as evidence."""
    device, _, sighting = key.rpartition("/")
    first_s, last_s, depth, probability, path = value
    return Evidence(device, sighting, Seen(first_s, last_s, depth, probability, tuple(path)))


class Tally:
    """All sightings that are remembered, and the cells that they count in."""

    def __init__(self, zone: ZoneInfo, known: Iterable[Evidence] = ()) -> None:
        self._zone = zone
        self._seen: dict[str, Seen] = {}
        self._cells: dict[Cell, set[str]] = {}
        for evidence in known:
            self.add(evidence)

    def add(self, evidence: Evidence) -> list[Cell]:
        """Learn from one answer; return the cells whose count it changed, none if it says nothing new."""
        before = self._seen.get(evidence.key)
        after = before.join(evidence.seen) if before else evidence.seen
        if after == before:
            return []
        self._seen[evidence.key] = after
        cell = self._cell(evidence.device, after)
        changed = [cell]
        if before and (left := self._cell(evidence.device, before)) != cell:
            self._cells[left].discard(evidence.key)
            changed.insert(0, left)
        self._cells.setdefault(cell, set()).add(evidence.key)
        return changed

    def seen(self, key: str) -> Seen:
        """What is known of this sighting, by `Evidence.key`.

        Raises
        ------
        KeyError
            Nothing is.
        """
        return self._seen[key]

    def count(self, cell: Cell) -> Count:
        """How many sightings a cell holds now."""
        held = [self._seen[key] for key in self._cells.get(cell, ())]
        path = held[0].path if held else ()
        site, _, device = cell.device.partition("/")
        return Count(
            site=site,
            device=device,
            day=cell.day,
            label=cell.label,
            path=path,
            rank=RANKS[Task.WILDLIFE][max(0, max((seen.depth for seen in held), default=0))],
            sightings=len(held),
            first=clock.rfc3339(min((seen.first_s for seen in held), default=0.0)),
            last=clock.rfc3339(max((seen.last_s for seen in held), default=0.0)),
        )

    def forget(self, device: str, now_s: float) -> list[str]:
        """Drop this device's cells that are older than `KEEP_DAYS`; return their sightings' keys.

        Their counts stay as they were last told.
        """
        oldest = self.day(now_s - KEEP_DAYS * DAY_S)
        old = [cell for cell in self._cells if cell.device == device and cell.day < oldest]
        keys = [key for cell in old for key in self._cells.pop(cell)]
        for key in keys:
            del self._seen[key]
        return keys

    def day(self, time_s: float) -> str:
        """The day of a moment, ISO 8601, in the tally's timezone."""
        return dt.datetime.fromtimestamp(time_s, self._zone).date().isoformat()

    def _cell(self, device: str, seen: Seen) -> Cell:
        return Cell(device, self.day(seen.first_s), seen.label)


def is_countable(evidence: Evidence, now_s: float) -> bool:
    """Whether its time is one that still, or already, counts."""
    return now_s - KEEP_DAYS * DAY_S <= evidence.seen.first_s <= now_s + EARLY_S
