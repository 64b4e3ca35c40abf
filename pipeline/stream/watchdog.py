"""Is the group moving? A worker that is well in its own eyes may idle for ever after a failed rebalance.

So the role looks at Kafka itself (`kafka.Progress`), every few seconds: where records wait and the committed offset has
not moved for `PATIENCE_S`, the group is stuck, and a fresh worker is what unsticks it. Pure; `agents.stream.agent` asks::

    >>> dog = Watchdog(patience_s=30.0)
    >>> dog.stuck(0.0, {("ingest", 0): Place(committed=5, end=9)})
    ''
    >>> dog.stuck(31.0, {("ingest", 0): Place(committed=5, end=12)})
    'ingest/0 stands at 5 of 12 for 31 s'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.kafka import Place

PATIENCE_S: Final = 30.0
"""Ten session timeouts: a rebalance takes one or two, recovery of the tables a few seconds."""


class Watchdog:
    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._waiting: dict[tuple[str, int], tuple[int, float]] = {}
        """Of each partition in which records wait: the committed offset, and since when it has been that."""

    def stuck(self, now_s: float, places: Mapping[tuple[str, int], Place]) -> str:
        """What does not move, or nothing. `now_s` is monotonic time."""
        waiting = {}
        for partition, place in places.items():
            if place.committed < place.end:
                committed, since_s = self._waiting.get(partition, (place.committed, now_s))
                waiting[partition] = (place.committed, since_s if committed == place.committed else now_s)
        self._waiting = waiting
        for (topic, number), (committed, since_s) in waiting.items():
            if now_s - since_s > self._patience_s:
                end = places[topic, number].end
                return f"{topic}/{number} stands at {committed} of {end} for {now_s - since_s:.0f} s"
        return ""

    def excuse(self) -> None:
        """Kafka was away: nothing could move, so patience begins anew."""
        self._waiting = {}
