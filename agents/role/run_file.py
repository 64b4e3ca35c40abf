"""Find a role that runs on this machine, and ask its health over HTTP.

A container's health check runs this every few seconds, so it imports little::

    found = running(settings.data_dir, "device")
    ready, parts = ask_health(found.port)
"""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Final

import msgspec

from pipeline.settings.addresses import LOOPBACK

PROBE_TIMEOUT_S: Final = 1.0


class Running(msgspec.Struct, frozen=True):
    """Content of `<data>/run/<role>.json` while a role runs. `port` is its HTTP port, None if switched off."""

    pid: int
    port: int | None


def running_path(data_dir: Path, role: str) -> Path:
    """Return the path of a role's run file."""
    return data_dir / "run" / f"{role}.json"


def running(data_dir: Path, role: str) -> Running | None:
    """Return the run file of a role, or None if the role does not run or is just starting."""
    try:
        found = msgspec.json.decode(running_path(data_dir, role).read_bytes(), type=Running)
        os.kill(found.pid, 0)
    except (FileNotFoundError, ProcessLookupError, msgspec.DecodeError):
        return None
    except PermissionError:  # it runs as another user
        pass
    return found


def ask_health(port: int, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[bool, dict[str, str]]:
    """Ask `/health` of a role. Return its readiness and parts, or (False, {}) if nothing answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status == 200, json.loads(answer.read())["parts"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False, {}
    finally:
        connection.close()
