"""The edge's label requests, and its memory of drift: tables in its spool.

A sighting's most doubtful frame is a candidate until the sighting is closed. Then a label of it is requested, or it is
dropped. There is at most one request for a sighting (``UNIQUE``), and a label of any of its frames settles it::

    frame ──> ask_candidates ──(sighting closed)──> asks (open) ──(label)──> asks (settled)

A program that shows requests to people reads the open ones, the newest first::

    SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC      -- told: an `Ask`, JSON

The vector of a request stands with the event's feature (`LabelStore`). When the feature is dropped, so is the request.
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
"""One script a version of its tables; only ever append. `watches` holds the memory of drift by stream and
tier, and the pace of the requests."""

S = TypeVar("S", bound=msgspec.Struct)


class RequestCandidate(NamedTuple):
    """The most doubtful frame of a sighting."""

    sighting: str
    event: str
    doubt: float


class LabelRequestStore:
    """The tables of label requests in the edge's spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    # --- candidates --------------------------------------------------------------------------------------------

    def consider(self, candidate: RequestCandidate, now_s: float, tx: Transaction) -> None:
        """Keep this frame as candidate, unless its sighting has a more doubtful one."""
        tx.db.execute(
            "INSERT INTO ask_candidates VALUES (?, ?, ?, ?) ON CONFLICT(sighting) DO UPDATE SET "
            "event = excluded.event, doubt = excluded.doubt WHERE excluded.doubt > doubt",
            (candidate.sighting, candidate.event, now_s, candidate.doubt),
        )

    def closed(self) -> list[RequestCandidate]:
        """Return the candidates of closed sightings, in the order in which these began."""
        rows = self._spool.query(
            "SELECT c.sighting, c.event, c.doubt FROM ask_candidates c "
            "JOIN edge_sightings s ON s.sighting = c.sighting WHERE NOT s.open ORDER BY c.at"
        )
        return [RequestCandidate(*row) for row in rows]

    def drop(self, sighting: str, tx: Transaction) -> None:
        """Drop the candidate of a sighting."""
        tx.db.execute("DELETE FROM ask_candidates WHERE sighting = ?", (sighting,))

    # --- requests ----------------------------------------------------------------------------------------------

    def keep(self, ask: Ask, sighting: str, now_s: float, tx: Transaction) -> bool:
        """Store a request; return False if there was one for its sighting before."""
        kept = tx.db.execute(
            "INSERT OR IGNORE INTO asks VALUES (?, ?, ?, ?, NULL)",
            (ask.event, sighting, now_s, messages.encode(ask)),
        )
        return kept.rowcount > 0

    def settle(self, sighting: str, now_s: float | None, tx: Transaction) -> None:
        """Settle the request for a sighting at this time; with None, open it again, since the label was taken back."""
        tx.db.execute("UPDATE asks SET settled = ? WHERE sighting = ?", (now_s, sighting))

    def outdated(self) -> bool:
        """Return whether there is an open request whose feature is gone."""
        return bool(
            self._spool.query(
                "SELECT 1 FROM asks WHERE settled IS NULL AND event NOT IN (SELECT event FROM edge_features) LIMIT 1"
            )
        )

    def withdraw_outdated(self, tx: Transaction) -> None:
        """Drop open requests whose features are gone, because a person was found in the picture."""
        tx.db.execute("DELETE FROM asks WHERE settled IS NULL AND event NOT IN (SELECT event FROM edge_features)")

    def known_vectors(self, space: str, limit: int) -> NDArray[np.uint8]:
        """Return vectors (n, d) of requested or labelled events of this space, at most the newest `limit`."""
        rows = self._spool.query(
            "SELECT payload FROM edge_features WHERE space = ? AND event IN (SELECT event FROM asks UNION "
            "SELECT event FROM edge_labels WHERE label IS NOT NULL) ORDER BY event DESC LIMIT ?",
            (space, limit),
        )
        features = (msgspec.msgpack.decode(payload, type=Feature) for (payload,) in rows)
        return np.array([np.frombuffer(feature.data, np.uint8) for feature in features], np.uint8)

    # --- memories ----------------------------------------------------------------------------------------------

    def recall(self, name: str, kind: type[S], tx: Transaction) -> S | None:
        """Return the memory of this name; None if there is none that this release can read."""
        row = tx.db.execute("SELECT memory FROM watches WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        try:
            return msgspec.msgpack.decode(row[0], type=kind)
        except msgspec.DecodeError:
            return None

    def remember(self, name: str, memory: msgspec.Struct, now_s: float, tx: Transaction) -> None:
        """Store the memory of this name."""
        tx.db.execute(
            "INSERT INTO watches(name, at, memory) VALUES (?, ?, ?) "
            "ON CONFLICT(name) DO UPDATE SET at = excluded.at, memory = excluded.memory",
            (name, now_s, msgspec.msgpack.encode(memory)),
        )

    def raise_share(self, name: str, until_s: float, tx: Transaction) -> None:
        """Request more labels of this stream and tier until then, since it drifted."""
        tx.db.execute("UPDATE watches SET raised = ? WHERE name = ?", (until_s, name))

    def is_raised(self, names: tuple[str, ...], now_s: float, longest_s: float, tx: Transaction) -> bool:
        """Return whether more labels are requested of one of these now."""
        marks = ", ".join("?" * len(names))
        found = tx.db.execute(
            f"SELECT 1 FROM watches WHERE raised BETWEEN ? AND ? AND name IN ({marks})",  # noqa: S608 - of question marks
            (now_s, now_s + longest_s, *names),
        )
        return found.fetchone() is not None

    def forget(self, before_s: float, tx: Transaction) -> None:
        """Drop requests, candidates and memories that are older than this."""
        for table in ("asks", "ask_candidates", "watches"):
            tx.db.execute(f"DELETE FROM {table} WHERE at < ?", (before_s,))  # noqa: S608 - of fixed names
