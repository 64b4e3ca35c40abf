"""An embedded broker ends with the process that started it, however that one ended: nobody else would stop it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

LOOK_EVERY_S: Final = 0.5
"""A process whose parent is gone gets another one; asking who it is works on Linux and macOS alike."""


def watch(parent_pid: int, ended: Callable[[], None]) -> None:
    """Call `ended` once, from a thread of its own, when the parent is no longer this process."""

    def look() -> None:
        while os.getppid() == parent_pid:
            time.sleep(LOOK_EVERY_S)
        ended()

    threading.Thread(target=look, name="parent", daemon=True).start()
