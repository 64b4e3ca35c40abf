"""Finds a stuck consumer group: after a failed rebalance a worker may look healthy and yet idle for ever.

Every few seconds the stream role measures the group's progress at Kafka (`kafka.Progress`). If records wait and the
committed offset has not moved for `PATIENCE_S`, the group is stuck, and the role restarts its worker. Pure::

    >>> dog = Watchdog(patience_s=30.0)
    >>> dog.stuck(0.0, {("ingest", 0): GroupPosition(committed=5, end=9)})
    ''
    >>> dog.stuck(31.0, {("ingest", 0): GroupPosition(committed=5, end=12)})
    'ingest/0 stands at 5 of 12 for 31 s'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.kafka import GroupPosition

PATIENCE_S: Final = 30.0
"""Ten session timeouts: a rebalance takes one or two, and recovering the tables a few seconds."""


class Watchdog:
    """Remembers since when each partition has waited."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._waiting: dict[tuple[str, int], tuple[int, float]] = {}
        """The committed offset of each partition with waiting records, and the time since which it has not moved."""

    def stuck(self, now_s: float, positions: Mapping[tuple[str, int], GroupPosition]) -> str:
        """Return which partition is stuck, or an empty text. `now_s` is monotonic time."""
        waiting = {}
        for partition, at in positions.items():
            if at.committed < at.end:
                committed, since_s = self._waiting.get(partition, (at.committed, now_s))
                waiting[partition] = (at.committed, since_s if committed == at.committed else now_s)
        self._waiting = waiting
        for (topic, number), (committed, since_s) in waiting.items():
            if now_s - since_s > self._patience_s:
                end = positions[topic, number].end
                return f"{topic}/{number} stands at {committed} of {end} for {now_s - since_s:.0f} s"
        return ""

    def excuse(self) -> None:
        """Start all waits anew, because Kafka was away and no offset could move."""
        self._waiting = {}
