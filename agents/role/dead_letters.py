"""No record of an inbox ends its role: what cannot be answered is refused, and told on the rejected topic.

Bad input is refused with its own reason. A record that finds a bug of ours is refused with ``internal-error`` and the
bug is logged; else the role would end, start again, and meet the same record first thing.
"""

from __future__ import annotations

import hashlib
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
"""Pause while the disk is full: the record waits, and nothing new is acknowledged."""


def answer_or_refuse(
    answer: Callable[[], None], refuse: Callable[[Rejected], None], stop: threading.Event
) -> None:
    """Deal with one record for good. Both callables commit, or raise `Retry` and change nothing.

    Raises
    ------
    Stop
        The store itself is broken: no record is to blame.
    """
    deal_with = answer
    while not stop.is_set():
        try:
            deal_with()
        except Retry as error:
            log.warning("the store is busy or full: trying again", error=str(error))
            stop.wait(RETRY_S)
        except (Stop, MemoryError):
            raise
        except (Rejected, Malformed) as error:
            deal_with = _refusing(refuse, Rejected(error.reason, str(error)), deal_with is answer)
        except Exception as error:
            log.exception("a record met a bug of ours and is refused")
            why = Rejected(
                INTERNAL_ERROR, f"a bug of ours ({type(error).__name__}): please report it with the log"
            )
            deal_with = _refusing(refuse, why, deal_with is answer)
        else:
            return


def _refusing(refuse: Callable[[Rejected], None], why: Rejected, first: bool) -> Callable[[], None]:
    """What to do after an answer failed. A refusal that fails itself is no record's fault."""
    if not first:
        raise Stop(f"a record can be neither answered nor refused: {why}")
    return lambda: refuse(why)


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
