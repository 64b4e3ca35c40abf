"""Describe a full spool: the refusal of new input, and a part for `/health`.

A full spool stores no new message. Everything else goes on: answers, acknowledgements, deadlines, status, and sending
what waits. New input is taken again as soon as the next hop has acknowledged enough records.
"""

from __future__ import annotations

from pipeline.errors import Rejected
from pipeline.spool import Spool


def store_full(spool: Spool, waits_for: str, setting: str) -> Rejected:
    """Return the refusal of new input. `waits_for` names the next tier, `setting` the key that makes more room."""
    return Rejected("store-full", f"{_figures(spool, waits_for)}. Send it again later, or raise {setting}")


def store_parts(spool: Spool, waits_for: str, setting: str) -> dict[str, str]:
    """Return the part for `/health` while the spool is full."""
    if not spool.full:
        return {}
    text = (
        f"{_figures(spool, waits_for)}; new input is refused. Check the connection to {waits_for}, or raise {setting}"
    )
    return {"store": text}


def _figures(spool: Spool, waits_for: str) -> str:
    size_mib, limit_mib = spool.size_bytes / 2**20, spool.limit_bytes / 2**20
    return f"store full: {size_mib:.1f} MiB wait for {waits_for} or for an answer, and {limit_mib:g} MiB are allowed"
