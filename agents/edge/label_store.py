"""What people said of the edge's events, and the features that make a label worth learning from: tables in the edge's spool.

::

    Answers ──keep_feature──> edge_features ──┐
    Labels ───put───────────> edge_labels ────┴──> LabelledEvent (who learns), Envelopes (what goes up)

A feature is kept where its level lets the edge hold it in the clear, and dropped when its level rises above that. All of
an event is forgotten with its answer, `edge.keep_days` after it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from agents.edge.label_rules import LabelledEvent, Word, agreed_among
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

_WORD = "event, by, label, path, under, english, at, revision"
_FEATURE = "event, sighting, source, time, space, payload, levels"


class Readable(Protocol):
    """A spool, or another process's view of it."""

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Committed rows."""


class LabelStore:
    """The labels' tables in the edge's spool."""

    def __init__(self, spool: Readable) -> None:
        self._spool = spool

    # --- for who learns ----------------------------------------------------------------------------------------

    def standing(self, event: str) -> tuple[Word, ...]:
        """What people say of an event, the oldest word first, without what was taken back."""
        return tuple(word for word in self._words(event) if word.label is not None)

    def all_labelled(self) -> Iterator[LabelledEvent]:
        """Events with a feature whose people agree on something, in the order in which they were last spoken of."""
        rows = self._spool.query(
            "SELECT event FROM edge_labels JOIN edge_features USING(event) GROUP BY event ORDER BY max(at), event"
        )
        for (event,) in rows:
            found = self.labelled(event)
            if found is not None and found.label is not None:
                yield found

    def labelled(self, event: str) -> LabelledEvent | None:
        """An event as who learns sees it; None if there is no feature of it here."""
        feature = self.feature(event)
        return None if feature is None else labelled_event(self._words(event), feature)

    def feature(self, event: str) -> KeptFeature | None:
        """The feature of an event; None if the edge holds none."""
        rows = self._spool.query(f"SELECT {_FEATURE} FROM edge_features WHERE event = ?", (event,))  # noqa: S608 - fixed
        return _feature(*rows[0]) if rows else None

    def features_of(self, sighting: str) -> list[KeptFeature]:
        """All that the edge holds of a sighting, in the order of their events."""
        rows = self._spool.query(
            f"SELECT {_FEATURE} FROM edge_features WHERE sighting = ? ORDER BY event",  # noqa: S608 - fixed
            (sighting,),
        )
        return [_feature(*row) for row in rows]

    def brought_by_anyone(self) -> tuple[Word, ...]:
        """Standing words whose labels the tree lacked."""
        rows = self._spool.query(
            f"SELECT {_WORD} FROM edge_labels WHERE label IS NOT NULL AND under <> '' ORDER BY at, event, by"  # noqa: S608 - fixed
        )
        return tuple(_word(*row) for row in rows)

    def _words(self, event: str) -> tuple[Word, ...]:
        rows = self._spool.query(f"SELECT {_WORD} FROM edge_labels WHERE event = ? ORDER BY at, by", (event,))  # noqa: S608 - fixed
        return tuple(_word(*row) for row in rows)

    # --- words -------------------------------------------------------------------------------------------------

    def words(self, event: str, tx: Transaction) -> tuple[Word, ...]:
        """Each person's last word about an event as this transaction sees it, the oldest first; also those that were
        taken back.
        """
        rows = tx.db.execute(f"SELECT {_WORD} FROM edge_labels WHERE event = ? ORDER BY at, by", (event,))  # noqa: S608 - fixed
        return tuple(_word(*row) for row in rows.fetchall())

    def brought(self, corrected: Word | None, tx: Transaction) -> tuple[Word, ...]:
        """Standing words whose labels the tree lacked, the oldest last; but for the one that is being put right."""
        event, by = (corrected.event, corrected.by) if corrected else ("", "")
        rows = tx.db.execute(
            f"SELECT {_WORD} FROM edge_labels WHERE label IS NOT NULL AND under <> '' AND NOT (event = ? AND by = ?)"  # noqa: S608 - fixed
            " ORDER BY at DESC, event, by",
            (event, by),
        )
        return tuple(_word(*row) for row in rows.fetchall())

    def put(self, word: Word, tx: Transaction) -> None:
        """A person's last word about an event."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                word.event,
                word.by,
                word.label,
                "/".join(word.path),
                word.under,
                word.english,
                word.at_s,
                word.revision,
            ),
        )

    # --- features ----------------------------------------------------------------------------------------------

    def keep_feature(self, feature: KeptFeature, tx: Transaction) -> None:
        """Hold a feature; one that the edge may not hold in the clear is dropped instead."""
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
        """As `feature`, as this transaction sees it."""
        rows = tx.db.execute(f"SELECT {_FEATURE} FROM edge_features WHERE event = ?", (event,)).fetchall()  # noqa: S608 - fixed
        return _feature(*rows[0]) if rows else None

    def drop_feature(self, event: str, tx: Transaction) -> bool:
        """Forget an event's feature; False if there was none."""
        return bool(tx.db.execute("DELETE FROM edge_features WHERE event = ?", (event,)).rowcount)

    # --- labels that came before their events --------------------------------------------------------------------

    def hold(
        self, id: str, event: str, topic: str, payload: bytes, received_s: float, tx: Transaction
    ) -> None:
        """A label may overtake its event: keep it for a while."""
        tx.db.execute(
            "INSERT OR REPLACE INTO edge_early_labels VALUES (?, ?, ?, ?, ?)",
            (id, event, topic, payload, received_s),
        )

    def early(self) -> list[tuple[str, str, str, bytes, float]]:
        """Labels that wait for their events: id, event, topic, payload, time of receipt."""
        rows = self._spool.query(
            "SELECT id, event, topic, payload, received FROM edge_early_labels ORDER BY received, id"
        )
        return [(name, event, topic, payload, received_s) for name, event, topic, payload, received_s in rows]

    def let_go(self, id: str, tx: Transaction) -> None:
        tx.db.execute("DELETE FROM edge_early_labels WHERE id = ?", (id,))

    # --- tidying -----------------------------------------------------------------------------------------------

    def forget(self, tx: Transaction) -> None:
        """Drop what belongs to answers that are gone."""
        for table in ("edge_labels", "edge_features"):
            tx.db.execute(f"DELETE FROM {table} WHERE event NOT IN (SELECT event FROM edge_answers)")  # noqa: S608 - fixed


def labelled_event(words: tuple[Word, ...], feature: KeptFeature) -> LabelledEvent:
    """What those who learn are told; `words`: the oldest first."""
    path = agreed_among(words)
    return LabelledEvent(
        event=feature.event,
        source=feature.source,
        label=path[-1] if path else None,
        path=path,
        by=words[-1].by if words else "",
        words=tuple(word for word in words if word.label is not None),
        space=feature.space,
        vector=feature.vector,
        levels=feature.levels,
        sighting=feature.sighting,
        time=feature.time,
    )


def _word(
    event: str, by: str, label: str | None, path: str, under: str, english: str, at_s: float, revision: int
) -> Word:
    return Word(event, by, label, tuple(path.split("/")) if path else (), under, english, at_s, revision)


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
