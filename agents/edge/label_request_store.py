"""What the edge remembers of the labels that it asks for, and of drift: tables in its spool.

A sighting's most doubtful frame is a candidate until the sighting is over; then it is asked about, or forgotten. At most one
event of a sighting is ever asked about (``UNIQUE``), and a label for any frame of the sighting settles it::

    frame ──> ask_candidates ──(sighting over)──> asks (open) ──(label)──> asks (settled)

Who shows people what is asked reads the open ones, the newest first::

    SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC      -- told: an `Ask`, JSON

Vectors are not kept here but with the event's feature (`LabelStore`): where that is dropped, nothing is asked any more.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import messages
from pipeline.messages import Ask, Feature
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS ask_candidates(
    sighting TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL, doubt REAL NOT NULL);
CREATE TABLE IF NOT EXISTS asks(
    event TEXT PRIMARY KEY, sighting TEXT NOT NULL UNIQUE, at REAL NOT NULL, told BLOB NOT NULL, settled REAL);
CREATE INDEX IF NOT EXISTS asks_open ON asks(at) WHERE settled IS NULL;
CREATE TABLE IF NOT EXISTS watches(
    name TEXT PRIMARY KEY, at REAL NOT NULL, memory BLOB NOT NULL, raised REAL NOT NULL DEFAULT 0);
""",
)
"""One script a version of its tables; only ever append. `watches`: memories of drift by stream and tier, and of the pace."""

S = TypeVar("S", bound=msgspec.Struct)


class Candidate(NamedTuple):
    """A sighting's most doubtful frame."""

    sighting: str
    event: str
    doubt: float


class AskStore:
    """The asks' tables in the edge's spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    # --- candidates --------------------------------------------------------------------------------------------

    def consider(self, candidate: Candidate, now_s: float, tx: Transaction) -> None:
        """Keep this frame, if its sighting has none that is more doubtful."""
        tx.db.execute(
            "INSERT INTO ask_candidates VALUES (?, ?, ?, ?) ON CONFLICT(sighting) DO UPDATE SET "
            "event = excluded.event, doubt = excluded.doubt WHERE excluded.doubt > doubt",
            (candidate.sighting, candidate.event, now_s, candidate.doubt),
        )

    def over(self) -> list[Candidate]:
        """Candidates of sightings that are closed, in the order in which they began."""
        rows = self._spool.query(
            "SELECT c.sighting, c.event, c.doubt FROM ask_candidates c "
            "JOIN edge_sightings s ON s.sighting = c.sighting WHERE NOT s.open ORDER BY c.at"
        )
        return [Candidate(*row) for row in rows]

    def drop(self, sighting: str, tx: Transaction) -> None:
        """It is decided about, or shows a person."""
        tx.db.execute("DELETE FROM ask_candidates WHERE sighting = ?", (sighting,))

    # --- asks --------------------------------------------------------------------------------------------------

    def keep(self, ask: Ask, sighting: str, now_s: float, tx: Transaction) -> bool:
        """Remember that this was asked; False if its sighting was asked about before."""
        kept = tx.db.execute(
            "INSERT OR IGNORE INTO asks VALUES (?, ?, ?, ?, NULL)",
            (ask.event, sighting, now_s, messages.encode(ask)),
        )
        return kept.rowcount > 0

    def open_asks(self) -> list[Ask]:
        """What waits for a label, the newest first."""
        rows = self._spool.query("SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC")
        return [messages.decode(Ask, told) for (told,) in rows]

    def settle(self, sighting: str, now_s: float | None, tx: Transaction) -> None:
        """A label was given for a frame of this sighting; None: the last one was taken back."""
        tx.db.execute("UPDATE asks SET settled = ? WHERE sighting = ?", (now_s, sighting))

    def outdated(self) -> bool:
        """Whether something is asked about whose feature is gone."""
        return bool(
            self._spool.query(
                "SELECT 1 FROM asks WHERE settled IS NULL AND event NOT IN (SELECT event FROM edge_features) LIMIT 1"
            )
        )

    def unask(self, tx: Transaction) -> None:
        """Ask no more about events whose features the edge may not hold any more: a person is in the picture, after all."""
        tx.db.execute(
            "DELETE FROM asks WHERE settled IS NULL AND event NOT IN (SELECT event FROM edge_features)"
        )

    def known_vectors(self, space: str, limit: int) -> NDArray[np.uint8]:
        """Vectors (n, d) of this space that were asked about or labelled, at most the newest `limit`."""
        rows = self._spool.query(
            "SELECT payload FROM edge_features WHERE space = ? AND event IN (SELECT event FROM asks UNION "
            "SELECT event FROM edge_labels WHERE label IS NOT NULL) ORDER BY event DESC LIMIT ?",
            (space, limit),
        )
        features = (msgspec.msgpack.decode(payload, type=Feature) for (payload,) in rows)
        return np.array([np.frombuffer(feature.data, np.uint8) for feature in features], np.uint8)

    # --- memories ----------------------------------------------------------------------------------------------

    def recall(self, name: str, kind: type[S], tx: Transaction) -> S | None:
        """What was remembered under this name; None also where another release wrote it."""
        row = tx.db.execute("SELECT memory FROM watches WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        try:
            return msgspec.msgpack.decode(row[0], type=kind)
        except msgspec.DecodeError:
            return None

    def remember(self, name: str, memory: msgspec.Struct, now_s: float, tx: Transaction) -> None:
        tx.db.execute(
            "INSERT INTO watches(name, at, memory) VALUES (?, ?, ?) "
            "ON CONFLICT(name) DO UPDATE SET at = excluded.at, memory = excluded.memory",
            (name, now_s, msgspec.msgpack.encode(memory)),
        )

    def raise_share(self, name: str, until_s: float, tx: Transaction) -> None:
        """What is remembered under this name drifted: ask more about it until then."""
        tx.db.execute("UPDATE watches SET raised = ? WHERE name = ?", (until_s, name))

    def is_raised(self, names: tuple[str, ...], now_s: float, tx: Transaction) -> bool:
        marks = ", ".join("?" * len(names))
        found = tx.db.execute(
            f"SELECT 1 FROM watches WHERE raised > ? AND name IN ({marks})",  # noqa: S608 - of question marks
            (now_s, *names),
        )
        return found.fetchone() is not None

    def forget(self, before_s: float, tx: Transaction) -> None:
        """Drop what is older."""
        for table in ("asks", "ask_candidates", "watches"):
            tx.db.execute(f"DELETE FROM {table} WHERE at < ?", (before_s,))  # noqa: S608 - of fixed names
