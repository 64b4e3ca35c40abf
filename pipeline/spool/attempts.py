"""Count the attempts to send each record of the outbox, and the time when it is due again.

This is in memory only, in monotonic time: after a restart all records are due. The caller holds the spool's read lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class _Attempt(NamedTuple):
    sent: int
    next_at: float


class Attempts:
    """The attempts of all records, by hop and id."""

    def __init__(self) -> None:
        self._of: defaultdict[str, dict[str, _Attempt]] = defaultdict(dict)

    def sent(self, hop: str, name: str) -> int:
        """Return how often a record was sent."""
        attempt = self._of[hop].get(name)
        return attempt.sent if attempt is not None else 0

    def is_due(self, hop: str, name: str, now: float) -> bool:
        """Return whether a record was never sent, or so long ago that it must be sent again."""
        attempt = self._of[hop].get(name)
        return attempt is None or attempt.next_at <= now

    def note(self, hop: str, names: Iterable[str], next_at: float) -> None:
        """Note that these records were sent, and when they are due again."""
        for name in names:
            self._of[hop][name] = _Attempt(self.sent(hop, name) + 1, next_at)

    def forget(self, hop: str, name: str) -> None:
        """Forget a record that is settled or replaced."""
        self._of[hop].pop(name, None)

    def forget_hop(self, hop: str) -> None:
        """Make all records of a hop due now."""
        self._of[hop].clear()
