"""Public answers: counted (`counts.py`), and handed to the cloud's time series.

Stands behind the router and the cloud agent, which both write `topics.RESULTS`. Each answer is checked against its own
record's headers: it must be public, and about the stream that the headers name. Of a batch, first the changed counts
are told, then the sightings are stored, then the batch is done; whatever dies in between, the same batch tells the same
numbers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import Privacy, Result, SightingReport, encode
from pipeline.records import answer, read_headers
from pipeline.stream.batches import store
from pipeline.stream.counts import Cell, Evidence, Tally, evidence_of, is_countable, remembered
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, rejection

Answer = Result | SightingReport


def read(record: ConsumedRecord) -> Answer:
    """The public answer that a record carries.

    Raises
    ------
    Rejected
        As `records.read_headers` and `records.answer`; ``not-public``: headers or answer say another level;
        ``source-mismatch``: the answer is about another stream than the headers say; ``time-invalid``.
    """
    facts = read_headers(record.headers)
    answered = answer(record.value or b"")
    if facts.privacy is not Privacy.PUBLIC or answered.privacy is not Privacy.PUBLIC:
        raise Rejected(
            "not-public", f"a record on {topics.RESULTS} says {facts.privacy}, its answer {answered.privacy}"
        )
    if answered.source != facts.source:
        raise Rejected("source-mismatch", f"headers say {facts.source}, the answer {answered.source}")
    try:
        for time in (
            answered.time,
            answered.until if isinstance(answered, SightingReport) else answered.time,
        ):
            clock.seconds(time)
    except (ValueError, OverflowError):
        raise Rejected(
            "time-invalid", f"an answer about {facts.source} has a time that is not RFC 3339"
        ) from None
    return answered


class Results:
    """Handler of `topics.RESULTS`."""

    def __init__(
        self,
        table: Any,
        deliver: Deliver,
        zone: ZoneInfo,
        now: Callable[[], float],
        tell: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._table = table
        self._deliver = deliver
        self._zone = zone
        self._now = now
        self._tell = tell
        self._tally: Tally | None = None
        self._counting = asyncio.Lock()
        """Partitions are handled at the same time; they share the tally."""

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        answers: list[Answer] = []
        refused: list[ProducerRecord] = []
        for record in records:
            try:
                answers.append(read(record))
            except Rejected as error:
                refused.append(rejection(record, error.reason, str(error), self._now()))
        if refused:
            await self._deliver(topics.REJECTED, partition, refused)
        found = [evidence for answered in answers if (evidence := evidence_of(answered)) is not None]
        async with self._counting:
            await self._count(partition, [one for one in found if is_countable(one, self._now())])
        self._tell(answers)

    async def forget_view(self) -> None:
        """Faust has changed the table behind our back (recovery): read it again before the next count."""
        self._tally = None

    async def _count(self, partition: int, found: Iterable[Evidence]) -> None:
        tally = self._tally or Tally(self._zone, (remembered(*row) for row in self._table.data.items()))
        self._tally = None  # until the table holds what the tally is about to learn
        cells: dict[Cell, None] = {}
        learned: dict[str, Any] = {}
        for evidence in found:
            changed = tally.add(evidence)
            cells |= dict.fromkeys(changed)
            if changed:
                learned[evidence.key] = tally.state(evidence.key)
        if learned:
            counts = [ProducerRecord(cell.key.encode(), encode(tally.count(cell))) for cell in cells]
            await self._deliver(topics.COUNTS, partition, counts)
            for device in {cell.device for cell in cells}:
                learned |= dict.fromkeys(tally.forget(device, self._now()))
            await store(self._table, partition, learned)
        self._tally = tally
