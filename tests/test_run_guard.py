"""An interrupted test run leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_guard
from kafka_brokers import eventually

RUN = """
import pathlib, subprocess, sys, time

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = f"import subprocess, sys, time; subprocess.Popen({SLEEP!r}, start_new_session=True); time.sleep(600)"

def test_that_is_interrupted():
    child = subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True)
    pathlib.Path("child.new").write_text(str(child.pid))
    pathlib.Path("child.new").rename("child")
    time.sleep(600)
"""


PYTEST = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not run_guard.PROCESSES.joinpath("self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_behind(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_sleeps.py").write_text(RUN, "utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", PYTEST, "-q", "-p", "run_guard", "-p", "no:cacheprovider", "test_sleeps.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(run_guard.__file__).parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        child = int(eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
        mark = mark_of(child)
        eventually(lambda: len(list(run_guard.marked(mark))) == 2)
        run.send_signal(how)
    eventually(lambda: not list(run_guard.marked(mark)))


def mark_of(pid: int) -> str:
    environ = (run_guard.PROCESSES / str(pid) / "environ").read_bytes().split(b"\0")
    prefix = f"{run_guard.MARK}=".encode()
    return next(each.removeprefix(prefix) for each in environ if each.startswith(prefix)).decode()
