"""The embedded MQTT broker: iotcore (rumqttd in a pip wheel) in a process of its own, on loopback only.

`tierwise up` starts it if the settings name no broker::

    python -m pipeline.brokers.mqtt --port 1883 --dir tierwise-data/mqtt --parent-pid 4711
    {"ready": "mqtt", "port": 1883}

The line on stdout means that the broker accepts connections. The process ends on SIGTERM, on SIGINT, or when the
parent process of `--parent-pid` ends. Sessions and retained messages are in memory only: after a restart every agent
subscribes and publishes its status again, and the agents' own acknowledgements ensure that no message is lost. If
rumqttd's threads die, the process ends with exit code 1, so that it is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

from pipeline.brokers import parent
from pipeline.errors import Stop
from pipeline.mqtt import probe

LOOPBACK = "127.0.0.1"

PAYLOAD_MAX_BYTES = 17 << 20
"""A frame of 16 MiB and its topic. The broker disconnects a publisher of more: MQTT 3.1.1 cannot refuse a message."""

SEGMENT_BYTES = 16 << 20
SEGMENTS = 8
"""Size of the log for each subscription's filter. A subscriber that is away for longer loses the oldest messages, which
their publisher repeats. The broker's default of 10 x 100 MB takes 1.7 GB of memory."""

CONNECTIONS_MAX = 1000

READY_TIMEOUT_S = 10.0

CHECK_EVERY_S = 2.0
CHECK_TIMEOUT_S = 5.0
"""Even a busy broker answers a CONNECT in milliseconds; one whose router thread has panicked never answers again."""

CONFIG = """\
id = 0

[router]
id = 0
max_connections = {connections}
max_outgoing_packet_count = 200
max_segment_size = {segment_bytes}
max_segment_count = {segments}

[v4.1]
name = "tierwise"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v4.1.connections]
connection_timeout_ms = 10000
max_payload_size = {payload_bytes}
max_inflight_count = 100
dynamic_filters = true
"""


def config(port: int) -> str:
    """Return the broker's configuration file, TOML."""
    return CONFIG.format(
        host=LOOPBACK,
        port=port,
        connections=CONNECTIONS_MAX,
        segment_bytes=SEGMENT_BYTES,
        segments=SEGMENTS,
        payload_bytes=PAYLOAD_MAX_BYTES,
    )


def start(port: int, folder: Path) -> None:
    """Run the broker on threads of this process; return once it accepts connections.

    Raises
    ------
    Stop
        The port is taken, iotcore is not installed, or the broker does not come up.
    """
    try:
        from iotcore import IotCoreBroker
    except ImportError:
        raise Stop(
            "the embedded MQTT broker is not installed: pip install 'tierwise[embedded]', or name your own broker "
            'in the settings: [mqtt] address = "host:port"'
        ) from None
    # rumqttd logs each packet that it routes as an error; none of its lines is a real error.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rumqttd.toml"
    path.write_text(config(port), encoding="utf-8")
    broker = IotCoreBroker(config_path=str(path))
    try:
        broker.check_ports()
    except OSError:
        raise Stop(
            f"port {port} on {LOOPBACK} is in use: stop its user, give the embedded MQTT broker another port "
            f'([mqtt] port = {port + 1}), or, if it is an MQTT broker, use it ([mqtt] address = "{LOOPBACK}:{port}")'
        ) from None
    broker.start()
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise Stop(f"the embedded MQTT broker did not answer on port {port} within {READY_TIMEOUT_S:.0f} s; start it again")


def main(arguments: list[str] | None = None) -> int:
    """Run the broker until a signal arrives. Return the exit code: 2 if the broker cannot start."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.brokers.mqtt", description="embedded MQTT broker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True, help="folder for the broker's configuration")
    parser.add_argument("--parent-pid", type=int, help="end when this process, the parent, ends")
    options = parser.parse_args(arguments)
    # A signal handler may put into a SimpleQueue; the thread that it interrupts could hold an Event's lock.
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: done.put(number))
    if options.parent_pid is not None:
        parent.watch(options.parent_pid, partial(os._exit, 0))
    try:
        start(options.port, options.dir)
    except Stop as stop:
        print(f"tierwise mqtt: {stop}", file=sys.stderr)
        return 2
    print(json.dumps({"ready": "mqtt", "port": options.port}), flush=True)
    while True:
        with contextlib.suppress(queue.Empty):
            done.get(timeout=CHECK_EVERY_S)
            return 0
        if probe(LOOPBACK, options.port, CHECK_TIMEOUT_S) != "mqtt" and done.empty():
            print(
                "tierwise mqtt: the embedded MQTT broker does not answer any more; it ends and is started again",
                file=sys.stderr,
            )
            return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The broker's threads cannot be joined; an ordinary exit would wait for them.
    os._exit(code)
