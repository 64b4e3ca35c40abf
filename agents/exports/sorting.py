"""Sort pictures into folders by label: `tierwise classify DIR --sort-into TARGET`.

::

    TARGET/Felis catus/cam1/IMG_0001.JPG
    TARGET/other/cam1/IMG_0002.JPG

Below its label, a picture keeps its path, so that equal names of two cameras do not meet. The originals stay as they
are. Pictures in which a person may be stay where they are, unless somebody asks for them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from agents.exports.rows import ExportRow
from pipeline.errors import Stop
from pipeline.files.fsync import HIDDEN
from pipeline.privacy.egress import EGRESSES, Released, release

UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+|^[. ]+|[. ]+$')
"""Signs that some file system does not take in a name."""


class PictureSorter:
    """Copies or links pictures of `root` into folders of `target`."""

    def __init__(self, root: Path, target: Path, *, link: bool = False, persons: bool = False) -> None:
        self._root, self._target, self._link, self._persons = root.resolve(), target.resolve(), link, persons
        self.placed = 0
        self.left: Counter[str] = Counter()
        """Pictures that were left where they are, by reason."""

    def sorted(self, rows: Iterable[ExportRow]) -> Iterator[ExportRow]:
        """Hand on each row once its picture is in its folder. Raises `Stop` if the target cannot be written."""
        for row in rows:
            reason = self.place(row)
            self.placed += not reason
            if reason:
                self.left[reason] += 1
            yield row

    def place(self, row: ExportRow) -> str:
        """Bring a row's picture into its folder; return "" or the reason why it stays where it is."""
        if row.refused or not row.path:
            return "refused"
        if row.person and not self._persons:
            return "a person may be in the picture"
        reach = EGRESSES["classify --sort-into"].reach
        released = release(PurePosixPath(row.path), row.privacy, reach, person_picture=row.person)
        source = (self._root / row.path).resolve()
        if not source.is_relative_to(self._root) or not source.is_file():
            return "not a file of the folder"
        target = self._target / folder_name(row.label) / _below(released)
        if not target.parent.resolve().is_relative_to(self._target):
            return "its folder leads out of the target"
        try:
            self._bring(source, target)
        except OSError as error:
            raise Stop(f"{target}: not written ({error.strerror}); pictures that are in their folders stay") from error
        return ""

    def text(self) -> str:
        """Return what was done, as a line for people."""
        parts = [f"{self._target}: {self.placed:,} pictures by label"]
        return "; ".join([*parts, *(f"left {number:,} where they are: {why}" for why, number in self.left.items())])

    def _bring(self, source: Path, target: Path) -> None:
        found = source.stat()
        if target.exists():
            there = target.stat()
            if (there.st_size, int(there.st_mtime)) == (found.st_size, int(found.st_mtime)):
                return
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{HIDDEN}{os.getpid()}")
        try:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            if not (self._link and _linked(source, draft)):
                shutil.copy2(source, draft)
            draft.replace(target)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()


def folder_name(label: str) -> str:
    """Return the folder of a label.

    >>> folder_name("Felis catus"), folder_name("../a: b"), folder_name("")
    ('Felis catus', '__a_ b', 'unknown')
    """
    return UNSAFE.sub("_", label).lstrip(".")[:100] or "unknown"


def _below(path: Released[PurePosixPath]) -> Path:
    return Path(*(part for part in path.content.parts if part not in ("/", "..")))


def _linked(source: Path, draft: Path) -> bool:
    """Link a file; return False where the file system has no hard links, or the folders are on two."""
    try:
        draft.hardlink_to(source)
    except OSError:
        return False
    return True
