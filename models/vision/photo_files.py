"""Find the photos in folders, and read them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pipeline.messages import FRAME_MAX_BYTES

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def photos_of(path: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """Return the photos of a folder and its subfolders by name, or the given file.

    `on_error` gets the error of a folder that cannot be listed; the other folders are searched all the same. A photo
    that cannot be looked at is returned too, so that reading it gives the reason.
    """
    if _may_be_file(path):
        return [path]
    return sorted(
        file
        for folder, _, names in os.walk(path, onerror=on_error)
        for file in (Path(folder, name) for name in names)
        if file.suffix.lower() in PHOTO_SUFFIXES and _may_be_file(file)
    )


def read_photo(file: Path) -> bytes:
    """Return a photo's bytes: at most one more than a frame may have, so that an endless file is refused."""
    with file.open("rb") as stream:
        return stream.read(FRAME_MAX_BYTES + 1)


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True
