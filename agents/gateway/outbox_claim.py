"""Claim an outbox for each gateway that shares a data folder, and adopt outboxes that no process holds.

Replicas of a container share its volume. Each claims the first file that no other process has locked. A gateway that is
removed leaves its file behind, and another gateway moves the waiting records into its own::

    spool.db      held by gateway 1
    spool-2.db    held by gateway 2    (after `--scale gateway=1`: adopted by gateway 1)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.spool import InUse, Spool

SLOTS: Final = 64
"""Most gateways on one volume."""

MOVED_AT_ONCE: Final = 500


class Slot(NamedTuple):
    """A claimed outbox."""

    spool: Spool
    name: str
    """Client name on MQTT. It survives restarts, so that a broker ends the previous connection of the same gateway."""


def claim(folder: Path, *, limit_bytes: int) -> Slot:
    """Claim the first free outbox; create it on first use.

    Raises
    ------
    Stop
        All are in use, or a file cannot be used: see `Spool.open`.
    """
    for number in range(1, SLOTS):
        try:
            spool = Spool.open(_path(folder, number), limit_bytes=limit_bytes)
        except InUse:
            continue
        return Slot(spool, _name(folder, number))
    return Slot(Spool.open(_path(folder, SLOTS), limit_bytes=limit_bytes), _name(folder, SLOTS))


def adopt(folder: Path, own: Spool, hop: str, now_s: float) -> int:
    """Move the waiting records of abandoned outboxes into our own, and return their number.

    A kill in between leaves a record in both outboxes: it is sent twice, which is harmless.

    Raises
    ------
    Retry
        A file is locked or the disk is full. Records moved so far stay moved.
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
