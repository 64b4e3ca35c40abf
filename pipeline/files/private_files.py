"""Files and folders that only their owner may read: spools, logs, what a role keeps.

They hold what must not leave its tier, and other users of the machine are no tier::

    make_folder(data / "device")                        # 0700, also if it was there already
    make_file(data / "device" / "spool.db")             # 0600, before a library opens it
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
UMASK: Final = 0o077
"""Of a whole process: what libraries make in it is its owner's alone, too."""


def make_folder(path: Path) -> None:
    """Make it where it is missing, with its parents, and keep others out of it. Raises `OSError`."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _restrict(path, FOLDER_MODE)


def make_file(path: Path) -> None:
    """Make it, empty, where it is missing, and keep others out of it. Raises `OSError`."""
    # Never opened if it is there: closing a file of SQLite's would drop the locks that this process has on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    _restrict(path, FILE_MODE)


def _restrict(path: Path, mode: int) -> None:
    """Of what belongs to another user, its owner decides."""
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o777 & ~mode:
        path.chmod(found.st_mode & mode)
