"""What goes into the spool and comes out of it.

An `Arrival` is stored and answered by a `Receipt`, a worker claims it as an `Item`, and what it sends is an
`Outgoing`, kept until its next hop has acknowledged it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pipeline.messages import Privacy


class Arrival(NamedTuple):
    """A message to be stored."""

    topic: str
    payload: bytes
    received_at: float
    """Seconds since the epoch, UTC."""
    id: str | None = None
    """The payload's own id; None: a new UUIDv7 is made."""


class Receipt(NamedTuple):
    """An arrival that is on disk; or, where it is a `conflict`, that will never be."""

    id: str
    topic: str
    payload: bytes
    sha256: str
    """Of the payload, hexadecimal."""
    repeat: bool
    """It had been received before, and was not stored again."""
    conflict: bool = False
    """Its own id names another message, of another topic or content: it was not stored, and is to be refused."""


class Item(NamedTuple):
    """A stored message, claimed by the caller of `waiting`."""

    row: int
    id: str
    topic: str
    payload: bytes
    received_at: float


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A record kept until its next hop has acknowledged it."""

    id: str
    """Unique within its hop; sent again under the same id, the latest replaces the earlier."""
    hop: str
    topic: str
    payload: bytes
    created_at: float
    """Seconds since the epoch, UTC."""
    event: str = ""
    kind: str = ""
    privacy: Privacy = Privacy.USER_PRIVATE
    attempts: int = 0
    """How often this process has sent it. Set by `outgoing`."""
    seq: int = 0
    """Which of those of the same id this is. Set by `outgoing`."""
