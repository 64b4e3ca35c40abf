"""A network camera over RTSP (GStreamer's server) that hangs up and returns, at a running `tierwise up`."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.role.run_file import ask_health, running

pytestmark = [pytest.mark.real, pytest.mark.e2e]

CAMERA = Path(__file__).parents[1] / "samples" / "rtsp_camera.py"
PYTHON = "/usr/bin/python3"
USER, PASSWORD = "admin", "hunter2@home/7"
STREAMS = 8
"""Cameras, each checked twice a second: more frames than one worker looks at on a small machine."""
PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def gstreamer() -> None:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-good")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield started
    finally:
        started.terminate()
        started.communicate(timeout=30)


def camera(port: int) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return process(PYTHON, str(CAMERA), str(port), USER, PASSWORD)


def wait_for(fulfilled: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not fulfilled():
        assert time.monotonic() < until_s, what
        time.sleep(0.2)


def test_a_camera_that_hangs_up_is_away_until_it_returns_and_its_password_is_nowhere(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "camera.login").write_text(f"{USER}:{PASSWORD}\n")
    lines = [f'data = "{tmp_path}/data"', "[mqtt]", f"port = {free_port()}", "[http]", "device = 0"]
    lines += ["[device]", "workers = 1"]
    for number in range(STREAMS):
        lines += [f'[streams."cam{number}/yard"]', f'source = "rtsp://127.0.0.1:{port}/live"']
        lines += ['login_file = "camera.login"', 'result = "edge-private"']
    settings = tmp_path / "tierwise.toml"
    settings.write_text("\n".join(lines))

    def health() -> dict[str, str]:
        found = running(tmp_path / "data", "device")
        return ask_health(found.port)[1] if found and found.port else {}

    def states(state: str) -> int:
        return health().get("cameras", "").count(f": {state} since")

    def total(metric: str) -> float:
        found = running(tmp_path / "data", "device")
        assert found is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{found.port}/metrics") as answer:
            text = answer.read().decode()
        return sum(map(float, re.findall(rf"^{metric}{{.*}} (\S+)$", text, re.MULTILINE)))

    up = [sys.executable, "-m", "agents", "up", "--only", "device", "--settings", str(settings)]
    with (tmp_path / "out").open("w") as out, subprocess.Popen(up, stdout=out, stderr=out) as roles:
        try:
            with camera(port):
                wait_for(lambda: states("online") == STREAMS, "no camera is online")
                wait_for(lambda: total("tierwise_answered_total") > 2 * STREAMS, "no frame was answered")
            wait_for(lambda: states("away") == STREAMS, "no camera is away")
            assert "the camera does not answer" in health()["cameras"]
            answered = total("tierwise_answered_total")
            with camera(port):
                wait_for(lambda: states("online") == STREAMS, "no camera has returned")
                wait_for(lambda: total("tierwise_answered_total") > answered + STREAMS, "no frame was answered anew")
            shown = str(health())
        finally:
            roles.terminate()
            roles.wait(30)
    shown += "".join(path.read_text() for path in (tmp_path / "data" / "logs").glob("*.log"))
    shown += (tmp_path / "out").read_text()
    assert "a camera is away" in shown
    for secret in (PASSWORD, "hunter2", f"{USER}:", "[tcp @", "OPENCV"):
        assert secret not in shown
