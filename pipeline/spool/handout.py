"""Which messages of the inbox are handed out next: by turns over their topics, and each once.

`HandOut` is in memory only: after a restart every message is handed out again. The caller holds the spool's read lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.spool.records import Item

HANDOUT_MAX_BYTES = 32 << 20
"""Payloads of one `take`: two of the largest frames."""


class HandOut:
    """Topics with rows to hand out, in turn, the last row that each has handed out, and the claimed rows."""

    def __init__(self) -> None:
        self._turn: OrderedDict[str, int] = OrderedDict()
        self._claimed: set[int] = set()

    def add(self, topic: str, after: int) -> None:
        """Give a topic a turn, unless it has one: its rows after this one are to be handed out."""
        self._turn.setdefault(topic, after)

    def take(
        self, limit: int, wanted: Callable[[str], bool], rows_of: Callable[[str, int], Iterator[tuple[Any, ...]]]
    ) -> list[Item]:
        """Claim up to this many messages; `rows_of` reads the rows of a topic after one of them."""
        items: list[Item] = []
        size_bytes = 0
        turn = deque(filter(wanted, self._turn))
        share = max(1, limit // max(1, len(turn)))
        while turn and len(items) < limit and size_bytes < HANDOUT_MAX_BYTES:
            topic = turn.popleft()
            last = self._turn.pop(topic)
            taken = 0
            for item in map(Item._make, rows_of(topic, last)):
                if item.row not in self._claimed:
                    self._claimed.add(item.row)
                    items.append(item)
                    size_bytes += len(item.payload)
                    taken += 1
                last = item.row
                if taken == share or len(items) == limit or size_bytes >= HANDOUT_MAX_BYTES:
                    self._turn[topic] = last
                    turn.append(topic)
                    break
        return items

    def release(self, items: Iterable[Item]) -> None:
        """Give claimed messages back, to be handed out again."""
        for item in items:
            self._claimed.discard(item.row)
            self._turn[item.topic] = min(self._turn.get(item.topic, item.row), item.row - 1)

    def finished(self, rows: Iterable[int]) -> None:
        """Forget the claims of these rows."""
        self._claimed.difference_update(rows)


class Arrivals:
    """Counts commits that stored a message, for several threads that wait for the next one."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def wait(self, count: int, timeout_s: float) -> None:
        """Wait until the count differs from this one, which the caller read before it found nothing to do."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != count, timeout_s)

    def ring(self) -> None:
        """Count one more, and end every `wait`."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
