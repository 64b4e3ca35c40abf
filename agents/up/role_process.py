"""Start a role in this process, as `tierwise up`, a service manager or a container does.

A module of its own, so that a role loads neither typer nor rich: they are 12 MB in each of six processes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents.role.memory_limits import spare_memory, trim_after_start
from agents.up.plan import ROLE_NAMES

SETTINGS: Final = "--settings"
PARENT: Final = "--parent-pid"


def plain_role(words: Sequence[str]) -> tuple[str, Path | None, int | None] | None:
    """Return role, settings and parent of a plain command, or None if the whole command line must read it.

    >>> plain_role(["device", "--parent-pid", "7"])
    ('device', None, 7)
    >>> plain_role(["device", "--help"])
    """
    names, values = words[1::2], words[2::2]
    given = dict(zip(names, values, strict=False))
    plain = words and words[0] in ROLE_NAMES and len(names) == len(values) == len(given)
    if not plain or not given.keys() <= {SETTINGS, PARENT} or not given.get(PARENT, "0").isdecimal():
        return None
    settings, parent = given.get(SETTINGS), given.get(PARENT)
    return words[0], Path(settings) if settings else None, int(parent) if parent else None


def start(name: str, settings: Path | None, parent_pid: int | None) -> int:
    """Run a role until it ends, and return its exit code. Raises `Stop` if the settings cannot be read."""
    spare_memory()
    if "typer" not in sys.modules:
        sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # structlog loads it, but a role logs JSON or plain text
    from agents.role.lifecycle import run_role
    from pipeline.settings.settings import Settings

    loaded = Settings.load(settings)
    trim_after_start()
    return run_role(name, importlib.import_module(f"agents.{name}.agent").build, loaded, parent_pid=parent_pid)
