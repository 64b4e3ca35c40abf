"""The targets in the signed metadata of releases: the files of the heads, and the version to serve.

All targets are under the name of the model whose heads are released::

    lite0/3/manifest.json, lite0/3/sums.bin, ...     one release's files, never changed after signing
    lite0/current.json                               which version to serve, and how to start it

A rollback is a newer `Current` that names an older version. Nothing is withdrawn, so that old metadata cannot be
replayed.

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
"""The model whose heads are released."""

CURRENT: Final = f"{MODEL}/current.json"
"""The target that names the version to serve."""

CANARY_SHARE: Final = 0.1
CANARY_S: Final = 600.0
"""A new version first answers a tenth of the streams for ten minutes."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Version = Annotated[int, msgspec.Meta(ge=0)]


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """The version to serve. Version 0 is the shipped model without a release."""

    version: Version
    canary_share: Share = CANARY_SHARE
    """The share of the streams that the version answers first; 1 means all at once."""
    canary_s: Annotated[float, msgspec.Meta(ge=0)] = CANARY_S
    """Time for which the version must do well on these streams before it answers all."""
    why: str
    by: str

    @property
    def title(self) -> str:
        """The name in results: ``lite0@3``."""
        return f"{MODEL}@{self.version}"

    def encoded(self) -> bytes:
        """Encode as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def of(cls, data: bytes) -> Current:
        """Decode JSON. Raises `Rejected` (``bad-current``) for content that this version does not know."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, ValueError) as error:
            raise Rejected(
                "bad-current",
                f"{CURRENT} is signed but unknown to this version ({error}): upgrade this agent, or release again",
            ) from None


def target(version: int, name: str) -> str:
    """Return the path of a release's file."""
    return f"{MODEL}/{version}/{name}"


def files_of(version: int, targets: Iterable[str]) -> dict[str, str]:
    """Return the targets of one release: file name to path."""
    prefix = target(version, "")
    return {path.removeprefix(prefix): path for path in targets if path.startswith(prefix)}


def versions_of(targets: Iterable[str]) -> tuple[int, ...]:
    """Return the releases among these targets, oldest first."""
    paths = (path.removeprefix(f"{MODEL}/").split("/") for path in targets if path.startswith(f"{MODEL}/"))
    return tuple(sorted({int(parts[0]) for parts in paths if len(parts) > 1 and parts[0].isdecimal()}))
