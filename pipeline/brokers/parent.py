"""End an embedded broker when the process that started it ends, even after a kill.

Example::

    parent.watch(options.parent_pid, stop.set)
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

LOOK_EVERY_S: Final = 0.5
"""Time between checks of the parent's id. A process whose parent has ended gets another, on Linux and on macOS."""


def watch(parent_pid: int, ended: Callable[[], None]) -> None:
    """Call `ended` once, from another thread, when this process has lost the parent with this id."""

    def look() -> None:
        with contextlib.suppress(AttributeError, OSError):  # only Linux has it
            handle = os.pidfd_open(parent_pid)
            select.select([handle], [], [])
            os.close(handle)
        while os.getppid() == parent_pid:
            time.sleep(LOOK_EVERY_S)
        ended()

    threading.Thread(target=look, name="parent", daemon=True).start()
