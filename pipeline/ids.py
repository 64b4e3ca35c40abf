"""Event ids: UUIDs (RFC 9562), made once at the capture or at the first agent, and never changed.

An id is a UUIDv7, which begins with the time of the capture. A window over the streams of a room is an event, too. Its
id is derived from the window, so a window that is sent twice is the same event::

    >>> derived(0.0, "home/office", "600") == derived(0.0, "home/office", "600")
    True

The id of a file is derived from its stream and its bytes. Without a time in the bytes it is a UUIDv8, which has none.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import Final

_COMMENT: Final = b"\xff\xfe\x00\x32tierwise-id="
"""A JPEG's comment segment of 50 bytes, which ends with the 36 characters of an id."""

_COMMENT_WITHIN_BYTES: Final = 1 << 16


def event_id(now_s: float) -> str:
    """Return a new UUIDv7 of this wall-clock time (seconds since the epoch)."""
    return _uuid7(now_s, os.urandom(10))


def derived(time_s: float, *names: str) -> str:
    """Return the UUIDv7 whose random part is the SHA-256 of these names: equal input gives an equal id."""
    return _uuid7(time_s, hashlib.sha256("\0".join(names).encode()).digest()[:10])


def of_content(time_s: float | None, source: str, digest: bytes) -> str:
    """Return the id of a file on a stream. `time_s` is the time that its bytes hold, in seconds since the epoch."""
    if time_s is not None:
        return derived(time_s, source, digest.hex())
    random = hashlib.sha256(source.encode() + b"\0" + digest).digest()
    return _uuid(8, int.from_bytes(random[:6], "big"), random[6:16])


def in_jpeg(jpeg: bytes, event: str) -> bytes:
    """Return a JPEG that brings this id in a comment: for a publisher that sends equal pictures as several events."""
    return jpeg[:2] + _COMMENT + event.encode() + jpeg[2:]


def of_jpeg(data: bytes) -> str | None:
    """Return the id that a frame brings, or None."""
    at = data.find(_COMMENT, 2, _COMMENT_WITHIN_BYTES) if data.startswith(b"\xff\xd8") else -1
    text = data[at + len(_COMMENT) :][:36].decode("ascii", "replace") if at >= 0 else ""
    return text if is_event_id(text) else None


def is_event_id(text: str) -> bool:
    """Return whether a publisher's own `id` is a UUID in its canonical spelling."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _uuid7(now_s: float, tail: bytes) -> str:
    return _uuid(7, max(0, int(now_s * 1000)) & (1 << 48) - 1, tail)


def _uuid(version: int, head: int, tail: bytes) -> str:
    """Return the UUID of this version that begins with 48 bits and ends with 10 bytes."""
    number = head << 80 | int.from_bytes(tail, "big")
    number = number & ~(0xF << 76) | version << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    # Slices, since `str(uuid.UUID(...))` takes three times as long, and every arriving message needs an id.
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_s(event: str) -> float | None:
    """Return the capture time in an event's UUIDv7 (UTC seconds), or None if the id has another version."""
    number = uuid.UUID(event)
    return (number.int >> 80) / 1000 if number.version == 7 else None
