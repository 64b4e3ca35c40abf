"""The few calls by which bytes reach the disk for certain.

Example::

    replace_file(Path("topics.json"), b"{}")     # whole or not at all, whatever is killed
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from pathlib import Path


def to_disk(descriptor: int) -> None:
    """Return when all that was written to the file is on disk.

    macOS: `fsync` leaves the bytes in the drive's cache, F_FULLFSYNC does not.
    """
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def directory_to_disk(directory: Path) -> None:
    """Return when files made, renamed or removed in `directory` are so on disk, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Write a file and return when its bytes are on the disk. Raises `OSError`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        to_disk(file.fileno())


def write_folder(fresh: Path, target: Path, files: Mapping[str, bytes]) -> None:
    """Fill an empty folder, then rename it to `target`, so that after a crash `target` is whole or absent.

    Raises `OSError`, also where `target` holds files already.
    """
    for name, content in files.items():
        write_file(fresh / name, content)
    directory_to_disk(fresh)
    fresh.rename(target)
    directory_to_disk(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file so that after a crash either the old or the new content stands there."""
    draft = path.with_name(path.name + ".draft")
    write_file(draft, content)
    draft.replace(path)
    directory_to_disk(path.parent)
