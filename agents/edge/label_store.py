"""People's votes about the edge's events, and the features that they are learned with: tables in the edge's spool.

::

    FrameAnswers ──keep_feature──> edge_features ──┐
    EdgeLabels ────put───────────> edge_labels ────┴──> LabelledEvent (to learn from), Envelopes (for the cloud)

A feature is kept if its level lets the edge hold it in the clear, and dropped when its level rises above that. Both are
forgotten with the answer about their event, after `edge.keep_days`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from agents.edge.label_rules import LabelledEvent, PersonVote, agreed_votes
from models.answering.kept_feature import KeptFeature
from pipeline import messages
from pipeline.messages import Feature, Levels, Tier
from pipeline.privacy.gate import may_see
from pipeline.spool import Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_labels(
    event TEXT, by TEXT, label TEXT, path TEXT NOT NULL, under TEXT NOT NULL, english TEXT NOT NULL, at REAL NOT NULL,
    revision INTEGER NOT NULL, PRIMARY KEY(event, by)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge_features(
    event TEXT PRIMARY KEY, sighting TEXT NOT NULL, source TEXT NOT NULL, time TEXT NOT NULL, space TEXT NOT NULL,
    payload BLOB NOT NULL, levels BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS edge_features_sighting ON edge_features(sighting);
CREATE TABLE IF NOT EXISTS edge_early_labels(
    id TEXT PRIMARY KEY, event TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, received REAL NOT NULL);
""",
)
"""One script a version of its tables; only ever append."""

_VOTE = "event, by, label, path, under, english, at, revision"
_FEATURE = "event, sighting, source, time, space, payload, levels"


