"""The few calls after which bytes are on the disk for certain.

A file is replaced, and a folder appears, as a whole or not at all, even if the process is killed meanwhile::

    replace_file(Path("topics.json"), b"{}")

    write_folder(models / "3", {"model.onnx": data})
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
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


def write_folder(target: Path, files: Mapping[str, bytes], hidden_in: Path | None = None) -> None:
    """Write a folder of files. After a crash `target` is complete or absent.

    The files are first written to a hidden folder in `hidden_in` (by default beside `target`), which is then renamed.
    Raises `OSError`, also if `target` holds files already.
    """
    folder = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=hidden_in or target.parent))
    try:
        for name, content in files.items():
            write_file(folder / name, content)
        directory_to_disk(folder)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # absent once it is renamed
    directory_to_disk(target.parent)
