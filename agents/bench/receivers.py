"""Ways to receive the same readings over MQTT; `agents.bench.ingest` starts each of them as a process of its own.

Run as a file, ``python receivers.py NAME JOB``. The job is JSON: port, filter, count, folder. A receiver prints
``ready`` once it is subscribed, and ``{"wall_s", "cpu_s"}`` since then when it has the count.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Final


class ReceiverStopwatch:
    """Measures from ready to the last message: a receiver that waits costs next to nothing."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self._missing = count
        self._began = (0.0, 0.0)
        self.report: dict[str, float] = {}

    def ready(self) -> None:
        """Let the publisher begin."""
        self._began = (time.perf_counter(), time.process_time())
        print("ready", flush=True)

    def count(self, messages: int) -> None:
        """Count messages; the last one ends the measurement."""
        self._missing -= messages
        if self._missing <= 0 and not self.done.is_set():
            wall_s, cpu_s = self._began
            self.report = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
            self.done.set()


def tierwise(job: dict[str, Any], watch: ReceiverStopwatch) -> None:
    """Commit each batch to the spool (SQLite, synced), then acknowledge it to the broker: our ingest."""
    import msgspec

    from pipeline.delivery import Ingest
    from pipeline.mqtt import Connection, Endpoint, Message
    from pipeline.spool import Arrival, Receipt, Spool, Transaction

    def admit(message: Message, _tx: Transaction) -> Arrival | None:
        kept = msgspec.json.decode(message.payload)["value"] >= 0
        return Arrival(message.topic, message.payload, time.time()) if kept else None

    def committed(receipts: list[Receipt], _tx: Transaction) -> None:
        watch.count(len(receipts))

    spool = Spool.open(Path(job["folder"]) / "spool.db", limit_bytes=1 << 40)
    connection = Connection(
        Endpoint("127.0.0.1", job["port"]),
        "bench-tierwise",
        subscriptions=[job["filter"]],
        handler=Ingest(spool, "site", admit, committed),
    )
    connection.start()
    if connection.wait_connected(10):
        watch.ready()
        watch.done.wait()
    connection.stop()
    spool.close()


def paho(job: dict[str, Any], watch: ReceiverStopwatch) -> None:
    """Acknowledge on receipt, store nothing, parse with the standard library: plain paho."""
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion

    def on_connect(client: Client, *_: Any) -> None:
        client.subscribe(job["filter"], 1)

    def on_subscribe(*_: Any) -> None:
        watch.ready()

    def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
        if json.loads(message.payload)["value"] >= 0:
            watch.count(1)

    client = Client(CallbackAPIVersion.VERSION2, "bench-paho")
    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect("127.0.0.1", job["port"])
    client.loop_start()
    watch.done.wait()
    client.disconnect()
    client.loop_stop()


EKUIPER_SETTINGS: Final = """\
basic:
  consoleLog: false
  fileLog: false
  restIp: 127.0.0.1
  restPort: {rest}
  port: {rpc}
  prometheus: false
store:
  type: sqlite
"""
EKUIPER_SOURCE: Final = """\
default:
  server: "tcp://127.0.0.1:{port}"
  qos: 1
"""


def ekuiper(job: dict[str, Any], watch: ReceiverStopwatch) -> None:
    """Run LF Edge eKuiper with a filter rule whose sink drops everything, and count by its own metrics."""
    home = Path(job["folder"])
    for name in ("etc/sources", "data", "log", "plugins"):
        (home / name).mkdir(parents=True)
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        rest, rpc = first.getsockname()[1], second.getsockname()[1]
    (home / "etc/kuiper.yaml").write_text(EKUIPER_SETTINGS.format(rest=rest, rpc=rpc), "utf-8")
    (home / "etc/mqtt_source.yaml").write_text(EKUIPER_SOURCE.format(port=job["port"]), "utf-8")
    environment = {**os.environ, "KuiperBaseKey": str(home)}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([job["program"]], cwd=home, env=environment, **quiet) as server:
        try:
            _ask(rest, "/streams", {"sql": EKUIPER_STREAM.format(filter=job["filter"])})
            _ask(rest, "/rules", {"id": "bench", "sql": EKUIPER_RULE, "actions": [{"nop": {}}]})
            while "running" not in str(_ask(rest, "/rules/bench/status").get("status")):
                time.sleep(0.1)
            time.sleep(1.0)  # its status does not say whether the broker has its subscription
            print("ready", flush=True)
            wall_s, cpu_s, taken = time.perf_counter(), _cpu_s(server.pid), 0
            while taken < job["count"]:
                time.sleep(0.1)
                taken = _ask(rest, "/rules/bench/status").get("sink_nop_0_0_records_in_total", 0)
            watch.report = {"wall_s": time.perf_counter() - wall_s, "cpu_s": _cpu_s(server.pid) - cpu_s}
        finally:
            server.kill()


EKUIPER_STREAM: Final = 'CREATE STREAM readings () WITH (DATASOURCE="{filter}", FORMAT="JSON", TYPE="mqtt")'
EKUIPER_RULE: Final = "SELECT * FROM readings WHERE value >= 0"
START_WITHIN_S: Final = 20.0


def _ask(port: int, path: str, body: object = None) -> dict[str, Any]:
    """Ask eKuiper's REST interface, which is not there at once."""
    data = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=5) as answer:
                text = answer.read()
                return json.loads(text) if data is None else {}
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


RECEIVERS: Final = {"tierwise": tierwise, "paho": paho, "ekuiper": ekuiper}


def main(name: str, job: dict[str, Any]) -> None:
    """Run one receiver and print its measurement."""
    watch = ReceiverStopwatch(job["count"])
    RECEIVERS[name](job, watch)
    print(json.dumps(watch.report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
