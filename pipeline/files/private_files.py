"""Files and folders that only their owner may read: spools, logs, stores, keys.

They hold private records, which other users of the same machine must not see::

    make_folder(data / "device")                        # mode 0700, even if the folder exists already
    make_file(data / "device" / "spool.db")             # mode 0600, before a library opens it
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.errors import Stop

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
UMASK: Final = 0o077
"""The mask of a whole process: the files that its libraries make are the owner's alone, too."""

DISK_ERRORS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
"""Errors of a read-only or full disk, which a person has to mend."""


@contextlib.contextmanager
def disk_errors_mapped() -> Iterator[None]:
    """Raise `Stop` in place of the errors of a read-only or full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise Stop(
            f"cannot use {error.filename or 'the disk'} ({error.strerror}): correct its rights, free some disk space, "
            "or change `data` in the settings"
        ) from error


def make_folder(path: Path) -> None:
    """Make a missing folder with its parents, and keep other users out of it. Raises `OSError`."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _restrict(path, FOLDER_MODE)


def make_file(path: Path) -> None:
    """Make a missing file, empty, and keep other users out of it. Raises `OSError`."""
    # An existing file is not opened: closing an SQLite file would drop the locks that this process holds on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    _restrict(path, FILE_MODE)


def _restrict(path: Path, mode: int) -> None:
    """Take rights away from other users, unless the file belongs to another user: its owner decides."""
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o777 & ~mode:
        path.chmod(found.st_mode & mode)
