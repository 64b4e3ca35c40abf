"""Event ids: UUIDv7 (RFC 9562), made once at the capture or at the first agent, and never changed.

A window over the streams of a room is an event, too. Its id is derived from the window, so a window that is sent twice
is the same event::

    >>> derived(0.0, "home/office", "600") == derived(0.0, "home/office", "600")
    True
"""

from __future__ import annotations

import hashlib
import os
import uuid


def event_id(now_s: float) -> str:
    """Return a new UUIDv7 of this wall-clock time (seconds since the epoch)."""
    return _uuid7(now_s, os.urandom(10))


def derived(time_s: float, *names: str) -> str:
    """Return the UUIDv7 whose random part is the SHA-256 of these names: equal input gives an equal id."""
    return _uuid7(time_s, hashlib.sha256("\0".join(names).encode()).digest()[:10])


def is_event_id(text: str) -> bool:
    """Return whether a publisher's own `id` is a UUID in its canonical spelling."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _uuid7(now_s: float, tail: bytes) -> str:
    milliseconds = max(0, int(now_s * 1000)) & (1 << 48) - 1
    number = milliseconds << 80 | int.from_bytes(tail, "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    # Slices, since `str(uuid.UUID(...))` takes three times as long, and every arriving message needs an id.
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_s(event: str) -> float | None:
    """Return the capture time in an event's UUIDv7 (UTC seconds), or None if the id has another version."""
    number = uuid.UUID(event)
    return (number.int >> 80) / 1000 if number.version == 7 else None
