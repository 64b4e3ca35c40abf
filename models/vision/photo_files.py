"""Find the photos and videos in folders, and read the photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from pipeline.messages import FRAME_MAX_BYTES

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
CLIP_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv"})
PICTURE_SUFFIXES = PHOTO_SUFFIXES | CLIP_SUFFIXES


def photos_of(
    path: Path, on_error: Callable[[OSError], None] | None = None, suffixes: Collection[str] = PHOTO_SUFFIXES
) -> list[Path]:
    """Return the photos of a folder and its subfolders by name, or the given file. `PICTURE_SUFFIXES`: clips, too.

    `on_error` gets the error of a folder that cannot be listed; the other folders are searched all the same. A photo
    that cannot be looked at is returned too, so that reading it gives the reason.
    """
    if _may_be_file(path):
        return [path]
    return sorted(
        file
        for folder, _, names in os.walk(path, onerror=on_error)
        for file in (Path(folder, name) for name in names)
        if file.suffix.lower() in suffixes and _may_be_file(file)
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
