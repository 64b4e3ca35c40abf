"""Runs the embedded Kafka broker as a process.

::

    python -m pipeline.brokers.kafka --dir DIR [--host 127.0.0.1] [--port 9092] [--parent-pid N]

It prints one line of JSON to standard output when it answers, and logs to standard error. It ends on SIGTERM or SIGINT
(exit code 0), or with one line that explains what to change (exit code 2).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from pipeline.brokers import parent
from pipeline.brokers.kafka.server import serve
from pipeline.errors import Stop
from pipeline.files import private_files


def main() -> int:
    """Run the broker until it is stopped. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.brokers.kafka", description="embedded Kafka broker for one machine"
    )
    parser.add_argument("--dir", type=Path, required=True, help="where topics, records and offsets are kept")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default %(default)s)")
    parser.add_argument("--port", type=int, default=9092, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--parent-pid", type=int, help="end when this process, the parent, ends")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s kafka %(levelname)s %(message)s")
    _allow_open_files()
    try:
        with private_files.disk_errors_mapped():
            asyncio.run(_run(arguments))
    except Stop as problem:
        print(f"tierwise kafka: {problem}", file=sys.stderr)
        return 2
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ended() -> None:
        loop.call_soon_threadsafe(stop.set)

    if arguments.parent_pid is not None:
        parent.watch(arguments.parent_pid, ended)

    def ready(host: str, port: int) -> None:
        logging.info("embedded Kafka for this one machine: no replicas, no access control; not for production")
        line = {"ready": f"{host}:{port}", "pid": os.getpid(), "directory": str(arguments.dir)}
        print(json.dumps(line), flush=True)

    await serve(arguments.dir, arguments.host, arguments.port, stop, ready)


def _allow_open_files() -> None:
    """Raise the limit of open files: each partition in use holds one, and macOS starts processes with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    sys.exit(main())
