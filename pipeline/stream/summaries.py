"""Hourly summaries: publishes each revision of a stream's hour once, the newest last.

The router writes the input; the output, `topics.SUMMARIES`, is compacted, so a reader always finds each hour's last
value. Edges repeat unacknowledged summaries, and late readings raise an hour's revision, so an older revision may come
after a newer one. A Faust table remembers each hour's newest revision (key ``source|hour``) for `KEEP_DAYS` days::

    summaries.ingest #  revision 1, 2, 1  ->  Summaries (table: revision)  ->  summaries #  revision 1, 2
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pipeline import clock, topics
from pipeline.clock import EARLY_S
from pipeline.errors import Rejected
from pipeline.messages import Malformed, Privacy, Summary, decode, encode
from pipeline.readings import VALUE_MAX
from pipeline.records import HourlySummary, read_headers
from pipeline.stream.batches import store
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, read_each

KEEP_DAYS: Final = 40
"""Days for which a repeated older revision is recognised: far longer than an outbox keeps a summary."""


ROUNDING: Final = 1e-9
"""Allowed relative error of a sum of floats: summing a million floats loses a thousandth of this."""


def read(record: ConsumedRecord, now_s: float = math.inf) -> HourlySummary:
    """Return the summary that a record carries, ready to be published.

    An hour more than a day after `now_s` is invalid: its site's clock is wrong.

    Raises
    ------
    Rejected
        With the reasons of `records.read_headers`; ``not-public``, ``malformed``, ``hour-invalid``,
        ``summary-invalid``.
    """
    facts = read_headers(record.headers)
    if facts.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record on {topics.SUMMARIES_INGEST} is {facts.privacy}")
    try:
        summary = decode(Summary, record.value or b"")
    except Malformed:
        # The decoder's own error may quote the content, so the reason says no more.
        raise Rejected("malformed", f"{facts.source}: the value is not a Summary") from None
    if not _is_possible(summary):
        raise Rejected(
            "summary-invalid",
            f"{facts.source}: an hour needs a reading, none may exceed ±{VALUE_MAX:g}, and the mean must lie between them",
        )
    return HourlySummary(
        source=facts.source,
        hour=_hour(summary.hour, now_s + EARLY_S),
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
    """Return the key of a summary, in the table and on the topic."""
    return f"{summary.source}|{summary.hour}"


def newest(summaries: Sequence[HourlySummary], published: Mapping[str, int]) -> list[HourlySummary]:
    """Return each hour's newest revision, if it is newer than the published revision of that hour."""
    best: dict[str, HourlySummary] = {}
    for summary in summaries:
        key = key_of(summary)
        known = best[key].revision if key in best else published.get(key, 0)
        if summary.revision > known:
            best[key] = summary
    return list(best.values())


def outdated(summary: HourlySummary, published: Mapping[str, int]) -> list[str]:
    """Return the stream's keys that can be forgotten now: the 24 hours that end `KEEP_DAYS` before this hour."""
    end = dt.datetime.fromtimestamp(clock.seconds(summary.hour), dt.UTC) - dt.timedelta(days=KEEP_DAYS)
    hours = (clock.rfc3339((end - dt.timedelta(hours=back)).timestamp()) for back in range(24))
    return [key for hour in hours if (key := f"{summary.source}|{hour}") in published]


class Summaries:
    """Handler of `topics.SUMMARIES_INGEST`."""

    def __init__(
        self,
        table: Any,
        deliver: Deliver,
        now: Callable[[], float],
        on_summaries: Callable[[Sequence[HourlySummary]], None],
    ) -> None:
        self._table = table
        self._deliver = deliver
        self._now = now
        self._on_summaries = on_summaries

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        """Publish the new revisions among a batch of summaries."""
        now_s = self._now()
        summaries, rejections = read_each(records, lambda record: read(record, now_s), now_s)
        if rejections:
            await self._deliver(topics.REJECTED, partition, rejections)
        fresh = newest(summaries, self._table.data)
        if fresh:
            out = [ProducerRecord(key_of(summary).encode(), encode(summary)) for summary in fresh]
            await self._deliver(topics.SUMMARIES, partition, out)
            changes: dict[str, int | None] = {
                key: None for summary in fresh for key in outdated(summary, self._table.data)
            }
            changes |= {key_of(summary): summary.revision for summary in fresh}
            await store(self._table, partition, changes)
        self._on_summaries(fresh)


def _is_possible(summary: Summary) -> bool:
    """Return whether readings can have these sums; False for NaN."""
    if summary.count < 1 or not -VALUE_MAX <= summary.low <= summary.high <= VALUE_MAX:
        return False
    slack = ROUNDING * summary.count * max(abs(summary.low), abs(summary.high))
    return summary.count * summary.low - slack <= summary.total <= summary.count * summary.high + slack


def _hour(text: str, latest_s: float) -> str:
    try:
        start_s = clock.seconds(text)
    except (ValueError, OverflowError):
        start_s = math.nan
    if not 0 <= start_s <= latest_s or start_s % 3600:
        raise Rejected("hour-invalid", "the hour must be the start of an hour, from 1970 to tomorrow, RFC 3339, UTC")
    return clock.rfc3339(start_s)
