"""Counts sightings by species, device and day, without any picture. Pure; `results.py` drives it.

Every answer about a sighting, from the edge or the cloud, is evidence. The state of a sighting is the join of all its
evidence (earliest time, latest time, best answer), so neither order nor repetition matters. A sighting counts once, on
the day when it began, under its deepest label. When a better answer arrives, its count moves::

    >>> tally = Tally(ZoneInfo("UTC"))
    >>> felid = Evidence("home/cam1", "s1", SightingState(0.0, 9.0, 1, 0.9, ("animal", "Felidae")))
    >>> [cell.label for cell in tally.add(felid)], tally.add(felid)
    (['Felidae'], [])
    >>> cat = felid._replace(state=SightingState(0.0, 9.0, 2, 0.6, ("animal", "Felidae", "Felis catus")))
    >>> [(cell.label, tally.count(cell).sightings) for cell in tally.add(cat)]
    [('Felidae', 0), ('Felis catus', 1)]

A device's records share a partition (their key is site/device). So each worker counts its own devices, and readers add
the devices up (`totals`).

The state is bounded by arrival, not by the sightings' days: a card of last year counts as well as today's pictures. A
sighting is remembered for `KEEP_DAYS` days from its arrival, then only that it is counted. A day's count is final by
then; sightings of that day that arrive later have a count of their own, with the day of arrival in its key, which
readers add to it.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from pipeline import clock
from pipeline.clock import EARLY_S
from pipeline.messages import (
    RANKS,
    JsonMessage,
    Rank,
    Result,
    SightingReport,
    Task,
    decode,
)
from pipeline.records import NAMED_KINGDOMS

DAY_S: Final = 86_400.0
KEEP_DAYS: Final = 8
"""A better answer of a site that was cut off for a week still counts. A remembered sighting costs about 1 KB of
memory."""
COUNTED_DAYS: Final = 40
"""It stays known so long that a sighting is counted (some 100 bytes): edges answer about it for `edge.keep_days` days.
"""

_DEPTHS: Final = {rank: depth for depth, rank in enumerate(RANKS[Task.WILDLIFE])}


class SightingState(NamedTuple):
    """The state of one sighting. A join-semilattice: `join` is commutative, associative and idempotent."""

    first_s: float
    last_s: float
    depth: int
    """Depth of the best answer's rank; -1 if unknown."""
    probability: float
    path: tuple[str, ...]
    arrived_s: float = 0.0
    """Time at which Kafka had the first answer."""

    def join(self, other: SightingState) -> SightingState:
        """Return the earliest and latest time, and the better answer: deeper, else surer, else by name."""
        best = max(self[2:5], other[2:5])
        arrived_s = min(self.arrived_s, other.arrived_s)
        return SightingState(min(self.first_s, other.first_s), max(self.last_s, other.last_s), *best, arrived_s)

    @property
    def label(self) -> str:
        """The deepest label of the best answer."""
        return self.path[-1]


class Evidence(NamedTuple):
    """One answer about one sighting."""

    device: str
    """``site/device``."""
    sighting: str
    state: SightingState

    @property
    def key(self) -> str:
        """The sighting's key in the table."""
        return f"{self.device}/{self.sighting}"


class Cell(NamedTuple):
    """The device (``site/device``), day and label of one count; of late sightings also their day of arrival."""

    device: str
    day: str
    label: str
    arrived: str = ""

    @property
    def key(self) -> str:
        """The cell's key on the counts topic."""
        return "|".join(part for part in self if part)


class Count(JsonMessage, frozen=True):
    """Sightings of a label by one device on one day. Key `site/device|day|label`; `|day of arrival` if that is late.

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


class Total(JsonMessage, frozen=True):
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
    """Add up values of the counts topic over the devices of each site: newest day first, then the largest count.

    Raises
    ------
    Malformed
        A value is not a `Count`.
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


def evidence_of(answered: Result | SightingReport, arrived_s: float = 0.0) -> Evidence | None:
    """Return an answer's evidence about a sighting; None if it is not about a frame, or names no animal or plant.

    `arrived_s` is when Kafka had it, in UTC seconds.

    Raises
    ------
    ValueError
        The answer's times are not RFC 3339.
    """
    depth = _DEPTHS.get(answered.rank)
    if depth is None or not NAMED_KINGDOMS.intersection(answered.path[:1]):
        return None
    if isinstance(answered, Result):
        sighting, last = answered.sighting or answered.event, answered.time
    else:
        sighting, last = answered.sighting, answered.until
    first_s, last_s = clock.seconds(answered.time), clock.seconds(last)
    state = SightingState(first_s, last_s, depth, answered.probability, answered.path, arrived_s)
    return Evidence(f"{answered.site}/{answered.device}", sighting, state)


