"""The few calls by which bytes reach the disk for certain.

Example::

    replace_file(Path("topics.json"), b"{}")     # whole or not at all, whatever is killed
"""

from __future__ import annotations

import fcntl
import os
import sys
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file so that after a crash either the old or the new content stands there."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        to_disk(file.fileno())
    draft.replace(path)
    directory_to_disk(path.parent)
