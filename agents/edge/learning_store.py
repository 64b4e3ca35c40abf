"""The site's lessons, and the progress of its learning: tables in the edge's spool, each change in one transaction.

A lesson outlives the answer about its event (`edge.keep_days`). It is dropped when its label is taken back, or when its
event becomes user-private. The events whose sums were shared with the cloud are kept for ever, so that none is shared
twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.site_learning.lesson_log import Standing, Step, Taught
from models.site_learning.site_head import Weighing
from models.site_learning.site_model import HeadScore, Rule
from pipeline.messages import Privacy
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_lessons(
    event TEXT PRIMARY KEY, visit TEXT NOT NULL, path TEXT NOT NULL, english TEXT NOT NULL, space TEXT NOT NULL,
    vector BLOB NOT NULL, level TEXT NOT NULL, rule TEXT NOT NULL, place INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge_learning(
    one INTEGER PRIMARY KEY CHECK(one = 1), general TEXT NOT NULL, taken INTEGER NOT NULL, named_right INTEGER NOT NULL,
    loss REAL NOT NULL, share REAL NOT NULL, temperature REAL NOT NULL, weighed_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS edge_told_sums(event TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge_sum_increments(number INTEGER PRIMARY KEY, at REAL NOT NULL);
""",
)
"""One script a version of its tables; only ever append."""


class LessonSource(NamedTuple):
    """The event of a new lesson, with its space and level."""

    event: str
    space: str
    level: Privacy
    """The higher level of its feature and its label."""


class ShareableLesson(NamedTuple):
    """A lesson whose sum may become public together with enough others."""

    event: str
    visit: str
    path: tuple[str, ...]
    vector: bytes


class LearningStore:
    """The tables of a site's learning."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    # --- lessons ------------------------------------------------------------------------------------------------

    def lessons(self, space: str) -> list[Taught]:
        """Return the lessons of this space, in their order."""
        rows = self._spool.query(
            "SELECT event, visit, path, english, vector, rule, place FROM edge_lessons WHERE space = ? ORDER BY place, event",
            (space,),
        )
        return [_taught(*row) for row in rows]

    def events(self) -> list[str]:
        """Return the events of all lessons, of every space."""
        return [event for (event,) in self._spool.query("SELECT event FROM edge_lessons ORDER BY event")]

    def drop(self, event: str, tx: Transaction) -> None:
        """Drop a lesson of any space."""
        tx.db.execute("DELETE FROM edge_lessons WHERE event = ?", (event,))

    def standing(self) -> Standing | None:
        """Return the progress of the learning; None before the first label."""
        rows = self._spool.query(
            "SELECT general, taken, named_right, loss, share, temperature, weighed_at FROM edge_learning"
        )
        if not rows:
            return None
        general, taken, right, loss, share, temperature, weighed_at = rows[0]
        return Standing(general, taken, HeadScore(right, loss), Weighing(share, temperature), weighed_at)

    def write(self, step: Step, standing: Standing, source: LessonSource | None, tx: Transaction) -> None:
        """Write one change. `source` is the event of the new lesson; of all others only rule and place may change."""
        tx.db.executemany("DELETE FROM edge_lessons WHERE event = ?", [(event,) for event in step.deleted])
        for lesson in step.written:
            if source is not None and lesson.event == source.event:
                tx.db.execute(
                    "INSERT OR REPLACE INTO edge_lessons VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        lesson.event,
                        lesson.visit,
                        "/".join(lesson.path),
                        lesson.english,
                        source.space,
                        lesson.vector.tobytes(),
                        source.level.value,
                        lesson.rule,
                        lesson.place,
                    ),
                )
            else:
                tx.db.execute(
                    "UPDATE edge_lessons SET rule = ?, place = ? WHERE event = ?",
                    (lesson.rule, lesson.place, lesson.event),
                )
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_learning VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            (
                standing.general,
                standing.taken,
                standing.best.right,
                standing.best.loss,
                standing.weighing.share,
                standing.weighing.temperature,
                standing.weighed_at,
            ),
        )

    # --- sums ---------------------------------------------------------------------------------------------------

    def shareable(self, space: str, tx: Transaction) -> list[ShareableLesson]:
        """Return edge-private lessons that are in no increment yet, the oldest first."""
        rows = tx.db.execute(
            "SELECT event, visit, path, vector FROM edge_lessons WHERE space = ? AND level = ? AND rule <> 'refused'"
            " AND event NOT IN (SELECT event FROM edge_told_sums) ORDER BY place, event",
            (space, Privacy.EDGE_PRIVATE.value),
        )
        return [ShareableLesson(event, visit, tuple(path.split("/")), vector) for event, visit, path, vector in rows]

    def last_increment(self, tx: Transaction) -> tuple[int, float]:
        """Return number and time (UTC seconds) of the last increment; 0 and 0 before the first."""
        row = tx.db.execute("SELECT number, at FROM edge_sum_increments ORDER BY number DESC LIMIT 1").fetchone()
        return (int(row[0]), float(row[1])) if row else (0, 0.0)

    def add_increment(self, number: int, events: list[str], now_s: float, tx: Transaction) -> None:
        """Store an increment and its events."""
        tx.db.execute("INSERT INTO edge_sum_increments VALUES (?, ?)", (number, now_s))
        tx.db.executemany("INSERT INTO edge_told_sums VALUES (?, ?)", [(event, number) for event in events])


def _taught(event: str, visit: str, path: str, english: str, vector: bytes, rule: Rule, place: int) -> Taught:
    return Taught(event, visit, tuple(path.split("/")), english, np.frombuffer(vector, np.uint8), rule, place)
