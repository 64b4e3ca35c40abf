"""Hourly summaries: each hour of each stream told once, the newest revision last.

Stands between the router and `topics.SUMMARIES`, which is compacted: a reader finds the last value of each hour for
ever. Edges repeat what was not acknowledged, and late readings raise an hour's revision, so an older revision may come
after a newer one; a Faust table remembers the newest of each hour (``source|hour``) for `KEEP_DAYS` days::

    summaries.ingest #  revision 1, 2, 1  ->  Summaries (table: revision)  ->  summaries #  revision 1, 2
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import Malformed, Privacy, Summary, decode, encode
from pipeline.readings import VALUE_MAX
from pipeline.records import HourlySummary, read_headers
from pipeline.stream.batches import store
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, rejection

KEEP_DAYS: Final = 40
"""How long a repeated older revision is recognised; far longer than any outbox keeps one back."""


ROUNDING: Final = 1e-9
"""Of a sum of floats, relative: a million of them lose a thousandth of this."""


def read(record: ConsumedRecord) -> HourlySummary:
    """The summary that a record carries, ready to be told.

    Raises
    ------
    Rejected
        As `records.read_headers`; ``not-public``, ``malformed``, ``hour-invalid``, ``summary-invalid``.
    """
    facts = read_headers(record.headers)
    if facts.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record on {topics.SUMMARIES_INGEST} says {facts.privacy}")
    try:
        summary = decode(Summary, record.value or b"")
    except Malformed:
        raise Rejected(
            "malformed", f"{facts.source}: no Summary"
        ) from None  # no more: errors may quote the content
    if not _is_possible(summary):
        raise Rejected(
            "summary-invalid",
            f"{facts.source}: an hour has at least one reading, none beyond ±{VALUE_MAX:g}, and their mean lies among them",
        )
    return HourlySummary(
        source=facts.source,
        hour=_hour(summary.hour),
        task=summary.task,
        unit=summary.unit,
        count=summary.count,
        total=summary.total,
        low=summary.low,
        high=summary.high,
        mean=summary.mean,
        revision=summary.revision,
        room=summary.room,
    )


def key_of(summary: HourlySummary) -> str:
    return f"{summary.source}|{summary.hour}"


def newest(summaries: Sequence[HourlySummary], told: Mapping[str, int]) -> list[HourlySummary]:
    """Of these, the newest revision of each hour, if it is newer than what was told of that hour."""
    best: dict[str, HourlySummary] = {}
    for summary in summaries:
        key = key_of(summary)
        known = best[key].revision if key in best else told.get(key, 0)
        if summary.revision > known:
            best[key] = summary
    return list(best.values())


def outdated(summary: HourlySummary, told: Mapping[str, int]) -> list[str]:
    """Keys of the same stream that can be forgotten now: the day of hours that is `KEEP_DAYS` before this one."""
    end = dt.datetime.fromtimestamp(clock.seconds(summary.hour), dt.UTC) - dt.timedelta(days=KEEP_DAYS)
    hours = (clock.rfc3339((end - dt.timedelta(hours=back)).timestamp()) for back in range(24))
    return [key for hour in hours if (key := f"{summary.source}|{hour}") in told]


class Summaries:
    """Handler of `topics.SUMMARIES_INGEST`."""

    def __init__(
        self,
        table: Any,
        deliver: Deliver,
        now: Callable[[], float],
        tell: Callable[[Sequence[HourlySummary]], None],
    ) -> None:
        self._table = table
        self._deliver = deliver
        self._now = now
        self._tell = tell

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        summaries: list[HourlySummary] = []
        refused: list[ProducerRecord] = []
        for record in records:
            try:
                summaries.append(read(record))
            except Rejected as error:
                refused.append(rejection(record, error.reason, str(error), self._now()))
        if refused:
            await self._deliver(topics.REJECTED, partition, refused)
        fresh = newest(summaries, self._table.data)
        if fresh:
            told = [ProducerRecord(key_of(summary).encode(), encode(summary)) for summary in fresh]
            await self._deliver(topics.SUMMARIES, partition, told)
            changes: dict[str, int | None] = {
                key: None for summary in fresh for key in outdated(summary, self._table.data)
            }
            await store(self._table, partition, changes | {key_of(one): one.revision for one in fresh})
        self._tell(fresh)


def _is_possible(summary: Summary) -> bool:
    """Whether readings could have been summed up so; false of what is no number."""
    if summary.count < 1 or not -VALUE_MAX <= summary.low <= summary.high <= VALUE_MAX:
        return False
    slack = ROUNDING * summary.count * max(abs(summary.low), abs(summary.high))
    return summary.count * summary.low - slack <= summary.total <= summary.count * summary.high + slack


def _hour(text: str) -> str:
    try:
        start_s = clock.seconds(text)
    except (ValueError, OverflowError):
        start_s = math.nan
    if not start_s >= 0 or start_s % 3600:
        raise Rejected("hour-invalid", "its hour is not the start of one since 1970, RFC 3339, UTC")
    return clock.rfc3339(start_s)
