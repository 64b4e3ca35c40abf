"""The newest state of each sighting and of each sensor, built from what the site's tiers publish. No I/O.

A sighting is all frames of one visit before one camera. Its id is the id of its first frame, so that commands which
take an event take it, too. Until the edge reports a sighting, the deepest answer about its frames stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from agents.client.answer_text import label_text, wording
from pipeline.messages import Privacy, Result, SightingReport

ROWS_KEPT: Final = 1000
"""More than any screen shows."""


@dataclass(slots=True)
class SightingRow:
    """A sighting, or a sensor with its newest reading."""

    id: str
    """Id of the sighting, or of the newest reading."""
    time: str
    """Time of the first frame, or of the newest reading, by RFC 3339."""
    source: str
    text: str = ""
    probability: float = 0.0
    privacy: Privacy = Privacy.PUBLIC
    by: str = ""
    """The tier that answered last; ``edge`` of a sighting that the edge reported."""
    is_pending: bool = False
    """A tier is still asked, or frames may still come."""
    is_sensor: bool = False
    frames: int = 0
    _answers: dict[str, Result] = field(default_factory=dict)
    """The newest answer about each frame."""
    _revision: int = 0
    """Revision of the edge's report."""


class SightingBoard:
    """Keeps the most recent sightings and sensors, in the order in which they were first seen."""

    def __init__(self, most: int = ROWS_KEPT) -> None:
        self._most = most
        self._rows: dict[str, SightingRow] = {}

    @property
    def rows(self) -> tuple[SightingRow, ...]:
        """The rows: sensors first, then sightings, the newest last."""
        return tuple(sorted(self._rows.values(), key=lambda row: not row.is_sensor))

    def take(self, message: Result | SightingReport) -> SightingRow | None:
        """Take a message in, and return its row if the row changed."""
        if isinstance(message, SightingReport):
            return self._report(message)
        if message.sighting is None:
            return self._reading(message)
        return self._frame(message)

    def _frame(self, result: Result) -> SightingRow | None:
        row = self._row(result.sighting or result.event, result)
        known = row._answers.get(result.event)
        if known is not None and known.revision >= result.revision:
            return None
        row._answers[result.event] = result
        row.frames = max(row.frames, len(row._answers))
        row.time = min(row.time, result.time)
        if row._revision:  # the edge's consensus stands, and its next report counts this frame
            return None
        best = max(row._answers.values(), key=lambda each: (len(each.path), each.probability))
        row.is_pending = any(each.pending for each in row._answers.values())
        return self._say(row, wording(best), best.probability, best.privacy, best.tier)

    def _reading(self, result: Result) -> SightingRow | None:
        row = self._row(result.source, result)
        if row.frames and (result.time, result.revision) <= (row.time, row._revision):
            return None
        row.id, row.time, row._revision = result.event, result.time, result.revision
        row.is_sensor, row.is_pending = True, result.pending is not None
        row.frames += 1
        return self._say(row, wording(result), result.probability, result.privacy, result.tier)

    def _report(self, report: SightingReport) -> SightingRow | None:
        row = self._row(report.sighting, report)
        if report.revision <= row._revision:
            return None
        row._revision, row.time, row.frames = report.revision, report.time, report.frames
        was_pending, row.is_pending = row.is_pending, not report.closed
        changed = self._say(row, label_text(report.label), report.probability, report.privacy, "edge")
        return changed or (row if was_pending and report.closed else None)

    def _row(self, key: str, message: Result | SightingReport) -> SightingRow:
        if key not in self._rows:
            self._rows[key] = SightingRow(key, message.time, message.source)
            while len(self._rows) > self._most:
                del self._rows[next(iter(self._rows))]
        return self._rows[key]

    def _say(self, row: SightingRow, text: str, probability: float, privacy: Privacy, by: str) -> SightingRow | None:
        changed = text != row.text
        row.text, row.probability, row.privacy, row.by = text, probability, privacy, by
        return row if changed else None
