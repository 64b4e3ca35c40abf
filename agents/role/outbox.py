"""Put messages into the outbox with their type, and read them back and clear them at the privacy gate when they leave.

A record enters the outbox in the transaction that finishes its cause. The gate reads the message itself when it leaves,
so that a message withdrawn or raised in between stays::

    tx.send(outgoing(result, hop="site", topic=..., id=..., now_s=...))    # agent
    Sender(..., clear=partial(cleared, to=Tier.EDGE))                      # when it leaves
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from pipeline import messages
from pipeline.errors import Rejected
from pipeline.messages import (
    Ack,
    Ask,
    Discovery,
    DownlinkAck,
    Drift,
    Envelope,
    Event,
    EventAck,
    Malformed,
    Privacy,
    Refusal,
    Result,
    SightingReport,
    StreamPicture,
    Tier,
)
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared
from pipeline.spool import Outgoing

_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        Ack,
        Ask,
        Discovery,
        DownlinkAck,
        Drift,
        Envelope,
        Event,
        EventAck,
        StreamPicture,
        Refusal,
        Result,
        SightingReport,
    )
}
"""Types of messages that may wait in an outbox, by the name that is stored with each record."""

M = TypeVar("M", bound=msgspec.Struct)


def outgoing(
    message: msgspec.Struct,
    *,
    hop: str,
    topic: str,
    id: str,
    now_s: float,
    event: str = "",
    privacy: Privacy = Privacy.PUBLIC,
) -> Outgoing:
    """Return a record for the outbox. `id` is unique within the hop; a withdrawal of `event` cancels the record."""
    return Outgoing(
        id=id,
        hop=hop,
        topic=topic,
        payload=messages.encode(message),
        created_at=now_s,
        event=event,
        kind=type(message).__name__,
        privacy=privacy,
    )


def opened(record: Outgoing) -> msgspec.Struct:
    """Return the message of an outbox record. Raises `Rejected` (``outdated``) if another release wrote it."""
    kind = _TYPES.get(record.kind)
    if kind is None:
        raise _outdated(record, "this release has no such message")
    return opened_as(kind, record)


def opened_as(kind: type[M], record: Outgoing) -> M:
    """Return the message of a record that can only be of one kind. Raises `Rejected` as `opened` does."""
    try:
        return messages.decode(kind, record.payload)
    except Malformed as error:
        raise _outdated(record, str(error)) from None


def _outdated(record: Outgoing, why: str) -> Rejected:
    return Rejected(
        "outdated",
        f"{record.id} for {record.hop} waited in the outbox as {record.kind}, written by another release: {why}",
    )


def cleared(record: Outgoing, *, to: Tier) -> Cleared:
    """Pass a record through the gate.

    Raises `Withheld` if the message may not travel to that tier, and `Rejected` as `opened` does.
    """
    return gate.clear(opened(record), record.topic, to=to)
