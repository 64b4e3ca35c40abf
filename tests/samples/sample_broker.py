"""Stands for an embedded broker: accepts connections on a port, or behaves as its first argument says.

`python -m sample_broker WAY PORT MARKS --parent-pid N` appends a line to the file MARKS at each start and end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path


def main(way: str, port: str, marks: str, _option: str, parent_pid: str) -> int:
    def mark(what: str) -> None:
        with Path(marks).open("a") as file:
            file.write(f"broker {what}\n")

    mark("start")
    if way == "cannot-start":
        print(f"tierwise mqtt: port {port} is in use", file=sys.stderr)
        return 2
    if way == "dies-once" and Path(marks).read_text().count("broker start") == 1:
        return 1
    done = threading.Event()

    def end(*_: object) -> None:
        if way != "deaf":
            done.set()

    signal.signal(signal.SIGTERM, end)
    with socket.create_server(("127.0.0.1", int(port))):
        print("ready", flush=True)
        while os.getppid() == int(parent_pid) and not done.wait(0.02):
            pass
    mark("end")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
