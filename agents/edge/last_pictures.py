"""The last picture of each camera, as Home Assistant shows it: a retained message a stream.

Only the crop around the movement is shown, and only where the level of the event's pixels lets the edge see it. It is
cleared as soon as it may not be shown any more: the edge finds a person on the stream, a label or the cloud's answer
raises the event's level, the event is forgotten, or the settings no longer allow it.
"""

from __future__ import annotations

from agents.role import outbox
from pipeline import topics
from pipeline.clock import Clock
from pipeline.messages import Crop, Event, Levels, Privacy, StreamPicture, Tier
from pipeline.privacy.gate import may_see
from pipeline.settings.settings import Settings, StreamSettings
from pipeline.spool import Spool, Transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS edge_pictures(source TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS edge_pictures_event ON edge_pictures(event);
""",
)
"""One script a version of its tables; only ever append."""


def shows_pictures(settings: Settings, stream: StreamSettings | None) -> bool:
    """Return whether a stream's last picture is published at all."""
    return settings.edge.home_assistant and stream is not None and may_see(Tier.EDGE, stream.pixels)


class LastPictures:
    """The pictures that the broker retains now, in the edge's spool."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    def show(self, event: Event, levels: Levels, hop: str, tx: Transaction) -> None:
        """Publish an event's crop in place of the stream's picture, unless that is newer."""
        source, name = event.result.source, event.result.event
        if not isinstance(event.body, Crop) or not may_see(Tier.EDGE, levels.pixels):
            return
        last = tx.db.execute("SELECT event FROM edge_pictures WHERE source = ?", (source,)).fetchone()
        if last is None or last[0] <= name:  # UUIDv7 sort by time
            tx.db.execute("INSERT OR REPLACE INTO edge_pictures VALUES (?, ?, ?)", (source, name, self._clock.now()))
            self._send(source, StreamPicture(event=name, privacy=levels.pixels, jpeg=event.body.jpeg), hop, tx)

    def clear_stream(self, source: str, hop: str, tx: Transaction) -> None:
        """Clear a stream's picture: a person is there."""
        self._clear("source = ?", source, hop, tx)

    def levels_raised(self, event: str, levels: Levels, hop: str, tx: Transaction) -> None:
        """Clear an event's picture if its pixels may not be shown any more."""
        if not may_see(Tier.EDGE, levels.pixels):
            self._clear("event = ?", event, hop, tx)

    def forget(self, before_s: float, hop: str, tx: Transaction) -> None:
        """Clear the pictures that were published before this time."""
        self._clear("at < ?", before_s, hop, tx)

    def keep_only(self, settings: Settings, hop: str) -> None:
        """Clear the pictures of streams that the settings no longer let be shown."""
        shown = [source for (source,) in self._spool.query("SELECT source FROM edge_pictures")]
        hidden = [source for source in shown if not shows_pictures(settings, settings.stream(source))]
        if hidden:
            with self._spool.transaction() as tx:
                for source in hidden:
                    self.clear_stream(source, hop, tx)

    def _clear(self, where: str, value: object, hop: str, tx: Transaction) -> None:
        rows = tx.db.execute(
            f"DELETE FROM edge_pictures WHERE {where} RETURNING source, event",  # noqa: S608 - of fixed texts
            (value,),
        ).fetchall()
        for source, event in rows:
            self._send(source, StreamPicture(event=event, privacy=Privacy.PUBLIC, jpeg=b""), hop, tx)

    def _send(self, source: str, picture: StreamPicture, hop: str, tx: Transaction) -> None:
        topic = topics.image(*source.split("/"))
        now_s = self._clock.now()
        # One id a stream: a picture that waits is replaced by the next one, or by the message that clears it.
        record = outbox.outgoing(picture, hop=hop, topic=topic, id=topic, now_s=now_s, privacy=picture.privacy)
        tx.send(record)
