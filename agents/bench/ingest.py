"""The cost of a durable ingest: ours beside receivers that store nothing, on the same broker.

Each receiver is a process of its own that takes the same readings at QoS 1, in turns, several rounds, and passes each
through the same filter rule (``value >= 0``); ours commits them (SQLite, synced) before it acknowledges. Compare
ratios of CPU times a message within one run only::

    >>> cost_ratio([60.0, 90.0, 66.0], [50.0, 100.0, 60.0])
    1.1

The broker is Mosquitto where it is installed, else the embedded one; the publisher writes ready-made packets.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agents.bench import receivers
from pipeline import topics
from pipeline.errors import Stop
from pipeline.mqtt import probe

OURS: Final = "tierwise"
PEER: Final = "paho"
EKUIPER: Final = "ekuiper"
GOAL_RATIO: Final = 0.69
"""Our CPU time a message to plain paho's: 45 µs where plain paho takes 65."""
INFLIGHT: Final = 1000
"""Messages that Mosquitto sends without an acknowledgement (`max_inflight_messages`; its default is 20)."""

MESSAGES: Final = 20_000
ROUNDS: Final = 3
STREAMS: Final = 4
EMBEDDED_INFLIGHT: Final = 100
"""The same of the embedded broker, which cannot be set."""
WINDOW: Final = 2000
"""Messages that the publisher has unacknowledged."""
AT_ONCE: Final = 50
TIMEOUT_S: Final = 60.0

MOSQUITTO_CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages {inflight}
log_type error
"""


def run(
    messages: int = MESSAGES,
    rounds: int = ROUNDS,
    mosquitto: Path | None = None,
    ekuiper: Path | None = None,
    inflight: int = INFLIGHT,
) -> dict[str, Any]:
    """Let each receiver take this many readings, in turns.

    Parameters
    ----------
    messages
        How many a round.
    rounds
        How often each receiver is measured.
    mosquitto
        The broker's program. With None, use the system's Mosquitto, or else the embedded broker.
    ekuiper
        LF Edge eKuiper's server, `kuiperd`. With None, it takes no part.
    inflight
        Messages that Mosquitto sends without an acknowledgement.

    Returns
    -------
    dict
        ``{"messages", "broker", "max_inflight_messages", "receivers": {name: {"cpu_us_per_message": [...],
        "messages_per_s": [...]} or {"skipped": why}}, "cpu_ratios", "goal"}``; a ratio is ours to a peer's, the median
        of the rounds.

    Raises
    ------
    Stop
        The broker does not start, or a receiver does not get what was published.
    """
    program = mosquitto or _installed_mosquitto()
    found: dict[str, dict[str, Any]] = {}
    names = [name for name in receivers.RECEIVERS if name != EKUIPER]
    if ekuiper is not None:
        if is_program(ekuiper):
            names.append(EKUIPER)
        else:
            found[EKUIPER] = {"skipped": f"{ekuiper} is no program"}
    cost: dict[str, list[float]] = {name: [] for name in names}
    rate: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="tierwise-bench-") as name, _broker(program, Path(name), inflight) as port:
        for round_number in range(rounds):
            for receiver in names:
                folder = Path(name) / f"{receiver}-{round_number}"
                taken = _measure(receiver, port, messages, folder, ekuiper)
                cost[receiver].append(round(1e6 * taken["cpu_s"] / messages, 1))
                rate[receiver].append(round(messages / taken["wall_s"]))
    measured = {name: {"cpu_us_per_message": cost[name], "messages_per_s": rate[name]} for name in names}
    return {
        "messages": messages,
        "broker": "mosquitto" if program else "embedded",
        "max_inflight_messages": inflight if program else EMBEDDED_INFLIGHT,
        "receivers": measured | found,
        "cpu_ratios": {name: cost_ratio(cost[OURS], cost[name]) for name in names if name != OURS},
        "goal": GOAL_RATIO,
    }


def is_program(file: Path) -> bool:
    """Return whether this is a file that can be run."""
    return file.is_file() and os.access(file, os.X_OK)


def cost_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: both receivers of a round ran under the same load."""
    return round(statistics.median(mine / theirs for mine, theirs in zip(ours, peer, strict=True)), 2)


def packets(first: int, count: int) -> bytes:
    """Return MQTT 3.1.1 PUBLISH packets at QoS 1: readings of sensors, with packet ids that count on from the first."""
    parts = []
    for number in range(first, first + count):
        topic = topics.reading("home", "room1", f"t{number % STREAMS}").encode()
        payload = b'{"value":%d.5,"unit":"Cel","time":"2026-01-01T00:00:00Z"}' % number
        packet_id = (number % 65535 + 1).to_bytes(2, "big")
        body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
        parts.append(b"\x32" + bytes((len(body),)) + body)  # below 128 bytes: a length of one byte
    return b"".join(parts)


def publish(port: int, count: int) -> None:
    """Publish this many readings, each until the broker acknowledged it."""
    client_id = b"bench-publisher"
    header = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client_id).to_bytes(2, "big") + client_id
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(bytes((0x10, len(header))) + header)
        acknowledged_bytes = -4  # CONNACK is as long as a PUBACK
        sent = 0
        while (acknowledged := acknowledged_bytes // 4) < count:
            if sent < count and sent - acknowledged < WINDOW:
                burst = min(AT_ONCE, count - sent)
                sock.sendall(packets(sent, burst))
                sent += burst
            else:
                answer = sock.recv(65536)
                if not answer:
                    raise Stop("the broker closed the publisher's connection")
                acknowledged_bytes += len(answer)


def _measure(receiver: str, port: int, count: int, folder: Path, ekuiper: Path | None) -> dict[str, float]:
    folder.mkdir()
    job = {"port": port, "filter": topics.reading("home", "+", "+"), "count": count, "folder": str(folder)}
    job |= {"program": str(ekuiper)}
    command = [sys.executable, receivers.__file__, receiver, json.dumps(job)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise Stop(f"the receiver {receiver} did not connect to the broker on port {port}")
            publish(port, count)
            output, _ = process.communicate(timeout=TIMEOUT_S)
            if process.returncode:
                raise Stop(f"the receiver {receiver} ended with code {process.returncode}")
        except subprocess.TimeoutExpired:
            raise Stop(f"the receiver {receiver} did not get all of {count} messages: measure fewer") from None
        finally:
            if process.poll() is None:
                process.kill()
    measured: dict[str, float] = json.loads(output)
    return measured


def _installed_mosquitto() -> Path | None:
    """Debian installs it where only root's PATH looks."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    return Path(found) if found else None


@contextmanager
def _broker(mosquitto: Path | None, folder: Path, inflight: int) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    if mosquitto is None:
        options = ["--port", str(port), "--dir", str(folder), "--parent-pid", str(os.getpid())]
        command = [sys.executable, "-m", "pipeline.brokers.mqtt", *options]
    else:
        config = folder / "mosquitto.conf"
        config.write_text(MOSQUITTO_CONFIG.format(port=port, inflight=inflight), encoding="utf-8")
        folder.chmod(0o755)  # started by root, it reads this as a user of its own
        command = [str(mosquitto), "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while probe("127.0.0.1", port) != "mqtt":
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Stop(f"{command[0]} does not start; try it by hand: {' '.join(command)}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
