"""A role that behaves as its first argument says; test_role.py starts it as a process of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import structlog

from agents.role.lifecycle import Health, run_role
from agents.role.telemetry import Metrics
from pipeline.errors import Retry, Stop
from pipeline.settings.settings import HttpSettings, LogSettings, Settings

log = structlog.get_logger("device")


class SampleRole:
    name = "device"

    def __init__(self, way: str) -> None:
        self.way = way
        self.metrics = Metrics()
        self.started = False

    def start(self) -> None:
        if self.way == "warns":
            log.warning("still there")
        if self.way == "stop-in-start":
            raise Stop("the key is missing: run `make keys`")
        if self.way == "disk-full":
            raise OSError(errno.ENOSPC, "No space left on device", "spool.db")
        if self.way == "store-full":
            raise Retry("spool.db: database or disk is full")
        if self.way in ("stop-in-thread", "bug-in-thread"):
            threading.Thread(target=self._fail, name="worker").start()
        if self.way == "hangs":
            threading.Thread(target=lambda: time.sleep(60), name="hanging").start()
        self.started = True

    def _fail(self) -> None:
        if self.way == "stop-in-thread":
            raise Stop("login refused: check mqtt.password")
        raise RuntimeError("no such luck")

    def health(self) -> Health:
        return Health(ready=self.started, parts={"mqtt": "connected"})

    def stop(self, deadline_s: float) -> None:
        if self.way == "hangs":
            time.sleep(60)
        if self.way == "stop-fails":
            raise RuntimeError("already closed")


def main(way: str, data: str, _option: str = "", parent_pid: str = "") -> int:
    settings = Settings(data=data, http=HttpSettings(device=0), log=LogSettings(format="json"))
    if way == "orphaned":  # stands for a supervisor: starts the role, then dies without a word
        role = [sys.executable, __file__, "well", data, "--parent-pid", str(os.getpid())]
        with subprocess.Popen(role) as child:
            while not (Path(data) / "run" / "device.json").exists():
                time.sleep(0.01)
            print(child.pid, flush=True)
            os.kill(os.getpid(), 9)
    return run_role(
        "device",
        lambda _settings: SampleRole(way),
        settings,
        parent_pid=int(parent_pid) if parent_pid else None,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
