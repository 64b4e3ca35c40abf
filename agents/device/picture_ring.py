"""A ring of recent pictures that stays on the device, so that its owner can see which picture an answer is about.

Files are called `<event id>.jpg` (or `.png`); only the device's own user can read them (0600). Event ids are UUIDv7 and
sort by time, so the oldest are found without an index, and a kill at any moment leaves nothing to repair.
"""

from __future__ import annotations

import os
from pathlib import Path

DAY_S = 86_400.0
_SUFFIX = {b"\x89PNG": ".png"}


class Pictures:
    """The ring. One process writes it; others may read it."""

    def __init__(self, folder: Path, *, max_bytes: int, max_days: float) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_days = max_days
        self._held: dict[str, int] | None = None

    def keep(self, event: str, data: bytes, now_s: float) -> None:
        """Store one picture unchanged, then drop the oldest beyond the ring's size and age (`now_s`: UTC seconds)."""
        if not self._max_bytes:
            return
        if self._held is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._held = {
                p.name: p.stat().st_size for p in sorted(self._folder.iterdir()) if not p.name.startswith(".")
            }
        name = event + _SUFFIX.get(data[:4], ".jpg")
        temporary = self._folder / f".{name}"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        temporary.rename(self._folder / name)
        self._held[name] = len(data)
        self._prune(self._held, now_s)

    def find(self, event: str) -> Path | None:
        """Return the path of an event's picture, or None if the ring does not hold it any more."""
        return next(iter(sorted(self._folder.glob(f"{event}.*"))), None)

    def _prune(self, held: dict[str, int], now_s: float) -> None:
        total = sum(held.values())
        for name in sorted(held):
            if total <= self._max_bytes and now_s - _made_s(name) <= self._max_days * DAY_S:
                break
            (self._folder / name).unlink(missing_ok=True)
            total -= held.pop(name)


def _made_s(name: str) -> float:
    """Return the time in a UUIDv7, in seconds since the epoch. For any other id, return 0 or a past time."""
    return int(name[:8] + name[9:13], 16) / 1000 if name[14:15] == "7" else 0.0
