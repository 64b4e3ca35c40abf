"""Processes that a test run starts end with it, however it ends: Ctrl-C, SIGTERM, SIGKILL.

A pytest plugin. It marks the environment, which every process inherits, and starts one process that waits until pytest
is gone and then kills whatever still carries the mark: roles, brokers, Java, and what those started. It needs `/proc`
(Linux); elsewhere nothing is watched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MARK = "TIERWISE_TEST_RUN"
LOOK_EVERY_S = 0.2
PROCESSES = Path("/proc")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or not (PROCESSES / "self" / "environ").exists():
        return  # a worker of pytest-xdist carries the mark of the process that started it
    run = uuid.uuid4().hex
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    subprocess.Popen(
        [sys.executable, "-I", __file__, str(os.getpid()), run],
        env=unmarked,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # held open, it would keep `pytest | tee` waiting
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not meant for it
    ).returncode = 0  # it outlives us on purpose: no warning about a process that still runs
    os.environ[MARK] = run


def marked(run: str) -> Iterator[int]:
    """Process ids that carry the mark of a run."""
    mark = f"{MARK}={run}".encode()
    for folder in PROCESSES.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def main(parent_pid: str, run: str) -> None:
    while os.getppid() == int(parent_pid):
        time.sleep(LOOK_EVERY_S)
    while left := list(marked(run)):  # again, for what was just being started
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
