"""What bad input gets: its reason, on the rejected topic, with size and digest so that its sender recognises it; never
its content.
"""

from __future__ import annotations

import hashlib

from agents.role import outbox
from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import Refusal
from pipeline.spool import Outgoing


def refusal_of(error: Rejected, topic: str, payload: bytes, now_s: float) -> Refusal:
    """What is told about a refused payload."""
    return Refusal(
        reason=error.reason,
        detail=str(error),
        topic=topic,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        time=clock.rfc3339(now_s),
    )


def refusal(error: Rejected, topic: str, payload: bytes, *, site: str, hop: str, now_s: float) -> Outgoing:
    """The same, ready for the outbox. A topic with an odd device name is told under device `_`."""
    parsed = topics.parse(topic)
    device = parsed.device if parsed is not None and topics.is_name(parsed.device) else topics.NO_DEVICE
    told = refusal_of(error, topic, payload, now_s)
    name = f"refusal/{told.sha256}/{now_s}"
    return outbox.letter(told, hop=hop, topic=topics.rejected(site, device), id=name, now_s=now_s)
