"""Short event ids: what tables show, and how the whole id is found again.

>>> short("0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11")
'2f6b1c11'
>>> find("6b1c", ["0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11", "0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b2000"])
'0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pipeline.errors import Rejected

SHORT: Final = 8
"""Characters of an id's random end: enough for some 10,000 events on one screen or in one folder."""

PART: Final = re.compile(r"[0-9a-f-]{4,36}")

LAST: Final = "last"

CANDIDATES_SHOWN: Final = 5


def short(event: str) -> str:
    """Return the end of an event's id, which is enough to identify it in every command."""
    return event[-SHORT:]


def check_part(text: str) -> None:
    """Check that this can be a part of an id. Raises `Rejected`."""
    if PART.fullmatch(text) is None:
        raise Rejected(
            "event-invalid",
            f"{text}: give the id of an event, 4 or more characters of it, or `last`; `tierwise watch` shows ids",
        )


def find(text: str, candidates: Sequence[str], where: str = "here") -> str:
    """Return the one candidate that holds this text; `last` is the last of the candidates.

    Raises
    ------
    Rejected
        ``event-invalid``: no part of an id; ``unknown-event``; ``event-ambiguous``, with the candidates.
    """
    if text == LAST:
        if not candidates:
            raise Rejected("unknown-event", f"there is no event {where} yet, and so no last one")
        return candidates[-1]
    check_part(text)
    found = [event for event in candidates if text in event]
    if not found:
        raise Rejected("unknown-event", f"{text}: no event {where} has this in its id")
    if len(found) > 1:
        shown = ", ".join(map(short, found[: -CANDIDATES_SHOWN - 1 : -1]))
        more = f" and {len(found) - CANDIDATES_SHOWN} more" if len(found) > CANDIDATES_SHOWN else ""
        raise Rejected(
            "event-ambiguous", f"{text} is in the ids of {len(found)} events; give one of them: {shown}{more}"
        )
    return found[0]
