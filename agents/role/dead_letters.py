"""Refuse records that cannot be answered, so that no record ends a role.

Bad input is refused with its reason on the rejected topic: its size and digest, so that the sender recognises it, and
never its content. A record that reveals a bug of ours is refused with ``internal-error`` and the bug is logged;
otherwise the role would end, start again, and meet the same record first.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from typing import Final

import structlog

from agents.role import outbox
from pipeline import clock, topics
from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import Malformed, Refusal
from pipeline.spool import Outgoing

log = structlog.get_logger("inbox")

INTERNAL_ERROR: Final = "internal-error"

RETRY_S: Final = 1.0
"""Pause between tries while the disk is full. The record waits; nothing new is acknowledged."""

TIME_END_S: Final = 4_102_444_800.0
"""The year 2100: a later time is an error of its sender."""


def answer_or_refuse(answer: Callable[[], None], refuse: Callable[[Rejected], None], stop: threading.Event) -> None:
    """Answer one record, or refuse it. Both callables commit, or raise `Retry` and change nothing.

    Raises
    ------
    Stop
        The store itself is broken.
    """
    step = answer
    while not stop.is_set():
        try:
            step()
        except Retry as error:
            log.warning("the store is busy or full: trying again", error=str(error))
            stop.wait(RETRY_S)
        except (Stop, MemoryError):
            raise
        except (Rejected, Malformed) as error:
            step = _refusing(refuse, Rejected(error.reason, str(error)), step is answer)
        except Exception as error:
            log.exception("a record caused an internal error and is refused")
            why = Rejected(INTERNAL_ERROR, f"internal error ({type(error).__name__}); please report it with the log")
            step = _refusing(refuse, why, step is answer)
        else:
            return


def _refusing(refuse: Callable[[Rejected], None], why: Rejected, first: bool) -> Callable[[], None]:
    """Return the step that refuses the record. If refusing failed too, the store is at fault: raise `Stop`."""
    if not first:
        raise Stop(f"a record could be neither answered nor refused: {why}")
    return lambda: refuse(why)


def check_times(*times: str | float) -> None:
    """Check the times of another agent's message: RFC 3339 texts or UTC seconds. Raises `Malformed`."""
    for time in times:
        try:
            time_s = clock.seconds(time) if isinstance(time, str) else time
        except (ValueError, OverflowError):
            time_s = math.nan
        if not 0 <= time_s < TIME_END_S:
            raise Malformed("malformed", "a time in the message is not RFC 3339, or not from 1970 to 2099")


def refusal_of(error: Rejected, topic: str, payload: bytes, now_s: float) -> Refusal:
    """Return the refusal of a payload: reason, size and digest, never the content."""
    return Refusal(
        reason=error.reason,
        detail=str(error),
        topic=topic,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        time=clock.rfc3339(now_s),
    )


def refusal(
    error: Rejected, topic: str, payload: bytes, *, site: str, hop: str, now_s: float, device: str = ""
) -> Outgoing:
    """Return the refusal as an outbox record, under the topic's device unless `device` names it.

    An invalid name is replaced by `_`.
    """
    parsed = topics.parse(topic)
    named = device or (parsed.device if parsed is not None else "")
    device = named if topics.is_name(named) else topics.NO_DEVICE
    message = refusal_of(error, topic, payload, now_s)
    name = f"refusal/{message.sha256}/{error.reason}/{now_s}"
    return outbox.outgoing(message, hop=hop, topic=topics.rejected(site, device), id=name, now_s=now_s)
