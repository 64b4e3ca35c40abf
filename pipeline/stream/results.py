"""Counts public answers (`counts.py`) and passes them to the cloud's time series.

The router and the cloud agent both write `topics.RESULTS`. Each answer is checked against the headers of its record: it
must be public, and about the stream that the headers name. For each batch, first the changed counts are published, then
the sightings are stored, then the batch is committed. After a kill in between, the same batch gives the same counts::

    results # s1: Felidae, s1: Felis catus  >  Results (table: sightings)  >  counts # Felidae 0, Felis catus 1
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import Privacy, Result, SightingReport, encode
from pipeline.records import answer, read_headers
from pipeline.stream.batches import store
from pipeline.stream.counts import Cell, Evidence, Tally, evidence_of, is_countable
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, read_each

Answer = Result | SightingReport


def read(record: ConsumedRecord) -> Answer:
    """Return the public answer that a record carries.

    Raises
    ------
    Rejected
        With the reasons of `records.read_headers` and `records.answer`; ``not-public``: headers or answer state another
        level; ``source-mismatch``: the headers name another stream than the answer; ``time-invalid``.
    """
    facts = read_headers(record.headers)
    answered = answer(record.value or b"")
    if facts.privacy is not Privacy.PUBLIC or answered.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record on {topics.RESULTS} is {facts.privacy}, its answer {answered.privacy}")
    if answered.source != facts.source:
        raise Rejected("source-mismatch", f"headers name {facts.source}, the answer {answered.source}")
    try:
        clock.seconds(answered.time)
        if isinstance(answered, SightingReport):
            clock.seconds(answered.until)
    except (ValueError, OverflowError):
        raise Rejected("time-invalid", f"an answer about {facts.source} has a time that is not RFC 3339") from None
    return answered


class Results:
    """Handler of `topics.RESULTS`."""

    def __init__(
        self,
        table: Any,
        deliver: Deliver,
        zone: ZoneInfo,
        now: Callable[[], float],
        on_answers: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._table = table
        self._deliver = deliver
        self._zone = zone
        self._now = now
        self._on_answers = on_answers
        self._tally: Tally | None = None
        self._counting = asyncio.Lock()
        """Partitions are handled at the same time and share the tally."""

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        """Count a batch of answers."""
        arrivals, rejections = read_each(records, lambda record: (read(record), record.timestamp / 1000), self._now())
        if rejections:
            await self._deliver(topics.REJECTED, partition, rejections)
        found = [evidence for arrival in arrivals if (evidence := evidence_of(*arrival)) is not None]
        async with self._counting:
            countable = [evidence for evidence in found if is_countable(evidence, self._now())]
            await self._count(partition, countable)
        self._on_answers([answered for answered, _ in arrivals])

    async def forget_view(self) -> None:
        """Forget the tally: Faust has recovered the table, which is read again before the next count."""
        self._tally = None

    async def _count(self, partition: int, found: Sequence[Evidence]) -> None:
        tally = self._tally or Tally.of_table(self._zone, self._table.data)
        self._tally = None  # valid again once the table holds the new evidence
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
            newest_s = min(self._now(), max(evidence.state.arrived_s for evidence in found))
            for device in {cell.device for cell in cells}:
                learned |= tally.forget(device, newest_s)
            await store(self._table, partition, learned)
        self._tally = tally
