"""The two brokers that the Kafka contract suite runs on, each a process that a test may kill and start again.

`kafka` is the fixture: once with the embedded broker, once with Apache Kafka 4.1 (marker `real`, option --real).
One broker of each kind serves all tests of a run, so tests take topics and groups of their own (`unique`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

REAL_KAFKA = Path(__file__).parent / "real" / "kafka"
# Apache Kafka takes 3-10 s on two cores, up to 13 s after a kill.
START_S = 60.0

T = TypeVar("T")


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def eventually(check: Callable[[], T], timeout_s: float = 30.0, interval_s: float = 0.05) -> T:
    """Repeat `check` until it returns something true; the last AssertionError is raised if it never does."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            outcome = check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        else:
            if outcome:
                return outcome
            assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(interval_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedKafka:
    """`python -m pipeline.brokers.kafka` in a directory."""

    session_s = 3
    """Session of a member of a group: shorter than by default where the broker allows it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.options = options
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "pipeline.brokers.kafka", "--dir", str(self.directory)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--parent-pid", str(os.getpid()), *self.options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the broker did not start: exit code {self.process.wait()}"
        self.port = int(json.loads(line)["ready"].rpartition(":")[2])

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self.process is not None and self.process.stdout
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        self.process.stdout.close()
        self.process = None
        return code


class ApacheKafka:
    """One KRaft node on Java, from the jars that fetch.sh gets."""

    session_s = 6

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def format(self, *more: str, defaults: bool = False) -> None:
        home = subprocess.run([REAL_KAFKA / "fetch.sh"], check=True, capture_output=True, text=True)
        self.jars = f"{home.stdout.strip()}/*"
        settings = (REAL_KAFKA / "server.properties").read_text()
        if defaults:
            settings = settings.partition("# A first member")[0]
        settings += "\n".join(more)
        for name, value in {
            "CONTROLLER_PORT": str(free_port()),
            "PORT": str(self.port),
            "DATA": str(self.directory / "data"),
        }.items():
            settings = settings.replace(name, value)
        (self.directory / "server.properties").write_text(settings)
        identity = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", "server.properties"]
        self._java("-Xmx128m", "kafka.tools.StorageTool", "format", *identity).wait()

    def start(self) -> None:
        self.process = self._java("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "kafka.Kafka", "server.properties")
        end = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < end, f"Apache Kafka does not answer within {START_S} s"
            time.sleep(0.2)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "CLASSPATH": self.jars}
        quick = ["java", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [*quick, *arguments],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        """It listens before its node is registered: ask for the nodes."""
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            # kafka-python leaves its socket open when it is refused.
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=1000)
        except KafkaError:
            return False
        try:
            return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            admin.close()


def damage_every_partition(broker: EmbeddedKafka, topic: str) -> None:
    """Store a batch of three records in each partition that claims lz4 and holds none; Apache Kafka would refuse it."""
    from kafka import KafkaProducer
    from kafka.record import default_records

    encode = default_records.lz4_encode
    default_records.lz4_encode = lambda data: b"no lz4"
    try:
        with closing(KafkaProducer(bootstrap_servers=broker.address, compression_type="lz4", linger_ms=50)) as producer:
            for partition in producer.partitions_for(topic):
                for _ in range(3):
                    producer.send(topic, bytes(1000), partition=partition)
            producer.flush(20)
    finally:
        default_records.lz4_encode = encode


@pytest.fixture(scope="session", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running broker: `address`, and `kill`, `stop`, `start` (on the same port and data)."""
    directory = tmp_path_factory.mktemp(f"kafka-{request.param}")
    broker: EmbeddedKafka | ApacheKafka
    if request.param == "real":
        broker = ApacheKafka(directory)
        broker.format()
    else:
        broker = EmbeddedKafka(directory)
    broker.start()
    yield broker
    broker.stop()
