"""Ways to receive the same readings over MQTT; `agents.bench.ingest` starts each of them as a process of its own.

Run as a file, ``python receivers.py NAME JOB``. The job is JSON: port, filter, count, folder. A receiver prints
``ready`` once it is subscribed, and ``{"wall_s", "cpu_s"}``, from its first message on, when it has the count.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final


class ReceiverStopwatch:
    """Measures from the first message to the last."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self._missing = count
        self._began: tuple[float, float] | None = None
        self.report: dict[str, float] = {}

    def count(self, messages: int) -> None:
        """Count messages; the last one ends the measurement."""
        if self._began is None:
            self._began = (time.perf_counter(), time.process_time())
        self._missing -= messages
        if self._missing <= 0 and not self.done.is_set():
            wall_s, cpu_s = self._began
            self.report = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
            self.done.set()


def tierwise(job: dict[str, Any], watch: ReceiverStopwatch) -> None:
    """Commit each batch to the spool (SQLite, synced), then acknowledge it to the broker: our ingest."""
    from pipeline.delivery import Ingest
    from pipeline.mqtt import Connection, Endpoint, Message
    from pipeline.spool import Arrival, Receipt, Spool, Transaction

    def admit(message: Message, _tx: Transaction) -> Arrival:
        return Arrival(message.topic, message.payload, time.time())

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
        print("ready", flush=True)
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
        print("ready", flush=True)

    def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
        json.loads(message.payload)
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


RECEIVERS: Final = {"tierwise": tierwise, "paho": paho}


def main(name: str, job: dict[str, Any]) -> None:
    """Run one receiver and print its measurement."""
    watch = ReceiverStopwatch(job["count"])
    RECEIVERS[name](job, watch)
    print(json.dumps(watch.report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
