"""The releases that a tier keeps on its disk, so that any start serves the promoted one, even without a network.

::

    <data>/edge/serving.json            the serving and the previous version, and the refused ones with their reasons
    <data>/edge/heads/3/manifest.json, sums.bin, ...    each release is complete, or absent

A release is written into a hidden folder and renamed. `serving.json` is replaced as a whole, before the model in memory
is swapped. So after a crash at any point, the tier serves the old release or the promoted one, never a part of either::

    store = PromotedStore(data / "edge", base="lite0@2")
    store.keep(3, release.files())
    store.write(ServingState(base="lite0@2", serving=3, previous=0))
    store.release(3)                    # reads and checks the files again
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agents.rollout.state import RefusedRelease, RolloutState
from models.heads.release import FILES, HeadRelease
from pipeline.errors import Rejected, Retry
from pipeline.files import private_files
from pipeline.files.fsync import replace_file, write_folder

log = structlog.get_logger(__name__)

SERVING: Final = "serving.json"
HEADS: Final = "heads"


class PendingCandidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The candidate that is not decided yet: the `target_key` of its signed target, and the number of tries."""

    word: str
    times: int


class ServingState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``serving.json``. Version 0 is the shipped model."""

    base: str
    """The shipped model's title. Releases are valid only on top of this model."""
    serving: int = 0
    previous: int | None = None
    refused: tuple[RefusedRelease, ...] = ()
    trying: PendingCandidate | None = None

    def state(self) -> RolloutState:
        """Return the state of an idle tier that serves this."""
        return RolloutState(serving=self.serving, previous=self.previous, refused=self.refused)


class PromotedStore:
    """The store of one tier. One process writes; any process may read."""

    def __init__(self, folder: Path, base: str) -> None:
        """`folder` is the role's folder, `base` the shipped model's title."""
        self._folder = folder
        self._base = base

    def read(self) -> ServingState:
        """Return the last written state. If that is absent, damaged or of another base model, version 0 serves."""
        shipped = ServingState(base=self._base)
        path = self._folder / SERVING
        try:
            state = msgspec.json.decode(path.read_bytes(), type=ServingState)
        except FileNotFoundError:
            return shipped
        except (OSError, msgspec.DecodeError, ValueError) as error:
            log.error(
                "the record of the serving release cannot be read; the shipped model serves",
                file=str(path),
                error=str(error),
            )
            return shipped
        if state.base != self._base:
            log.info("releases of the old base model no longer fit", old=state.base, new=self._base)
            return shipped
        return state

    def write(self, state: ServingState) -> None:
        """Write the state and return when it is on the disk. On `Retry`, the disk failed and the old state remains."""
        try:
            private_files.make_folder(self._folder)
            replace_file(self._folder / SERVING, msgspec.json.encode(state))
        except OSError as error:
            raise Retry(
                f"{self._folder / SERVING} cannot be written ({error.strerror}); the serving release stays"
            ) from None

    def release(self, version: int) -> HeadRelease | None:
        """Read a stored release and check it against its manifest. Return None if it is absent or damaged."""
        folder = self._folder / HEADS / str(version)
        try:
            found = HeadRelease.of({name: (folder / name).read_bytes() for name in FILES})
        except FileNotFoundError:
            return None
        except (OSError, Rejected) as error:
            log.error("a stored release is damaged and is downloaded again", folder=str(folder), error=str(error))
            return None
        return found if found.version == version else None

    def keep(self, version: int, files: Mapping[str, bytes]) -> None:
        """Store a release and return when it is on the disk. On `Retry`, the disk failed and nothing was added."""
        heads = self._folder / HEADS
        try:
            private_files.make_folder(heads)
            shutil.rmtree(heads / str(version), ignore_errors=True)  # exists only if damaged
            write_folder(heads / str(version), files)
        except OSError as error:
            raise Retry(f"release {version} cannot be kept in {heads} ({error.strerror})") from None

    def tidy(self, keep: Collection[int]) -> None:
        """Remove all releases but these, and the unfinished folders of killed processes."""
        names = {str(version) for version in keep}
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._folder / HEADS):
                if entry.name not in names:
                    shutil.rmtree(entry.path, ignore_errors=True)
