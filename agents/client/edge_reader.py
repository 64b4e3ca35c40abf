"""Read the answers of the edge on this machine from its store, for the commands that people run beside it.

::

    tierwise label last "Felis catus"      -> the newest event
    tierwise label 5c6c97 Felidae          -> the event whose id holds these characters
    tierwise labels review                 -> the edge's label requests; without any, its least sure answers

A command on another machine has no such store: it needs the whole id of an event, and its device.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from agents.client import event_ids
from agents.edge.label_rules import LABEL_MAX_BYTES, grown
from agents.edge.label_store import LabelStore
from models.labels.taxonomy import Taxonomy, load_taxonomy
from pipeline import messages
from pipeline.errors import Rejected, Stop
from pipeline.messages import Ask, Result, SightingReport, Task

__all__ = ["LABEL_MAX_BYTES", "EdgeReader", "GivenLabel", "opened"]

Kept = TypeVar("Kept", Result, SightingReport)

LOOKED_AT: Final = 2000
"""Newest answers among which the least sure ones are looked for."""


class GivenLabel(NamedTuple):
    """One person's label of an event."""

    at_s: float
    event: str
    by: str
    label: str | None
    """None if the label was withdrawn."""
    answer: Result


class EdgeReader:
    """Reads the store of an edge. Made by `opened`."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store
        self._labels = LabelStore(self)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Query as `Spool.query` does. Raises `Stop` if the store cannot be read."""
        try:
            return self._store.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise Stop(f"the edge's store on this machine cannot be read: {error}") from None

    def event(self, text: str) -> Result:
        """Return the last answer about an event: `last`, a whole id, or any part of one.

        Raises
        ------
        Rejected
            ``event-invalid``: no part of an id; ``unknown-event``; ``event-ambiguous``, with the candidates.
        """
        if text == event_ids.LAST:
            rows = self.query("SELECT told FROM edge_answers ORDER BY at DESC, rowid DESC LIMIT ?", (LOOKED_AT,))
            frames = (answer for (row,) in rows if (answer := _result(row)).task is Task.WILDLIFE)
            if (newest := next(frames, None)) is None:
                raise Rejected("unknown-event", "the edge has answered no frame yet: there is no last event")
            return newest
        event_ids.check_part(text)
        rows = self.query("SELECT event, told FROM edge_answers WHERE event LIKE '%' || ? || '%' ORDER BY at", (text,))
        answers: dict[str, bytes] = dict(rows)
        return _result(answers[event_ids.find(text, list(answers), "on this machine's edge")])

    def each(self, kind: type[Kept]) -> Iterator[Kept]:
        """Yield the newest answer about each event, or the report of each sighting, as they first came in."""
        table = "edge_answers" if kind is Result else "edge_sightings"
        try:
            for (row,) in self._store.execute(f"SELECT told FROM {table} WHERE told IS NOT NULL ORDER BY rowid"):  # noqa: S608 - of fixed names
                yield messages.decode(kind, row)
        except sqlite3.Error as error:
            raise Stop(f"the edge's store on this machine cannot be read: {error}") from None

    def asks(self) -> list[Ask]:
        """Return the open label requests, the newest first."""
        if not self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'asks'"):
            return []
        rows = self.query("SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC")
        asked = [messages.decode(Ask, row) for (row,) in rows]
        return [ask for ask in asked if not self._labels.standing(ask.event)]

    def unsure(self) -> list[Result]:
        """Return events that could be learned from and have no label, the least sure first, one for each sighting."""
        rows = self.query(
            "SELECT told FROM edge_answers JOIN edge_features USING(event) "
            "WHERE event NOT IN (SELECT event FROM edge_labels WHERE label IS NOT NULL) ORDER BY at DESC LIMIT ?",
            (LOOKED_AT,),
        )
        by_sighting: dict[str, Result] = {}
        for (row,) in rows:
            answer = _result(row)
            before = by_sighting.setdefault(answer.sighting or answer.event, answer)
            if _sureness(answer) < _sureness(before):
                by_sighting[answer.sighting or answer.event] = answer
        return sorted(by_sighting.values(), key=_sureness)

    def labels(self, most: int) -> list[GivenLabel]:
        """Return the newest labels of all people, the newest last; withdrawn ones, too."""
        rows = self.query(
            "SELECT edge_labels.at, event, by, label, told FROM edge_labels JOIN edge_answers USING(event) "
            "ORDER BY edge_labels.at DESC LIMIT ?",
            (most,),
        )
        return [
            GivenLabel(at_s, event, by, label, _result(answer)) for at_s, event, by, label, answer in reversed(rows)
        ]

    def tree(self) -> Taxonomy:
        """Return the label tree with the labels that people brought here."""
        return grown(load_taxonomy(), self._labels.new_label_votes())


@contextmanager
def opened(data_dir: Path) -> Iterator[EdgeReader | None]:
    """Open the store of the edge on this machine; None if there is none.

    Raises
    ------
    Stop
        The store belongs to another user.
    """
    path = data_dir / "edge" / "spool.db"
    try:
        found = path.exists()
    except PermissionError:
        raise Stop(_others(path)) from None
    if not found:
        yield None
        return
    try:
        store = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
    except sqlite3.Error:
        raise Stop(_others(path)) from None
    with closing(store):
        yield EdgeReader(store)


def standing_answer(data_dir: Path, event: str) -> Result | None:
    """Return the answer that an event has at the edge on this machine; None if it has none, or no edge is here."""
    with contextlib.suppress(Rejected, Stop), opened(data_dir) as reader:
        return reader.event(event) if reader is not None else None
    return None


def _others(path: Path) -> str:
    return f"{path}: the edge's store belongs to another user: run this as the edge's own, or give --device"


def _result(row: bytes) -> Result:
    return messages.decode(Result, row)


def _sureness(answer: Result) -> tuple[int, float]:
    return len(answer.path), answer.probability
