"""A ring of recent pictures that stays on the device, so that its owner can see which picture an answer is about.

Files are called `<event id>.jpg` (or `.png`); only the device's own user can read them (0600). A file's time is that of
the picture's arrival, since a photo of last year may arrive today. So the oldest are found without an index, and a kill
at any moment leaves nothing to repair.
"""

from __future__ import annotations

import contextlib
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
        self._held: dict[str, tuple[float, int]] | None = None
        """Arrival (UTC seconds) and size of each file, in the order of arrival."""

    def keep(self, event: str, data: bytes, now_s: float) -> None:
        """Store one picture unchanged, then drop the oldest beyond the ring's size and age.

        `now_s` is the picture's arrival, in UTC seconds.
        """
        if not self._max_bytes:
            return
        if self._held is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files = kept(self._folder).items()
            self._held = {path.name: (status.st_mtime, status.st_size) for path, status in files}
        name = event + _SUFFIX.get(data[:4], ".jpg")
        temporary = self._folder / f".{name}"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        os.utime(temporary, (now_s, now_s))
        temporary.rename(self._folder / name)
        self._held.pop(name, None)
        self._held[name] = (now_s, len(data))
        self._prune(self._held, now_s)

    def find(self, event: str) -> Path | None:
        """Return the path of an event's picture, or None if the ring does not hold it any more."""
        return next(iter(sorted(self._folder.glob(f"{event}.*"))), None)

    def _prune(self, held: dict[str, tuple[float, int]], now_s: float) -> None:
        total = sum(size_bytes for _, size_bytes in held.values())
        for name, (arrived_s, size_bytes) in list(held.items()):
            if total <= self._max_bytes and now_s - arrived_s <= self._max_days * DAY_S:
                continue
            (self._folder / name).unlink(missing_ok=True)
            total -= size_bytes
            del held[name]


def kept(folder: Path) -> dict[Path, os.stat_result]:
    """Return the pictures in the folder and their status, in the order of their arrival."""
    found: dict[Path, os.stat_result] = {}
    for path in sorted(folder.glob("[!.]*")):
        with contextlib.suppress(FileNotFoundError):  # the ring's own process drops pictures at any time
            found[path] = path.stat()
    return dict(sorted(found.items(), key=lambda item: item[1].st_mtime))
