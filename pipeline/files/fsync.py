"""The few calls after which bytes are on the disk for certain.

A file is replaced, and a folder appears, as a whole or not at all, even if the process is killed meanwhile::

    replace_file(Path("topics.json"), b"{}")

    with hidden_folder(models) as folder:
        write_file(folder / "model.onnx", data)
        move_folder(folder, models / "3")
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HIDDEN: Final = ".new-"
"""Begins the name of a folder that is still being written. A killed process may leave such a folder behind."""


def to_disk(descriptor: int) -> None:
    """Return when everything written to the file is on disk.

    On macOS `fsync` leaves the bytes in the drive's cache; F_FULLFSYNC does not.
    """
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def directory_to_disk(directory: Path) -> None:
    """Return when the names in `directory` (made, renamed, removed) are on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Write a file; its bytes are on disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        to_disk(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file. After a crash it holds either the old or the new content."""
    draft = path.with_name(path.name + ".draft")
    write_file(draft, content)
    draft.replace(path)
    directory_to_disk(path.parent)


@contextlib.contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder in `parent` for new files. Remove it at the end, unless `move_folder` gave it its place."""
    folder = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(folder: Path, target: Path) -> None:
    """Rename a folder of written files to its final name, on disk. Raises `OSError` if the name is taken."""
    directory_to_disk(folder)
    folder.rename(target)
    directory_to_disk(target.parent)
