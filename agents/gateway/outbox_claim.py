"""Which outbox is this gateway's, where several share a data folder, and what becomes of one that nobody holds any more.

Replicas of a container share its volume. Each takes the first file that no other process holds, by the spool's own
lock; a gateway that is taken away for good leaves its file behind, and another moves what still waits there into its own::

    spool.db      held by gateway 1
    spool-2.db    held by gateway 2    (after `--scale gateway=1`: taken over by gateway 1)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.spool import InUse, Spool

SLOTS: Final = 64
"""More gateways than anybody starts on one volume."""

MOVED_AT_ONCE: Final = 500


class Slot(NamedTuple):
    """One gateway's place in a folder."""

    spool: Spool
    name: str
    """Survives restarts, so that a broker ends what is left of the connection before."""


def claim(folder: Path, *, limit_bytes: int) -> Slot:
    """Take the first outbox that is free, made on first use.

    Raises
    ------
    Stop
        Every one is in use, or a file cannot be used: see `Spool.open`.
    """
    for number in range(1, SLOTS):
        try:
            spool = Spool.open(_path(folder, number), limit_bytes=limit_bytes)
        except InUse:
            continue
        return Slot(spool, _name(folder, number))
    return Slot(Spool.open(_path(folder, SLOTS), limit_bytes=limit_bytes), _name(folder, SLOTS))


def adopt(folder: Path, own: Spool, hop: str, now_s: float) -> int:
    """Move what waits in outboxes that nobody holds into our own; returns how many records that were.

    A kill in between leaves a record in both: it is sent twice, which is harmless.

    Raises
    ------
    Retry
        A file is locked or the disk is full; what was moved so far is moved.
    """
    moved = 0
    for left in _left_behind(folder, own):
        try:
            while records := left.outgoing(hop, MOVED_AT_ONCE, now_s):
                with own.transaction() as tx:
                    tx.send(*records)
                left.settle(hop, [record.id for record in records])
                moved += len(records)
        finally:
            left.close()
    return moved


def _left_behind(folder: Path, own: Spool) -> Iterator[Spool]:
    for number in range(1, SLOTS + 1):
        path = _path(folder, number)
        if path == own.path or not path.exists():
            continue
        try:
            left = Spool.open(path, limit_bytes=own.limit_bytes)
        except InUse:
            continue
        yield left


def _path(folder: Path, number: int) -> Path:
    return folder / ("spool.db" if number == 1 else f"spool-{number}.db")


def _name(folder: Path, number: int) -> str:
    path = folder / ("instance" if number == 1 else f"instance-{number}")
    if not path.exists():
        path.write_text(secrets.token_hex(4), "ascii")
    return path.read_text("ascii")
