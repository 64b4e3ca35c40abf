"""What the edge of this machine told, for the commands that people run beside it: read only, from its own store.

::

    tierwise label last "Felis catus"      -> the newest event
    tierwise label 5c6c97 Felidae          -> the event whose id ends (or begins) so
    tierwise review                        -> what the edge asks about; else what it was least sure of

A command on another machine has no such store: it names events in full, and their device.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from agents.edge.label_store import LabelStore
from pipeline import messages
from pipeline.errors import Rejected, Stop
from pipeline.messages import Ask, Result, Task

PART: Final = re.compile(r"[0-9a-f-]{4,36}")
"""An event's id, or as much of its beginning or end as tells it from others."""

LAST: Final = "last"

LOOKED_AT: Final = 2000
"""Newest answers among which the least sure are looked for."""


class EdgeView:
    """Made by `opened`."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store
        self.labels = LabelStore(self)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """As `Spool.query`. Raises `Stop` where the store cannot be read."""
        try:
            return self._store.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise Stop(f"the edge's store on this machine cannot be read: {error}") from None

    def event(self, text: str) -> Result:
        """The last answer about the event that is meant.

        Raises
        ------
        Rejected
            ``event-invalid``: no id, nor a part of one; ``unknown-event``; ``event-ambiguous``.
        """
        if text == LAST:
            rows = self.query(
                "SELECT told FROM edge_answers ORDER BY at DESC, rowid DESC LIMIT ?", (LOOKED_AT,)
            )
            frames = (told for (row,) in rows if (told := _result(row)).task is Task.WILDLIFE)
            if (newest := next(frames, None)) is None:
                raise Rejected("unknown-event", "the edge has told of no frame yet: there is no last event")
            return newest
        if PART.fullmatch(text) is None:
            raise Rejected(
                "event-invalid",
                f"{text}: no event's id, nor 4 characters or more of one, nor `last`; copy one from `tierwise watch`",
            )
        rows = self.query(
            "SELECT told FROM edge_answers WHERE event = ?1 OR event LIKE ?1 || '%' OR event LIKE '%' || ?1 LIMIT 2",
            (text,),
        )
        if not rows:
            raise Rejected("unknown-event", f"{text}: the edge of this machine has told of no such event")
        if len(rows) > 1:
            raise Rejected(
                "event-ambiguous", f"{text}: more than one event is called so; give more of its id"
            )
        return _result(rows[0][0])

    def asks(self) -> list[Ask]:
        """What the edge asks about, the newest first."""
        if not self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'asks'"):
            return []
        rows = self.query("SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC")
        asked = [messages.decode(Ask, told) for (told,) in rows]
        return [ask for ask in asked if not self.labels.standing(ask.event)]

    def unsure(self) -> list[Result]:
        """Events that could be learned from and have no label, the least sure first, one a sighting."""
        rows = self.query(
            "SELECT told FROM edge_answers JOIN edge_features USING(event) "
            "WHERE event NOT IN (SELECT event FROM edge_labels WHERE label IS NOT NULL) ORDER BY at DESC LIMIT ?",
            (LOOKED_AT,),
        )
        by_sighting: dict[str, Result] = {}
        for (row,) in rows:
            told = _result(row)
            before = by_sighting.setdefault(told.sighting or told.event, told)
            if _sureness(told) < _sureness(before):
                by_sighting[told.sighting or told.event] = told
        return sorted(by_sighting.values(), key=_sureness)


@contextmanager
def opened(data_dir: Path) -> Iterator[EdgeView | None]:
    """The store of the edge on this machine; None if there is none.

    Raises
    ------
    Stop
        It belongs to another user.
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
        yield EdgeView(store)


def _others(path: Path) -> str:
    return f"{path}: the edge's store belongs to another user: run this as the edge's own, or give --device"


def _result(told: bytes) -> Result:
    return messages.decode(Result, told)


def _sureness(told: Result) -> tuple[int, float]:
    return len(told.path), told.probability