class Readable(Protocol):
    """A spool, or the view of another process on it."""

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return committed rows."""


class LabelStore:
    """The labels' tables in the edge's spool."""

    def __init__(self, spool: Readable) -> None:
        self._spool = spool

    # --- committed votes --------------------------------------------------------------------------------------

    def standing(self, event: str) -> tuple[PersonVote, ...]:
        """Return the votes about an event that were not taken back, the oldest first."""
        return tuple(vote for vote in self._votes(event) if vote.label is not None)

    def all_labelled(self) -> Iterator[LabelledEvent]:
        """Yield events with a feature and an agreed label, in the order of their last votes."""
        rows = self._spool.query(
            "SELECT event FROM edge_labels JOIN edge_features USING(event) GROUP BY event ORDER BY max(at), event"
        )
        for (event,) in rows:
            found = self.labelled(event)
            if found is not None and found.label is not None:
                yield found

    def labelled(self, event: str) -> LabelledEvent | None:
        """Return an event to learn from; None if it has no feature here."""
        feature = self.feature(event)
        return None if feature is None else labelled_event(self._votes(event), feature)

    def feature(self, event: str) -> KeptFeature | None:
        """Return the feature of an event; None if the edge has none."""
        rows = self._spool.query(f"SELECT {_FEATURE} FROM edge_features WHERE event = ?", (event,))  # noqa: S608 - fixed
        return _feature(*rows[0]) if rows else None

    def new_label_votes(self) -> tuple[PersonVote, ...]:
        """Return the votes for labels that the tree lacked, the oldest first."""
        rows = self._spool.query(
            f"SELECT {_VOTE} FROM edge_labels WHERE label IS NOT NULL AND under <> '' ORDER BY at, event, by"  # noqa: S608 - fixed
        )
        return tuple(_vote(*row) for row in rows)

    def _votes(self, event: str) -> tuple[PersonVote, ...]:
        rows = self._spool.query(f"SELECT {_VOTE} FROM edge_labels WHERE event = ? ORDER BY at, by", (event,))  # noqa: S608 - fixed
        return tuple(_vote(*row) for row in rows)

    # --- votes -------------------------------------------------------------------------------------------------

    def votes(self, event: str, tx: Transaction) -> tuple[PersonVote, ...]:
        """Return each person's vote about an event, the oldest first, withdrawn votes too."""
        rows = tx.db.execute(f"SELECT {_VOTE} FROM edge_labels WHERE event = ? ORDER BY at, by", (event,))  # noqa: S608 - fixed
        return tuple(_vote(*row) for row in rows.fetchall())

    def new_label_votes_in(self, tx: Transaction, *, without: PersonVote | None) -> tuple[PersonVote, ...]:
        """Return the votes for labels that the tree lacked, the newest first. `without` is the vote being corrected."""
        event, by = (without.event, without.by) if without else ("", "")
        rows = tx.db.execute(
            f"SELECT {_VOTE} FROM edge_labels WHERE label IS NOT NULL AND under <> '' AND NOT (event = ? AND by = ?)"  # noqa: S608 - fixed
            " ORDER BY at DESC, event, by",
            (event, by),
        )
        return tuple(_vote(*row) for row in rows.fetchall())

    def put(self, vote: PersonVote, tx: Transaction) -> None:
        """Store a person's vote about an event in place of an earlier one."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                vote.event,
                vote.by,
                vote.label,
                "/".join(vote.path),
                vote.under,
                vote.english,
                vote.at_s,
                vote.revision,
            ),
        )

    # --- features ----------------------------------------------------------------------------------------------

    def keep_feature(self, feature: KeptFeature, tx: Transaction) -> None:
        """Keep a feature; drop it instead if the edge may not hold it in the clear."""
        if not may_see(Tier.EDGE, feature.levels.feature):
            self.drop_feature(feature.event, tx)
            return
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_features VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                feature.event,
                feature.sighting,
                feature.source,
                feature.time,
                feature.space,
                feature.payload,
                msgspec.msgpack.encode(feature.levels),
            ),
        )

    def feature_in(self, event: str, tx: Transaction) -> KeptFeature | None:
        """Return the feature of an event as this transaction sees it."""
        rows = tx.db.execute(f"SELECT {_FEATURE} FROM edge_features WHERE event = ?", (event,)).fetchall()  # noqa: S608 - fixed
        return _feature(*rows[0]) if rows else None

    def drop_feature(self, event: str, tx: Transaction) -> None:
        """Drop the feature of an event."""
        tx.db.execute("DELETE FROM edge_features WHERE event = ?", (event,))

    # --- labels that arrived before their events------------------------------------------------------------------

    def hold_early(self, id: str, event: str, topic: str, payload: bytes, received_s: float, tx: Transaction) -> None:
        """Keep a label whose event is unknown: it may have overtaken it."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_early_labels VALUES (?, ?, ?, ?, ?)",
            (id, event, topic, payload, received_s),
        )

    def early_count(self, tx: Transaction) -> int:
        """Return the number of labels that wait for their events."""
        return int(tx.db.execute("SELECT count(*) FROM edge_early_labels").fetchone()[0])

    def early(self) -> list[tuple[str, str, str, bytes, float]]:
        """Return the labels that wait for their events: id, event, topic, payload, time of receipt (UTC seconds)."""
        rows = self._spool.query(
            "SELECT id, event, topic, payload, received FROM edge_early_labels ORDER BY received, id"
        )
        return [(name, event, topic, payload, received_s) for name, event, topic, payload, received_s in rows]

    def drop_early(self, id: str, tx: Transaction) -> None:
        """Drop a label that waited for its event."""
        tx.db.execute("DELETE FROM edge_early_labels WHERE id = ?", (id,))

    # --- tidying -----------------------------------------------------------------------------------------------

    def forget(self, tx: Transaction) -> None:
        """Drop votes and features of events whose answers are gone."""
        for table in ("edge_labels", "edge_features"):
            tx.db.execute(f"DELETE FROM {table} WHERE event NOT IN (SELECT event FROM edge_answers)")  # noqa: S608 - fixed


def labelled_event(votes: tuple[PersonVote, ...], feature: KeptFeature) -> LabelledEvent:
    """Return the event to learn from; `votes` stand in their order, the oldest first."""
    path = agreed_votes(votes)
    return LabelledEvent(
        event=feature.event,
        source=feature.source,
        label=path[-1] if path else None,
        path=path,
        by=votes[-1].by if votes else "",
        votes=tuple(vote for vote in votes if vote.label is not None),
        space=feature.space,
        vector=feature.vector,
        levels=feature.levels,
        sighting=feature.sighting,
        time=feature.time,
    )


def _vote(
    event: str, by: str, label: str | None, path: str, under: str, english: str, at_s: float, revision: int
) -> PersonVote:
    return PersonVote(event, by, label, tuple(path.split("/")) if path else (), under, english, at_s, revision)


def _feature(
    event: str, sighting: str, source: str, time: str, space: str, payload: bytes, levels: bytes
) -> KeptFeature:
    vector = messages.decode(Feature, payload).data
    return KeptFeature(
        event,
        sighting,
        source,
        time,
        space,
        payload,
        vector,
        msgspec.msgpack.decode(levels, type=Levels),
    )
