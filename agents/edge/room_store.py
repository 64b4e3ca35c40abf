"""Store the edge's memory of its sensors: samples of the rooms' running windows, and the hours of each stream.

Each value is kept with the levels that its device gave it, so that an answer made of several values is as private as
the most private of them.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agents.edge.room_windows import Hour
from pipeline.clock import Clock
from pipeline.messages import Levels
from pipeline.privacy.policy import LOWEST
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_samples(
    room TEXT, source TEXT, unit TEXT NOT NULL, time REAL, value REAL NOT NULL, levels BLOB NOT NULL,
    PRIMARY KEY(room, source, time));
CREATE TABLE IF NOT EXISTS edge_rooms(room TEXT PRIMARY KEY, end REAL NOT NULL);
CREATE TABLE IF NOT EXISTS edge_hours(
    source TEXT, start REAL, hour BLOB NOT NULL, levels BLOB NOT NULL, changed INTEGER NOT NULL,
    PRIMARY KEY(source, start));
""",
    "ALTER TABLE edge_hours ADD COLUMN at REAL NOT NULL DEFAULT 0",
)
"""One script a version of its tables; only ever append."""


class RoomSamples(NamedTuple):
    """The reports of a room's streams in a span of time, and the last report of each stream before it."""

    samples: dict[str, list[tuple[float, float]]]
    """Unit -> (time, value), oldest first; UTC seconds."""
    levels: Levels
    """The join of the levels of all samples."""


class OpenHour(NamedTuple):
    """An hour and its levels, which each report may raise and none lowers."""

    source: str
    hour: Hour
    levels: Levels


class RoomStore:
    """The rooms' tables in the edge's spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    # --- samples -----------------------------------------------------------------------------------------------

    def add_sample(
        self,
        room: str,
        source: str,
        unit: str,
        time_s: float,
        value: float,
        levels: Levels,
        tx: Transaction,
    ) -> None:
        """Store one report of a room's stream."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_samples VALUES (?, ?, ?, ?, ?, ?)",
            (room, source, unit, time_s, value, msgspec.msgpack.encode(levels)),
        )

    def window(self, room: str, until_s: float, span_s: float) -> RoomSamples:
        """Return a room's reports in the span before `until_s`, and the last report of each stream before that span.

        A report holds until the next one of its stream.
        """
        rows = self._spool.query(
            "SELECT unit, time, value, levels FROM edge_samples WHERE room = ? AND time < ? AND (time >= ? OR time = ("
            "SELECT MAX(time) FROM edge_samples AS s WHERE s.room = edge_samples.room AND s.source = edge_samples.source "
            "AND s.time < ?)) ORDER BY time",
            (room, until_s, until_s - span_s, until_s - span_s),
        )
        samples: dict[str, list[tuple[float, float]]] = {}
        levels = LOWEST
        for unit, time_s, value, packed in rows:
            samples.setdefault(unit, []).append((time_s, value))
            levels = levels.join(msgspec.msgpack.decode(packed, type=Levels))
        return RoomSamples(samples, levels)

    def first_sample(self, room: str, from_s: float, tx: Transaction) -> float | None:
        """Return the time of the room's first report at or after this moment."""
        found = tx.db.execute("SELECT MIN(time) FROM edge_samples WHERE room = ? AND time >= ?", (room, from_s))
        time_s: float | None = found.fetchone()[0]
        return time_s

    def newest(self, room: str) -> dict[str, float]:
        """Return the time of each stream's last report."""
        rows = self._spool.query("SELECT source, MAX(time) FROM edge_samples WHERE room = ? GROUP BY source", (room,))
        return dict(rows)

    def forget_samples(self, room: str, before_s: float, tx: Transaction) -> None:
        """Drop samples that no window needs any more, except the last one of each stream."""
        tx.db.execute(
            "DELETE FROM edge_samples WHERE room = ? AND time < ? AND time < (SELECT MAX(time) FROM edge_samples AS s "
            "WHERE s.room = edge_samples.room AND s.source = edge_samples.source AND s.time < ?)",
            (room, before_s, before_s),
        )

    def forget_ahead(self, room: str, after_s: float, tx: Transaction) -> None:
        """Drop samples from the future."""
        tx.db.execute("DELETE FROM edge_samples WHERE room = ? AND time > ?", (room, after_s))

    # --- windows -----------------------------------------------------------------------------------------------

    def ends(self) -> dict[str, float]:
        """Return the end of each room's running window."""
        return dict(self._spool.query("SELECT room, end FROM edge_rooms"))

    def keep_end(self, room: str, end_s: float, tx: Transaction) -> None:
        """Store the end of a room's running window."""
        tx.db.execute("INSERT OR REPLACE INTO edge_rooms VALUES (?, ?)", (room, end_s))

    # --- hours -------------------------------------------------------------------------------------------------

    def hour(self, source: str, start_s: float, tx: Transaction) -> OpenHour | None:
        """Return an hour as counted so far; None if it has no reports yet."""
        found = tx.db.execute(
            "SELECT hour, levels FROM edge_hours WHERE source = ? AND start = ?", (source, start_s)
        ).fetchone()
        return None if found is None else _open_hour(source, *found)

    def keep_hour(self, source: str, hour: Hour, levels: Levels, tx: Transaction, *, changed: bool) -> None:
        """Store an hour; `changed` if it must be published again."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_hours VALUES (?, ?, ?, ?, ?, ?)",
            (
                source,
                hour.start_s,
                msgspec.msgpack.encode(hour),
                msgspec.msgpack.encode(levels),
                changed,
                self._clock.now(),
            ),
        )

    def changed_hours(self) -> list[OpenHour]:
        """Return the hours that changed since they were published, the oldest first."""
        rows = self._spool.query("SELECT source, hour, levels FROM edge_hours WHERE changed ORDER BY start")
        return [_open_hour(*row) for row in rows]

    def forget(self, before_s: float, tx: Transaction) -> None:
        """Drop published hours that are older than this and did not change since: stored readings may arrive late."""
        tx.db.execute("DELETE FROM edge_hours WHERE max(start, at) < ? AND NOT changed", (before_s,))


def _open_hour(source: str, hour: bytes, levels: bytes) -> OpenHour:
    return OpenHour(source, msgspec.msgpack.decode(hour, type=Hour), msgspec.msgpack.decode(levels, type=Levels))
