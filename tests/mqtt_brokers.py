"""MQTT brokers for tests, each in a process of its own on a free loopback port: iotcore, and Mosquitto with
`--real`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.mqtt import Endpoint, probe

MOSQUITTO_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_packet_size 17825792
max_queued_messages 0
log_type error
"""


class MqttBroker:
    """Can be killed and started again on its port."""

    keeps_sessions: bool
    """Over a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while probe("127.0.0.1", self.port) != "mqtt":
            assert time.monotonic() < deadline, f"{type(self).__name__} did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Iotcore(MqttBroker):
    keeps_sessions = False

    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--dir", str(self.folder), "--parent-pid", str(os.getpid())]
        return [sys.executable, "-m", "pipeline.brokers.mqtt", *options]


class Mosquitto(MqttBroker):
    keeps_sessions = True

    def command(self) -> list[str]:
        path = self.folder / "mosquitto.conf"
        path.write_text(MOSQUITTO_CONFIG.format(port=self.port, folder=self.folder), encoding="utf-8")
        self.folder.chmod(0o777)  # started by root, it becomes a user of its own
        return [str(find_mosquitto()), "-c", str(path)]


def find_mosquitto() -> str | None:
    """Debian installs it where only root's PATH looks."""
    return os.environ.get("TIERWISE_MOSQUITTO") or shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture(
    params=[
        pytest.param(Iotcore, id="iotcore"),
        pytest.param(Mosquitto, id="mosquitto", marks=pytest.mark.real),
    ]
)
def mqtt_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MqttBroker]:
    """A running broker; the contract holds for each."""
    if request.param is Mosquitto and find_mosquitto() is None:
        pytest.fail("no mosquitto found: install it (apt-get install mosquitto), or name it in TIERWISE_MOSQUITTO")
    folder = tmp_path / "broker"
    folder.mkdir()
    broker: MqttBroker = request.param(folder)
    broker.start()
    yield broker
    broker.kill()
