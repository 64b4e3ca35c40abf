"""What the edge remembers of the labels that it asks for: sightings that might be asked about, and those that were.

A sighting's most doubtful frame is a candidate until the sighting is over; then it is asked about, or forgotten. At most one
event of a sighting is ever asked about (``UNIQUE``), and a label for any frame of the sighting settles it::

    frame ──> ask_candidates ──(sighting over)──> asks (open) ──(label)──> asks (settled)

Who shows people what is asked reads the open ones, the newest first::

    SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC      -- told: an `Ask`, JSON
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import messages
from pipeline.messages import Ask
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS ask_candidates(
    sighting TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, doubt REAL NOT NULL, space TEXT NOT NULL,
    vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS asks(
    event TEXT PRIMARY KEY, sighting TEXT NOT NULL UNIQUE, at REAL NOT NULL, score REAL NOT NULL, space TEXT NOT NULL,
    vector BLOB NOT NULL, told BLOB NOT NULL, settled REAL);
CREATE INDEX IF NOT EXISTS asks_open ON asks(at) WHERE settled IS NULL;
""",
)
"""One script a version of its tables; only ever append. `vector` rests here only where the edge may see the feature."""


class Candidate(NamedTuple):
    """A sighting's most doubtful frame."""

    sighting: str
    event: str
    at_s: float
    doubt: float
    space: str
    vector: NDArray[np.uint8]


class AskStore:
    """The asks' tables in the edge's spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    # --- candidates --------------------------------------------------------------------------------------------

    def consider(self, candidate: Candidate, tx: Transaction) -> None:
        """Keep this frame, if its sighting has none that is more doubtful."""
        sighting, event, at_s, doubt, space, vector = candidate
        tx.db.execute(
            "INSERT INTO ask_candidates VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(sighting) DO UPDATE SET "
            "event = excluded.event, doubt = excluded.doubt, space = excluded.space, vector = excluded.vector "
            "WHERE excluded.doubt > doubt",
            (sighting, event, at_s, doubt, space, vector.tobytes()),
        )

    def over(self) -> list[Candidate]:
        """Candidates of sightings that are closed."""
        rows = self._spool.query(
            "SELECT c.sighting, c.event, c.at, c.doubt, c.space, c.vector FROM ask_candidates c "
            "JOIN edge_sightings s ON s.sighting = c.sighting WHERE NOT s.open ORDER BY c.at"
        )
        return [Candidate(*row[:5], np.frombuffer(row[5], np.uint8)) for row in rows]

    def drop_candidate(self, sighting: str, tx: Transaction) -> None:
        tx.db.execute("DELETE FROM ask_candidates WHERE sighting = ?", (sighting,))

    # --- asks --------------------------------------------------------------------------------------------------

    def keep(self, ask: Ask, candidate: Candidate, score: float, now_s: float, tx: Transaction) -> bool:
        """Remember that this was asked; False if its sighting was asked about before."""
        kept = tx.db.execute(
            "INSERT OR IGNORE INTO asks VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                ask.event,
                candidate.sighting,
                now_s,
                score,
                candidate.space,
                candidate.vector.tobytes(),
                messages.encode(ask),
            ),
        )
        return kept.rowcount > 0

    def open_asks(self, limit: int = 100) -> list[Ask]:
        """What waits for a label, the newest first."""
        rows = self._spool.query(
            "SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC LIMIT ?", (limit,)
        )
        return [messages.decode(Ask, told) for (told,) in rows]

    def settle(self, event: str, now_s: float | None, tx: Transaction) -> bool:
        """A label was given for this event, or for another frame of its sighting; None: the last one was taken back. False
        if nothing was asked about it."""
        settled = tx.db.execute(
            "UPDATE asks SET settled = ?2 WHERE event = ?1 "
            "OR sighting = (SELECT sighting FROM edge_answers WHERE event = ?1)",
            (event, now_s),
        )
        return settled.rowcount > 0

    def drop(self, sighting: str, tx: Transaction) -> None:
        """A person was found in it after all: nothing of it is asked, and no vector of it stays."""
        for table in ("asks", "ask_candidates"):
            tx.db.execute(f"DELETE FROM {table} WHERE sighting = ?", (sighting,))  # noqa: S608 - of fixed names

    def vectors(self, space: str, limit: int) -> NDArray[np.uint8]:
        """Vectors (n, d) of this space that were asked about, at most the newest `limit`."""
        rows = self._spool.query(
            "SELECT vector FROM asks WHERE space = ? ORDER BY at DESC LIMIT ?", (space, limit)
        )
        return np.array([np.frombuffer(row[0], np.uint8) for row in rows], np.uint8)

    def forget(self, before_s: float, tx: Transaction) -> None:
        """Drop what was asked, or might have been, before this time."""
        for table in ("asks", "ask_candidates"):
            tx.db.execute(f"DELETE FROM {table} WHERE at < ?", (before_s,))  # noqa: S608 - of fixed names
