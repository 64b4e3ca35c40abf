"""How often each record of the outbox was sent, and when it is due again.

In memory only: after a restart all are due. Whoever uses it holds the spool's read lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class _Attempt(NamedTuple):
    sent: int
    next_at: float


class Attempts:
    """By hop and id."""

    def __init__(self) -> None:
        self._of: defaultdict[str, dict[str, _Attempt]] = defaultdict(dict)

    def sent(self, hop: str, name: str) -> int:
        """How often."""
        attempt = self._of[hop].get(name)
        return attempt.sent if attempt is not None else 0

    def is_due(self, hop: str, name: str, now: float) -> bool:
        """Whether it was never sent, or so long ago that it is to be sent again."""
        attempt = self._of[hop].get(name)
        return attempt is None or attempt.next_at <= now

    def note(self, hop: str, names: Iterable[str], next_at: float) -> None:
        """These were sent once more, and are due again at this time."""
        for name in names:
            self._of[hop][name] = _Attempt(self.sent(hop, name) + 1, next_at)

    def forget(self, hop: str, name: str) -> None:
        """It is settled, or another one has taken its place."""
        self._of[hop].pop(name, None)

    def forget_hop(self, hop: str) -> None:
        """All of it is due now."""
        self._of[hop].clear()
