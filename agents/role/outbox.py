"""What an agent wants to send, on its way through the outbox: written with its type, read back and cleared at each send.

A record is put into the outbox in the transaction that finishes its cause; the gate looks at the message itself when it
leaves, so that what was withdrawn or raised in between does not::

    tx.send(letter(result, hop="site", topic=..., id=..., now_s=...))      # agent
    Sender(..., clear=partial(cleared, to=Tier.EDGE))                      # on its way out
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
        Refusal,
        Result,
        SightingReport,
    )
}
"""What may wait in an outbox, by the word that stands beside it."""

M = TypeVar("M", bound=msgspec.Struct)


def letter(
    message: msgspec.Struct,
    *,
    hop: str,
    topic: str,
    id: str,
    now_s: float,
    event: str = "",
    privacy: Privacy = Privacy.PUBLIC,
) -> Outgoing:
    """A record for the outbox; `id` is its name within the hop, `event` what a withdrawal cancels it by."""
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


def opened(outgoing: Outgoing) -> msgspec.Struct:
    """The message that a record of the outbox holds. Raises `Rejected` (``outdated``) if another release wrote it."""
    kind = _TYPES.get(outgoing.kind)
    if kind is None:
        raise _outdated(outgoing, "no message of this release")
    return opened_as(kind, outgoing)


def opened_as(kind: type[M], outgoing: Outgoing) -> M:
    """The same, where only one kind can be there. Raises `Rejected` as `opened` does."""
    try:
        return messages.decode(kind, outgoing.payload)
    except Malformed as error:
        raise _outdated(outgoing, str(error)) from None


def _outdated(outgoing: Outgoing, why: str) -> Rejected:
    return Rejected(
        "outdated",
        f"{outgoing.id} for {outgoing.hop} waited in the outbox as {outgoing.kind}, which another release wrote: {why}",
    )


def cleared(outgoing: Outgoing, *, to: Tier) -> Cleared:
    """Pass the gate. Raises `Withheld` where the message may not travel to that tier, `Rejected` as `opened` does."""
    return gate.clear(opened(outgoing), outgoing.topic, to=to)
