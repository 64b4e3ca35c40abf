"""The records of the spool.

The spool stores an `Arrival` and returns a `Receipt`. A worker claims the message as an `Item` and sends `Outgoing`
records, which the spool keeps until their next hop has acknowledged them::

    Arrival > receive > Receipt          waiting > Item > finish          send > Outgoing > settle
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pipeline.messages import Privacy


class MessagePart(NamedTuple):
    """A part of a message that is stored and handed out by itself."""

    topic: str
    payload: bytes


class Backlog(NamedTuple):
    """The most that may wait of one topic before new messages are refused."""

    messages: int
    age_s: float
    """Seconds for which the oldest of them has waited."""
    since_s: float = 0.0
    """Waiting counts from this time at most: the start of the agent, since nobody could be answered before."""


class Arrival(NamedTuple):
    """A message to store."""

    topic: str
    payload: bytes
    received_at: float
    """Seconds since the epoch, UTC."""
    id: str | None = None
    """The publisher's own id; without it the spool makes a new UUIDv7."""
    limit: Backlog | None = None
    """Refuse this message as `busy` if so much of its topic waits already."""
    captured_at: float | None = None
    """When it was captured, if neither id nor payload hold the time: that of a file. Seconds since the epoch, UTC."""
    same_within_s: float = 0.0
    """Without an id, an equal message on the topic that was stored so recently makes this one a repeat."""
    parts: tuple[MessagePart, ...] = ()
    """What to store in place of the payload. The first part has the message's id, the others ids made of it."""


class Receipt(NamedTuple):
    """An arrival that is on disk, unless it is a `conflict`, `full` or `busy`: then it was not stored."""

    id: str
    topic: str
    payload: bytes
    sha256: str
    """Digest of the payload, hexadecimal."""
    repeat: bool
    """The message was received before, so it was not stored again."""
    conflict: bool = False
    """The id already names a message with another topic or content: refuse this message."""
    full: bool = False
    """The spool has no room: refuse this message for now, and do not acknowledge it."""
    busy: bool = False
    """Too much of its topic waits already: the same."""


class Item(NamedTuple):
    """A stored message that the caller of `waiting` has claimed."""

    row: int
    id: str
    topic: str
    payload: bytes
    received_at: float
    captured_at: float | None = None


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A record kept until its next hop has acknowledged it."""

    id: str
    """Unique within its hop: a new record with the same id replaces the earlier one."""
    hop: str
    topic: str
    payload: bytes
    created_at: float
    """Seconds since the epoch, UTC."""
    event: str = ""
    kind: str = ""
    privacy: Privacy = Privacy.USER_PRIVATE
    attempts: int = 0
    """Number of times that this process has sent the record. Set by `outgoing`."""
    seq: int = 0
    """Number that distinguishes records with the same id. Set by `outgoing`."""
