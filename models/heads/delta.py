"""The exact difference of two releases of the heads: releases are sums, and sums subtract.

Example::

    delta = between(None, release)              # None stands for the shipped model
    delta.gained, delta.events["Lynx lynx"]     # ("Lynx lynx",), (0, 40)
"""

from __future__ import annotations

import msgspec

from models.heads.release import HeadRelease


class Delta(msgspec.Struct, frozen=True):
    """The difference of two releases. The shipped model has no learned events, files or figures."""

    gained: tuple[str, ...]
    """Labels that have learned events only in the second release."""
    lost: tuple[str, ...]
    rows: tuple[str, ...]
    """Rows that the label tree gained."""
    events: dict[str, tuple[int, int]]
    """Learned events by label, where the numbers differ."""
    figures: dict[str, tuple[float | None, float | None]]
    bytes_before: int
    bytes_after: int


def between(before: HeadRelease | None, after: HeadRelease | None) -> Delta:
    """Compare two releases on the same base."""
    old, new = events_of(before), events_of(after)
    was, now = (release.lineage.figures if release is not None else {} for release in (before, after))
    known = {row.label for row in before.rows} if before is not None else set()
    return Delta(
        gained=tuple(sorted(new.keys() - old.keys())),
        lost=tuple(sorted(old.keys() - new.keys())),
        rows=tuple(row.label for row in (after.rows if after is not None else ()) if row.label not in known),
        events={
            label: (old.get(label, 0), new.get(label, 0))
            for label in sorted(old.keys() | new.keys())
            if old.get(label, 0) != new.get(label, 0)
        },
        figures={name: (was.get(name), now.get(name)) for name in sorted(was.keys() | now.keys())},
        bytes_before=_size(before),
        bytes_after=_size(after),
    )


def events_of(release: HeadRelease | None) -> dict[str, int]:
    """Return the number of learned events by label."""
    if release is None or release.sums is None:
        return {}
    counts = zip(release.sums.labels, release.sums.counts, strict=True)
    return {label: int(count) for label, count in counts if count}


def _size(release: HeadRelease | None) -> int:
    return sum(map(len, release.files().values())) if release is not None else 0
