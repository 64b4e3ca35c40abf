"""Routes records by their headers alone, a batch at a time; payloads are never decoded.

The gateway puts all envelopes on `topics.INGEST`. The router passes each to the topic of its readers: public features
to the cloud agent, results and summaries to the other processors here, sealed records to the topics of their level, for
their owners only::

    >>> public = {"privacy": b"public", "kind": b"feature", "ce_id": b"0193", "ce_type": b"tierwise.feature.v1",
    ...           "revision": b"1", "ce_source": b"home/cam1/garden", "ce_time": b"2026-05-01T12:00:00.000Z"}
    >>> route([*public.items()])
    Route(topic='tierwise.features.public', reason='', detail='')
    >>> route([*(public | {"privacy": b"publik"}).items()]).reason
    'privacy-unknown'

It fails closed: a record is rejected if `records.judge` refuses it or no row of `ROUTES` takes it. A record keeps its
key, headers and partition number; of a rejected record only the reason is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.messages import Kind, Privacy
from pipeline.records import Headers, judge
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, rejection
from pipeline.topics import Header

Routed = Callable[[int, Sequence[ProducerRecord]], Awaitable[None]]
"""Takes the partition's number and the records that were routed in it, in order."""


class Row(NamedTuple):
    """A row of the routing table: records of these kinds and this level go to this topic."""

    kinds: frozenset[Kind]
    privacy: Privacy
    topic: str


ROUTES: Final = (
    Row(frozenset({Kind.FEATURE}), Privacy.PUBLIC, topics.ROUTED[Privacy.PUBLIC]),
    Row(frozenset({Kind.RESULT}), Privacy.PUBLIC, topics.RESULTS),
    Row(frozenset({Kind.SUMMARY}), Privacy.PUBLIC, topics.SUMMARIES_INGEST),
    Row(frozenset({Kind.LABEL}), Privacy.PUBLIC, topics.LABELS),
    Row(frozenset({Kind.SUM}), Privacy.PUBLIC, topics.SUMS),
    Row(frozenset(Kind), Privacy.EDGE_PRIVATE, topics.ROUTED[Privacy.EDGE_PRIVATE]),
    Row(frozenset(Kind), Privacy.USER_PRIVATE, topics.ROUTED[Privacy.USER_PRIVATE]),
)
"""Public pixels and readings have no row: no role in the cloud takes them, so they are rejected."""


class Route(NamedTuple):
    """The topic of a record; for a rejected record also the reason and its explanation."""

    topic: str
    reason: str = ""
    detail: str = ""


_TAKEN: Final = {
    (row.privacy.value.encode(), kind.value.encode()): Route(row.topic) for row in ROUTES for kind in row.kinds
}
"""`ROUTES` by the bytes of the headers: hashing bytes is cheaper than hashing members of an enum."""


def route(headers: Headers) -> Route:
    """Decide by a record's headers. Unreadable headers do not raise: they lead to the rejected topic."""
    try:
        privacy, kind, found = judge(headers)
    except Rejected as error:
        return Route(topics.REJECTED, error.reason, str(error))
    taken = _TAKEN.get((found[Header.PRIVACY], found[Header.KIND]))
    return taken or Route(topics.REJECTED, "kind-not-taken", f"a {kind} that is {privacy} is not taken here")


def sort(records: Iterable[ConsumedRecord], now_s: float) -> dict[str, list[ProducerRecord]]:
    """Return the records to deliver to each topic, in order."""
    sorted_: dict[str, list[ProducerRecord]] = {}
    for record in records:
        to = route(record.headers)
        out = (
            rejection(record, to.reason, to.detail, now_s)
            if to.topic == topics.REJECTED
            else ProducerRecord(record.key, record.value, record.headers, record.timestamp)
        )
        sorted_.setdefault(to.topic, []).append(out)
    return sorted_


class Router:
    """Handler of `topics.INGEST`; `routed` gets the records of each topic after Kafka has stored them."""

    def __init__(self, deliver: Deliver, now: Callable[[], float], routed: Mapping[str, Routed] | None = None) -> None:
        self._deliver = deliver
        self._now = now
        self._routed = routed or {}

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        """Route a batch; return when Kafka has stored its records in their topics."""
        by_topic = sort(records, self._now())
        await asyncio.gather(*(self._deliver(topic, partition, out) for topic, out in by_topic.items()))
        for topic, take in self._routed.items():
            if routed := by_topic.get(topic):
                await take(partition, routed)
