"""Store the edge's sightings: each frame's newest answer as a vote, their level, and the published report.

The votes of a sighting are summed by path, and only the sums are read. So a frame costs the same, whether it is the
first or the ten thousandth.
"""

from __future__ import annotations

from models.answering.sightings import AnswerTally
from pipeline import messages
from pipeline.clock import SET_BACK_S, Clock
from pipeline.messages import Privacy, SightingReport
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_sightings(
    sighting TEXT PRIMARY KEY, at REAL NOT NULL, asked TEXT, open INTEGER NOT NULL, privacy TEXT NOT NULL, told BLOB);
CREATE INDEX IF NOT EXISTS edge_sightings_open ON edge_sightings(at) WHERE open;
CREATE TABLE IF NOT EXISTS edge_votes(
    sighting TEXT, event TEXT, path TEXT NOT NULL, weight INTEGER NOT NULL, PRIMARY KEY(sighting, event));
CREATE TABLE IF NOT EXISTS edge_tallies(
    sighting TEXT, path TEXT, frames INTEGER NOT NULL, weight INTEGER NOT NULL, PRIMARY KEY(sighting, path));
""",
)
"""One script a version of its tables; only ever append."""


class SightingStore:
    """The sightings' tables in the edge's spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    # --- votes -------------------------------------------------------------------------------------------------

    def vote(
        self,
        sighting: str,
        event: str,
        path: tuple[str, ...],
        weight: int,
        privacy: Privacy,
        tx: Transaction,
        *,
        asked: str | None = None,
    ) -> None:
        """Count (or count anew) one frame of a sighting, and raise the sighting to its level.

        `asked` is the event about which the cloud is asked for this sighting.
        """
        self._recount(sighting, event, "/".join(path), weight, tx)
        raised = privacy.join(self.privacy(sighting, tx))
        tx.db.execute(
            "INSERT INTO edge_sightings VALUES (?, ?, ?, 1, ?, NULL) ON CONFLICT(sighting) DO UPDATE SET "
            "at = excluded.at, open = 1, privacy = excluded.privacy, "
            "asked = COALESCE(edge_sightings.asked, excluded.asked)",
            (sighting, self._clock.now(), asked, raised.value),
        )

    def _recount(self, sighting: str, event: str, path: str, weight: int, tx: Transaction) -> None:
        """Store a frame's vote in the sums, in place of its earlier one."""
        before = tx.db.execute(
            "SELECT path, weight FROM edge_votes WHERE sighting = ? AND event = ?", (sighting, event)
        ).fetchone()
        if before is not None:
            tx.db.execute(
                "UPDATE edge_tallies SET frames = frames - 1, weight = weight - ? WHERE sighting = ? AND path = ?",
                (before[1], sighting, before[0]),
            )
        tx.db.execute("INSERT OR REPLACE INTO edge_votes VALUES (?, ?, ?, ?)", (sighting, event, path, weight))
        tx.db.execute(
            "INSERT INTO edge_tallies VALUES (?, ?, 1, ?) ON CONFLICT(sighting, path) DO UPDATE SET "
            "frames = frames + 1, weight = weight + excluded.weight",
            (sighting, path, weight),
        )

    def tallies(self, sighting: str, tx: Transaction) -> list[AnswerTally]:
        """Return a sighting's votes, summed by path."""
        rows = tx.db.execute(
            "SELECT path, frames, weight FROM edge_tallies WHERE sighting = ? AND frames > 0", (sighting,)
        )
        return [AnswerTally(tuple(path.split("/")) if path else (), frames, weight) for path, frames, weight in rows]

    def privacy(self, sighting: str, tx: Transaction) -> Privacy:
        """Return the highest level that any of its votes ever had."""
        found = tx.db.execute("SELECT privacy FROM edge_sightings WHERE sighting = ?", (sighting,)).fetchone()
        return Privacy(found[0]) if found else Privacy.PUBLIC

    # --- the question to the cloud -----------------------------------------------------------------------------

    def asked(self, sighting: str) -> str | None:
        """Return the event of this sighting about which the cloud was asked."""
        rows = self._spool.query("SELECT asked FROM edge_sightings WHERE sighting = ?", (sighting,))
        return rows[0][0] if rows else None

    def ask_again(self, event: str, tx: Transaction) -> None:
        """Let the next frame of the sighting ask the cloud, since the question about this event may be lost."""
        tx.db.execute(
            "UPDATE edge_sightings SET asked = NULL WHERE asked = ?1 "
            "AND sighting = (SELECT sighting FROM edge_answers WHERE event = ?1)",
            (event,),
        )

    # --- reports -----------------------------------------------------------------------------------------------

    def report(self, sighting: str, tx: Transaction) -> SightingReport | None:
        """Return the last published report of a sighting; None if there is none."""
        found = tx.db.execute("SELECT told FROM edge_sightings WHERE sighting = ?", (sighting,)).fetchone()
        return messages.decode(SightingReport, found[0]) if found and found[0] else None

    def keep_report(self, report: SightingReport, tx: Transaction) -> None:
        """Store the published report of a sighting."""
        tx.db.execute(
            "UPDATE edge_sightings SET told = ? WHERE sighting = ?",
            (messages.encode(report), report.sighting),
        )

    def quiet(self, before_s: float) -> list[str]:
        """Return the open sightings that got no frame since, also those that the clock was set back behind."""
        ahead_s = self._clock.now() + SET_BACK_S
        rows = self._spool.query(
            "SELECT sighting FROM edge_sightings WHERE open AND (at <= ? OR at > ?)", (before_s, ahead_s)
        )
        return [sighting for (sighting,) in rows]

    def close(self, sighting: str, before_s: float, tx: Transaction) -> bool:
        """Close the sighting even if nothing is published. Return False if a frame arrived meanwhile."""
        ahead_s = self._clock.now() + SET_BACK_S
        closed = tx.db.execute(
            "UPDATE edge_sightings SET open = 0 WHERE sighting = ? AND open AND (at <= ? OR at > ?)",
            (sighting, before_s, ahead_s),
        )
        return closed.rowcount > 0

    def forget(self, before_s: float, tx: Transaction) -> None:
        """Drop sightings that got no frame since."""
        for table in ("edge_votes", "edge_tallies"):
            tx.db.execute(
                f"DELETE FROM {table} WHERE sighting IN (SELECT sighting FROM edge_sightings WHERE at < ?)",  # noqa: S608 - of fixed names
                (before_s,),
            )
        tx.db.execute("DELETE FROM edge_sightings WHERE at < ?", (before_s,))
