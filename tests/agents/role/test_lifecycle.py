"""The frame of a role, seen from outside: exit codes, signals, health, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.role.run_file import Running, running, running_path

SAMPLE = Path(__file__).parents[2] / "samples" / "sample_role.py"
PATIENCE_S = 20
"""Until a condition must hold on a busy machine; nothing waits this long when all is well."""


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def sample(way: str, data: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, SAMPLE, way, data], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def up(data: Path) -> Running:
    until(lambda: running(data, "device"))
    found = running(data, "device")
    assert found is not None
    return found


@pytest.mark.slow
def test_a_role_answers_health_and_metrics_and_ends_with_zero_on_sigterm(tmp_path: Path) -> None:
    with sample("well", tmp_path) as process:
        port = up(tmp_path).port
        until(lambda: b'"ready": true' in _get(f"http://127.0.0.1:{port}/health"))
        health = json.loads(_get(f"http://127.0.0.1:{port}/health"))
        assert (health["role"], health["parts"]) == ("device", {"mqtt": "connected"})
        assert b"process_resident_memory_bytes" in _get(f"http://127.0.0.1:{port}/metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not running_path(tmp_path, "device").exists()


@pytest.mark.slow
def test_what_a_role_keeps_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        (tmp_path / "data/device").mkdir(parents=True)
        with sample("well", tmp_path / "data"):
            up(tmp_path / "data")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o755  # as it was found
    assert (tmp_path / "data/device").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data/run").stat().st_mode & 0o777 == 0o700
    assert running_path(tmp_path / "data", "device").stat().st_mode & 0o777 == 0o600


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "code", "told"),
    [
        ("stop-in-start", 2, "tierwise device: the key is missing: run `make keys`\n"),
        (
            "disk-full",
            2,
            "tierwise device: cannot use spool.db (No space left on device): correct its rights",
        ),
        ("store-full", 2, "tierwise device: spool.db: database or disk is full\n"),
        ("stop-in-thread", 2, "tierwise device: login refused: check mqtt.password\n"),
        ("bug-in-thread", 1, "RuntimeError: no such luck"),
    ],
)
def test_a_failure_in_any_thread_ends_the_role_with_its_code(tmp_path: Path, way: str, code: int, told: str) -> None:
    with sample(way, tmp_path) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert told in errors.replace("\\n", "\n")
    if code == 2:
        assert "Traceback" not in errors


@pytest.mark.slow
def test_a_role_whose_stop_fails_still_ends_with_zero(tmp_path: Path) -> None:
    with sample("stop-fails", tmp_path) as process:
        up(tmp_path)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "stopping failed" in errors


@pytest.mark.slow
def test_a_role_that_hangs_is_ended_in_under_five_seconds_with_its_log_written(tmp_path: Path) -> None:
    with sample("hangs", tmp_path) as process:
        up(tmp_path)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - asked < 5
    assert process.returncode == 0
    assert json.loads(errors.splitlines()[-1])["event"] == "ended hard"


@pytest.mark.slow
def test_a_role_does_not_survive_a_parent_that_is_killed(tmp_path: Path) -> None:
    with sample("orphaned", tmp_path) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        assert parent.wait(PATIENCE_S) == -signal.SIGKILL
        until(lambda: not _lives(child_pid))
    assert running(tmp_path, "device") is None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True


@pytest.mark.slow
def test_a_run_file_of_a_process_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    with sample("well", tmp_path) as process:
        up(tmp_path)
        process.kill()
        process.wait()
    assert running_path(tmp_path, "device").exists()
    assert running(tmp_path, "device") is None


@pytest.mark.slow
def test_a_port_in_use_is_told_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    with sample("well", first):
        port = up(first).port
        code = (
            "import sys; from sample_role import *\n"
            f"settings = Settings(data={str(second)!r}, http=HttpSettings(device={port}))\n"
            "sys.exit(run_role('device', lambda _: SampleRole('well'), settings))"
        )
        other = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            cwd=SAMPLE.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert other.returncode == 2
    assert f"127.0.0.1:{port}" in other.stderr and "`http.device`" in other.stderr
