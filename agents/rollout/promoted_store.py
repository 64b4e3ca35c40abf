"""What a tier keeps of releases on its disk, so that any start, also one without a network, serves what was promoted.

::

    <data>/edge/serving.json            which version serves, which one before it, which were refused and why
    <data>/edge/heads/3/manifest.json, sums.bin, ...    each release whole, or not there

A release is written into a hidden folder and renamed; `serving.json` is replaced whole, and before anything in memory is
swapped. So a crash at any point leaves what served, or what was promoted, and never a half of either::

    files = ServingFiles(data / "edge", base="lite0@2")
    files.keep(3, release.files())
    files.write(Kept(base="lite0@2", serving=3, previous=0))
    files.release(3)                    # read and checked anew
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agents.rollout.state import Refused, State
from models.heads.release import FILES, HeadRelease
from pipeline.errors import Rejected, Retry
from pipeline.files import private_files
from pipeline.files.fsync import directory_to_disk, replace_file, to_disk

log = structlog.get_logger(__name__)

SERVING: Final = "serving.json"
HEADS: Final = "heads"
_NEW: Final = ".new-"


class Trying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate that was begun with and not decided: by which word, and how often."""

    word: str
    times: int


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``serving.json``. Version 0 is the shipped model."""

    base: str
    """The shipped model's title: versions of releases mean something on top of it alone."""
    serving: int = 0
    previous: int | None = None
    refused: tuple[Refused, ...] = ()
    trying: Trying | None = None

    def state(self) -> State:
        return State(serving=self.serving, previous=self.previous, refused=self.refused)


class ServingFiles:
    """Of one tier. One process writes; any may read."""

    def __init__(self, folder: Path, base: str) -> None:
        """`folder` is the role's own; `base` the shipped model's title."""
        self._folder = folder
        self._base = base

    def read(self) -> Kept:
        """What was written last; the shipped model where nothing was, where it is of another base, or where it is damaged."""
        nothing = Kept(base=self._base)
        path = self._folder / SERVING
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return nothing
        except (OSError, msgspec.DecodeError, ValueError) as error:
            log.error("the shipped model serves: what served is not known", file=str(path), error=str(error))
            return nothing
        if kept.base != self._base:
            log.info("a new base: releases of the old one no longer fit", old=kept.base, new=self._base)
            return nothing
        return kept

    def write(self, kept: Kept) -> None:
        """Returns when it is on the disk. Raises `Retry` where the disk refuses; what was there stands."""
        try:
            private_files.make_folder(self._folder)
            replace_file(self._folder / SERVING, msgspec.json.encode(kept))
        except OSError as error:
            raise Retry(
                f"{self._folder / SERVING} cannot be written ({error.strerror}); what serves stays"
            ) from None

    def release(self, version: int) -> HeadRelease | None:
        """A release that was kept, checked against its own manifest; None: it is not here, or not whole any more."""
        folder = self._folder / HEADS / str(version)
        try:
            found = HeadRelease.of({name: (folder / name).read_bytes() for name in FILES})
        except FileNotFoundError:
            return None
        except (OSError, Rejected) as error:
            log.error(
                "a kept release is damaged; it is asked for again", folder=str(folder), error=str(error)
            )
            return None
        return found if found.version == version else None

    def keep(self, version: int, files: Mapping[str, bytes]) -> None:
        """Returns when all of them are on the disk. Raises `Retry` where the disk refuses; then there is nothing new."""
        heads = self._folder / HEADS
        try:
            private_files.make_folder(heads)
            fresh = Path(tempfile.mkdtemp(prefix=_NEW, dir=heads))
            try:
                for name, data in files.items():
                    with (fresh / name).open("wb") as file:
                        file.write(data)
                        file.flush()
                        to_disk(file.fileno())
                directory_to_disk(fresh)
                shutil.rmtree(heads / str(version), ignore_errors=True)  # there only if damaged
                fresh.rename(heads / str(version))
                directory_to_disk(heads)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        except OSError as error:
            raise Retry(f"release {version} cannot be kept in {heads} ({error.strerror})") from None

    def tidy(self, keep: Collection[int]) -> None:
        """Drop releases other than these, and what a killed process left."""
        names = {str(version) for version in keep}
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._folder / HEADS):
                if entry.name not in names:
                    shutil.rmtree(entry.path, ignore_errors=True)
