"""A small tree, events and a twin of the fold that adds everything up at once, for the tests of the fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.errors import Rejected
from pipeline.messages import Labelled, SumIncrement, Vote
from pipeline.sums.fold import FoldRecord
from pipeline.sums.new_labels import NewLabel
from pipeline.sums.packing import pack
from pipeline.sums.sums import Sums
from pipeline.sums.votes import held_out, majority

SPACE, DIMENSION = "s1", 3
TREE = {"cat": ("animal", "Felidae"), "fox": ("animal", "Canidae"), "rose": ("plant", "Rosaceae")}


class SmallTree:
    """As the trainer's `Placing`, on a tree of three species. `lives`: how many more labels are looked up before the
    process dies; below zero: it lives."""

    lives = -1

    def knows(self, label: str) -> bool:
        if self.lives == 0:
            raise Died
        self.lives -= 1
        return label in TREE

    def __call__(self, label: str, under: str, english: str, rows: Sequence[NewLabel]) -> NewLabel | None:
        return _place(label, under, english, rows)


class Died(Exception):
    pass


def _place(label: str, under: str, english: str, rows: Sequence[NewLabel]) -> NewLabel | None:
    if label in TREE or any(row.family == label for row in rows):
        return None
    families = {family: kingdom for kingdom, family in TREE.values()}
    families |= {row.family: row.kingdom for row in rows}
    kingdom, _, family = under.rpartition("/")
    if not family or families.get(family, kingdom) == "" or (kingdom and families.get(family, kingdom) != kingdom):
        raise Rejected("unknown-label", f"the label tree has no {label!r}; say under which family it belongs")
    return NewLabel(label, families.get(family, kingdom), family, english or label)


def labelled(
    event: str, *votes: Vote, revision: int = 1, source: str = "home/cam1/garden", data: bytes = b""
) -> Labelled:
    return Labelled(
        event=event,
        source=source,
        time="2026-05-01T12:00:00.000Z",
        space=SPACE,
        data=data or vector(event),
        votes=votes,
        revision=revision,
        path=("animal", "Felidae"),
    )


def vector(event: str) -> bytes:
    """Of a teaching or judging event; every event has its own."""
    return np.random.default_rng([*event.encode()]).integers(0, 256, DIMENSION, np.uint8).tobytes()


def entry(message: Labelled | SumIncrement | None, offset: int = 0, partition: int = 0, site: str = "") -> FoldRecord:
    return FoldRecord("labelled" if site == "" else "sums", partition, offset, message, site)


def sums_of(pairs: Iterable[tuple[bytes, str]]) -> Sums:
    """All at once."""
    pairs = list(pairs)
    labels = sorted({label for _, label in pairs})
    data = np.frombuffer(b"".join(data for data, _ in pairs), np.uint8).reshape(len(pairs), DIMENSION)
    return Sums.empty(SPACE, DIMENSION, labels).add(data, [labels.index(label) for _, label in pairs])


def increment(number: int, pairs: Sequence[tuple[bytes, str]], under: tuple[tuple[str, str], ...] = ()) -> SumIncrement:
    sums = sums_of(pairs)
    counts = tuple(zip(sums.labels, map(int, sums.counts), strict=True))
    return SumIncrement(space=SPACE, number=number, counts=counts, sums=pack(sums), under=under)


def twin(events: Iterable[Labelled], increments: Iterable[Sequence[tuple[bytes, str]]] = ()) -> Sums:
    """What the fold must have learned of these last words: known labels only, judges left out."""
    pairs = [pair for told in increments for pair in told]
    for one in events:
        label = majority(one.votes).label
        if label in TREE and not held_out(one.event):
            pairs.append((one.data, str(label)))
    return sums_of(pairs)


def names(teach: int, judge: int = 0, prefix: str = "e") -> list[str]:
    """Ids of so many events that teach, then of so many that judge."""
    ids = [f"{prefix}{number}" for number in range(400)]
    teaching = [one for one in ids if not held_out(one)][:teach]
    return teaching + [one for one in ids if held_out(one)][:judge]