def remembered(key: str, value: Sequence[Any]) -> Evidence:
    """Return a row of the table, which holds plain JSON, as evidence. Rows of release 0.1 have no arrival."""
    device, _, sighting = key.rpartition("/")
    first_s, last_s, depth, probability, path, *arrived = value
    return Evidence(device, sighting, SightingState(first_s, last_s, depth, probability, tuple(path), *arrived))


class Tally:
    """The remembered sightings, the cells in which they count, and the keys of those that are only known as counted."""

    def __init__(
        self, zone: ZoneInfo, known: Iterable[Evidence] = (), counted: Mapping[str, float] | None = None
    ) -> None:
        """Take what is known; `counted` holds, by key, the time at which a sighting was forgotten."""
        self._zone = zone
        self._states: dict[str, SightingState] = {}
        self._cells: dict[Cell, set[str]] = {}
        self._counted: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """By device, the first forgotten first."""
        for evidence in known:
            self.add(evidence)
        for key, forgotten_s in sorted((counted or {}).items(), key=lambda row: row[1]):
            self._counted[key.rpartition("/")[0]][key] = forgotten_s

    @classmethod
    def of_table(cls, zone: ZoneInfo, rows: Mapping[str, Sequence[Any]]) -> Tally:
        """Return the tally that these rows of the table hold; a row of one number is a sighting known as counted."""
        known = [remembered(key, row) for key, row in rows.items() if len(row) > 1]
        return cls(zone, known, {key: row[0] for key, row in rows.items() if len(row) == 1})

    def add(self, evidence: Evidence) -> list[Cell]:
        """Add evidence. Return the cells whose count it changed; none if it brings nothing new."""
        if evidence.key in self._counted[evidence.device]:
            return []
        before = self._states.get(evidence.key)
        after = before.join(evidence.state) if before else evidence.state
        if after == before:
            return []
        self._states[evidence.key] = after
        cell = self._cell(evidence.device, after)
        changed = [cell]
        if before and (left := self._cell(evidence.device, before)) != cell:
            self._cells[left].discard(evidence.key)
            changed.insert(0, left)
        self._cells.setdefault(cell, set()).add(evidence.key)
        return changed

    def state(self, key: str) -> SightingState:
        """Return the state of a sighting by its `Evidence.key`.

        Raises
        ------
        KeyError
            The sighting is unknown.
        """
        return self._states[key]

    def count(self, cell: Cell) -> Count:
        """Return the current count of a cell."""
        held = [self._states[key] for key in self._cells.get(cell, ())]
        path = held[0].path if held else ()
        site, _, device = cell.device.partition("/")
        return Count(
            site=site,
            device=device,
            day=cell.day,
            label=cell.label,
            path=path,
            rank=RANKS[Task.WILDLIFE][max(0, max((state.depth for state in held), default=0))],
            sightings=len(held),
            first=clock.rfc3339(min((state.first_s for state in held), default=0.0)),
            last=clock.rfc3339(max((state.last_s for state in held), default=0.0)),
        )

    def forget(self, device: str, now_s: float) -> dict[str, list[float] | None]:
        """Drop this device's cells that are final: `KEEP_DAYS` after their day, or after the arrival of late sightings.

        `now_s` is the arrival of the newest answer: a worker that is behind forgets nothing early. Return the changed
        rows of the table. The published counts stay as they are.
        """
        counted, rows = self._counted[device], dict[str, list[float] | None]()
        outdated = itertools.takewhile(lambda row: row[1] < now_s - COUNTED_DAYS * DAY_S, counted.items())
        for key, _ in list(outdated):
            del counted[key]
            rows[key] = None
        oldest = self.day(now_s - KEEP_DAYS * DAY_S)
        old = [cell for cell in self._cells if cell.device == device and (cell.arrived or cell.day) < oldest]
        for key in [key for cell in old for key in self._cells.pop(cell)]:
            del self._states[key]
            counted[key] = now_s
            rows[key] = [now_s]
        return rows

    def day(self, time_s: float) -> str:
        """Return the day of a time (ISO 8601) in the tally's timezone."""
        return dt.datetime.fromtimestamp(time_s, self._zone).date().isoformat()

    def _cell(self, device: str, state: SightingState) -> Cell:
        late = state.arrived_s - state.first_s > KEEP_DAYS * DAY_S
        return Cell(device, self.day(state.first_s), state.label, self.day(state.arrived_s) if late else "")


def is_countable(evidence: Evidence, now_s: float) -> bool:
    """Return whether the sighting does not begin in the future."""
    return evidence.state.first_s <= now_s + EARLY_S
