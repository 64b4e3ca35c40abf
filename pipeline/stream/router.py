"""Where a record goes: decided by its headers alone, a batch at a time; a payload is never decoded.

Stands between the gateway, which puts all envelopes to `topics.INGEST`, and whoever may read them: the cloud agent
(public features), the other processors here (results, summaries), and no one but the sealed record's owner
(`topics.ROUTED` of the private levels)::

    >>> public = {"privacy": b"public", "kind": b"feature", "ce_id": b"0193", "ce_type": b"tierwise.feature.v1",
    ...           "revision": b"1", "ce_source": b"home/cam1/garden", "ce_time": b"2026-05-01T12:00:00.000Z"}
    >>> route([*public.items()])
    Route(topic='tierwise.features.public', reason='', detail='')
    >>> route([*(public | {"privacy": b"publik"}).items()]).reason
    'privacy-unknown'

It fails closed: what `records.judge` refuses, and what no row of `ROUTES` takes, is rejected. A record keeps its
key, its headers and the number of its partition; a rejected one loses everything but the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.messages import Kind, Privacy
from pipeline.records import Headers, judge
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, rejection
from pipeline.topics import Header


class Row(NamedTuple):
    """Records of this kind and level go there."""

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
"""Public pixels and readings are in no row: nobody in the cloud takes them, so nobody gets them."""


class Route(NamedTuple):
    """Where to; a rejected record's reason and what a person should know about it."""

    topic: str
    reason: str = ""
    detail: str = ""


_TAKEN: Final = {
    (row.privacy.value.encode(), kind.value.encode()): Route(row.topic)
    for row in ROUTES
    for kind in row.kinds
}
"""`ROUTES` by what stands in the headers: hashing bytes is cheaper than hashing members of an enum."""


def route(headers: Headers) -> Route:
    """Decide by a record's headers. Never raises: what cannot be read is rejected."""
    try:
        privacy, kind, found = judge(headers)
    except Rejected as error:
        return Route(topics.REJECTED, error.reason, str(error))
    taken = _TAKEN.get((found[Header.PRIVACY], found[Header.KIND]))
    return taken or Route(topics.REJECTED, "kind-not-taken", f"no {kind} that is {privacy} is taken here")


def sort(records: Iterable[ConsumedRecord], now_s: float) -> dict[str, list[ProducerRecord]]:
    """What to deliver to each topic, in order."""
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
    """Handler of `topics.INGEST`: returns when Kafka holds all of a batch's records where they belong."""

    def __init__(self, deliver: Deliver, now: Callable[[], float]) -> None:
        self._deliver = deliver
        self._now = now

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        by_topic = sort(records, self._now())
        await asyncio.gather(*(self._deliver(topic, partition, out) for topic, out in by_topic.items()))
