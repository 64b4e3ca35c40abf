"""Reads the store of this machine's edge, for commands that people run beside it. It writes nothing.

::

    tierwise label last "Felis catus"      -> the newest event
    tierwise label 5c6c97 Felidae          -> the event whose id begins or ends with this
    tierwise review                        -> the edge's label requests; else its least certain events

A command on another machine has no such store. It must give the whole id of an event, and its device.
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
"""An event's id, or a part of its beginning or end."""

LAST: Final = "last"

LOOKED_AT: Final = 2000
"""Newest answers among which the least certain ones are searched."""


class EdgeView:
    """A view on the store; made by `opened`."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store
        self.labels = LabelStore(self)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return rows, like `Spool.query`. Raises `Stop` if the store cannot be read."""
        try:
            return self._store.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise Stop(f"the edge's store on this machine cannot be read: {error}") from None

    def event(self, text: str) -> Result:
        """Return the last answer about the event with this id, or a part of it, or `last`.

        Raises
        ------
        Rejected
            ``event-invalid`` if it is not a part of an id; ``unknown-event``; ``event-ambiguous``.
        """
        if text == LAST:
            rows = self.query(
                "SELECT told FROM edge_answers ORDER BY at DESC, rowid DESC LIMIT ?", (LOOKED_AT,)
            )
            frames = (result for (row,) in rows if (result := _result(row)).task is Task.WILDLIFE)
            if (newest := next(frames, None)) is None:
                raise Rejected(
                    "unknown-event", "the edge has answered no frame yet, so there is no last event"
                )
            return newest
        if PART.fullmatch(text) is None:
            raise Rejected(
                "event-invalid",
                f"{text}: give an event's id, 4 or more characters of it, or `last`; copy an id from `tierwise watch`",
            )
        rows = self.query(
            "SELECT told FROM edge_answers WHERE event = ?1 OR event LIKE ?1 || '%' OR event LIKE '%' || ?1 LIMIT 2",
            (text,),
        )
        if not rows:
            raise Rejected("unknown-event", f"{text}: the edge of this machine has no such event")
        if len(rows) > 1:
            raise Rejected("event-ambiguous", f"{text}: the ids of several events match; give more of the id")
        return _result(rows[0][0])

    def asks(self) -> list[Ask]:
        """Return the open label requests, the newest first."""
        if not self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'asks'"):
            return []
        rows = self.query("SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC")
        asked = [messages.decode(Ask, row) for (row,) in rows]
        return [ask for ask in asked if not self.labels.standing(ask.event)]

    def unsure(self) -> list[Result]:
        """Return events with a feature and without a label: one of each sighting, the least certain first."""
        rows = self.query(
            "SELECT told FROM edge_answers JOIN edge_features USING(event) "
            "WHERE event NOT IN (SELECT event FROM edge_labels WHERE label IS NOT NULL) ORDER BY at DESC LIMIT ?",
            (LOOKED_AT,),
        )
        by_sighting: dict[str, Result] = {}
        for (row,) in rows:
            result = _result(row)
            before = by_sighting.setdefault(result.sighting or result.event, result)
            if _certainty(result) < _certainty(before):
                by_sighting[result.sighting or result.event] = result
        return sorted(by_sighting.values(), key=_certainty)


@contextmanager
def opened(data_dir: Path) -> Iterator[EdgeView | None]:
    """Open the store of the edge on this machine; yield None if there is none.

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
        yield EdgeView(store)


def _others(path: Path) -> str:
    return f"{path}: the edge's store belongs to another user: run this as that user, or give --device"


def _result(row: bytes) -> Result:
    return messages.decode(Result, row)


def _certainty(result: Result) -> tuple[int, float]:
    return len(result.path), result.probability
