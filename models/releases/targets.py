"""What the signed metadata of releases says about the heads: which files, and which version is to serve.

Targets of the repository, all of one model's heads under its name::

    lite0/3/manifest.json, lite0/3/sums.bin, ...     one release's files, never changed once signed
    lite0/current.json                               which version is to serve, and how carefully it is to start

A rollback is a newer `Current` that names an older version: nothing is ever taken back, so that nobody can replay it.

    >>> Current.of(Current(version=3, why="9 new species", by="trainer").encoded()).version
    3
    >>> target(3, "sums.bin"), files_of(3, ["lite0/3/sums.bin", "lite0/30/sums.bin", "lite0/current.json"])
    ('lite0/3/sums.bin', {'sums.bin': 'lite0/3/sums.bin'})
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from pipeline.errors import Rejected

MODEL: Final = "lite0"
"""Whose heads are released."""

CURRENT: Final = f"{MODEL}/current.json"
"""The target that says which version is to serve."""

CANARY_SHARE: Final = 0.1
CANARY_S: Final = 600.0
"""A new version first answers a tenth of the streams, for ten minutes."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Version = Annotated[int, msgspec.Meta(ge=0)]


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """Which version is to serve. Version 0 is the shipped model, without any release."""

    version: Version
    canary_share: Share = CANARY_SHARE
    """Share of the streams that it answers first; 1: all at once."""
    canary_s: Annotated[float, msgspec.Meta(ge=0)] = CANARY_S
    """How long it has to do well there before it answers all."""
    why: str
    by: str

    @property
    def title(self) -> str:
        return f"{MODEL}@{self.version}"

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def of(cls, data: bytes) -> Current:
        """Raises `Rejected` (``bad-current``): signed, and still not understood here."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, ValueError) as error:
            raise Rejected(
                "bad-current",
                f"{CURRENT} is signed and not understood ({error}): upgrade this agent, or release again",
            ) from None


def target(version: int, name: str) -> str:
    """The path of one of a release's files."""
    return f"{MODEL}/{version}/{name}"


def files_of(version: int, targets: Iterable[str]) -> dict[str, str]:
    """Of these targets, those of one release: file name to path."""
    prefix = target(version, "")
    return {path.removeprefix(prefix): path for path in targets if path.startswith(prefix)}


def versions_of(targets: Iterable[str]) -> tuple[int, ...]:
    """The releases among these targets, oldest first."""
    words = (path.removeprefix(f"{MODEL}/").split("/") for path in targets if path.startswith(f"{MODEL}/"))
    return tuple(sorted({int(word[0]) for word in words if len(word) > 1 and word[0].isdecimal()}))
