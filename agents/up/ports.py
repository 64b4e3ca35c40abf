"""Find out which process uses a port, for `tierwise up` before it starts anything, and for `tierwise doctor`.

::

    port 1883 is in use by mosquitto (pid 812), which speaks MQTT. To use that broker instead of the embedded one,
    write into tierwise.toml:
        [mqtt]
        address = "127.0.0.1:1883"
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from agents.role.health_server import LOOPBACK
from agents.up.plan import ManagedProcess
from pipeline.mqtt import probe

LISTENING: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""

LSOF_TIMEOUT_S: Final = 3


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # the server itself reports other errors
    return True


def owner(port: int) -> str:
    """Return `name (pid N)` of the process that listens on a port, or an empty text if this user may not see it."""
    return _owner_by_proc(port) if Path("/proc/net/tcp").exists() else _owner_by_lsof(port)


def _owner_by_proc(port: int) -> str:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _owner_by_lsof(port: int) -> str:
    lsof = shutil.which("lsof")
    if lsof is None:
        return ""
    found = subprocess.run(
        [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LSOF_TIMEOUT_S,
    )
    fields = {line[0]: line[1:] for line in found.stdout.splitlines() if line}
    return f"{fields['c']} (pid {fields['p']})" if {"c", "p"} <= fields.keys() else ""


def problem(part: ManagedProcess, settings_file: Path) -> str | None:
    """Return the problem with the port of a part and its remedy, or None if the port is free."""
    if part.port <= 0 or is_free(part.port):
        return None
    user = owner(part.port)
    speaks_mqtt = part.name == "mqtt" and probe(LOOPBACK, part.port) == "mqtt"
    spare = next(filter(is_free, itertools.chain(range(part.port + 1, 1 << 16), range(part.port, 1024, -1))))
    return describe(part, settings_file, user, speaks_mqtt=speaks_mqtt, spare=spare)


def describe(part: ManagedProcess, settings_file: Path, user: str, *, speaks_mqtt: bool, spare: int) -> str:
    """Return the text of `problem`. `spare` is a free port."""
    section, _, key = part.port_key.partition(".")
    used = f"port {part.port}, which {part.name} needs, is in use{f' by {user}' if user else ''}"
    elsewhere = f"[{section}]\n    {key} = {spare}"
    if speaks_mqtt:
        return (
            f"{used}, which speaks MQTT. To use that broker instead of the embedded one, write into {settings_file}:\n"
            f'    [mqtt]\n    address = "{LOOPBACK}:{part.port}"\n'
            f"or give the embedded one another port:\n    {elsewhere}"
        )
    return f"{used}. End that, or write another port into {settings_file}:\n    {elsewhere}"
