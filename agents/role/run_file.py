"""Where a role of this machine runs, as it wrote itself, and how it is, as it says over HTTP.

Light, since a container's health check runs it every few seconds: neither logs nor the role's frame are imported here::

    told = running(settings.data_dir, "device")
    ready, parts = ask_health(told.port)
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
    """`<data>/run/<role>.json` while a role runs: who it is, and where its HTTP port is (None: switched off)."""

    pid: int
    port: int | None


def running_path(data_dir: Path, role: str) -> Path:
    return data_dir / "run" / f"{role}.json"


def running(data_dir: Path, role: str) -> Running | None:
    """Where this role runs, as it wrote itself; None if it does not, or is just starting."""
    try:
        told = msgspec.json.decode(running_path(data_dir, role).read_bytes(), type=Running)
        os.kill(told.pid, 0)
    except (FileNotFoundError, ProcessLookupError, msgspec.DecodeError):
        return None
    except PermissionError:  # it lives, and is another user's
        pass
    return told


def ask_health(port: int, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[bool, dict[str, str]]:
    """A role's `/health`: whether it is ready, and its parts; (False, {}) where nothing answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status == 200, json.loads(answer.read())["parts"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False, {}
    finally:
        connection.close()
