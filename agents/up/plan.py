"""Decide what `tierwise up` starts, in which order, and when it tries again. Pure: no processes.

The brokers start first, then all roles at once. A part that ends is started again after a pause, which doubles while
the part keeps ending quickly::

    WAITING ──(all of the earlier stage ready)──> STARTING ──(/health says so)──> READY
       RESTING <──(ended)── STARTING, READY          │
          └──(pause over)──> STARTING                └──(exit code 2: a person must change something)──> ENDED

`supervisor.py` drives this with real processes.
"""

from __future__ import annotations

import enum
import importlib.util
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agents.role import exit_codes
from pipeline.errors import Stop

if TYPE_CHECKING:
    from pipeline.settings.settings import Settings

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
STEADY_AFTER_S: Final = 60.0
"""After this lifetime the count of quick ends starts again."""

BROKERS: Final = 0
"""Stage of the brokers. Roles would wait for them anyway; the order avoids log lines about missing brokers."""
ROLES: Final = 1


@dataclass(frozen=True, slots=True)
class RoleRow:
    """The brokers and optional modules that a role needs."""

    name: str
    brokers: tuple[str, ...]
    modules: tuple[str, ...] = ()


ROLE_ROWS: Final = (
    RoleRow("device", ("mqtt",)),
    RoleRow("edge", ("mqtt",)),
    RoleRow("gateway", ("mqtt", "kafka"), ("kafka",)),
    RoleRow("stream", ("kafka",), ("faust", "aiokafka", "kafka")),
    RoleRow("cloud", ("kafka",), ("kafka",)),
    RoleRow("trainer", ("kafka",), ("kafka",)),
)
"""Roles in the order of the data's way."""

ROLE_NAMES: Final = tuple(row.name for row in ROLE_ROWS)
BROKER_NAMES: Final = ("mqtt", "kafka")

EXTRAS: Final = {
    "aiokafka": "cloud",
    "faust": "cloud",
    "influxdb_client": "cloud",
    "iotcore": "embedded",
    "kafka": "cloud",
    "matplotlib": "pictures",
    "onnx": "train",
    "quixstreams": "bench",
    "skimage": "demo",
    "torch": "train",
}
"""The extra of the package that brings each optional module."""


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    return module in sys.modules or importlib.util.find_spec(module) is not None


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """One process that `tierwise up` starts and watches."""

    name: str
    arguments: tuple[str, ...]
    """Arguments after `python -m`; `--parent-pid N` is appended."""
    stage: int
    port: int
    """Port on loopback; 0 for any free one, -1 for none."""
    port_key: str
    """The setting that names the port."""
    modules: tuple[str, ...] = ()
    """Modules that must be installed."""


def plan(settings: Settings, settings_file: Path, only: Collection[str] = ()) -> tuple[ManagedProcess, ...]:
    """Return the parts to start, brokers first. `only` names roles or brokers; empty means all.

    Raises
    ------
    Stop
        `only` has an unknown name.
    """
    for name in only:
        if name not in (*ROLE_NAMES, *BROKER_NAMES):
            raise Stop(f'--only: there is no "{name}"; there are {", ".join((*BROKER_NAMES, *ROLE_NAMES))}')
    rows = [row for row in ROLE_ROWS if not only or row.name in only]
    needed = {broker for row in rows for broker in row.brokers} | set(only)
    brokers = [part for part in _embedded(settings) if part.name in needed]
    roles = [
        ManagedProcess(
            name=row.name,
            arguments=("agents", row.name, "--settings", str(settings_file)),
            stage=ROLES,
            port=getattr(settings.http, row.name),
            port_key=f"http.{row.name}",
            modules=row.modules,
        )
        for row in rows
    ]
    return (*brokers, *roles)


def _embedded(settings: Settings) -> list[ManagedProcess]:
    """Return the embedded brokers that the settings do not replace by an address."""
    parts = []
    for name, broker, modules in (
        ("mqtt", settings.mqtt, ("iotcore",)),
        ("kafka", settings.kafka, ("kafka",)),
    ):
        if broker.is_embedded:
            folder = settings.data_dir / name
            arguments = (
                f"pipeline.brokers.{name}",
                "--port",
                str(broker.port),
                "--dir",
                str(folder),
            )
            parts.append(ManagedProcess(name, arguments, BROKERS, broker.port, f"{name}.port", modules))
    return parts


class Phase(enum.Enum):
    """The phase of a part; see the diagram above."""

    WAITING = enum.auto()
    STARTING = enum.auto()
    READY = enum.auto()
    RESTING = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Watched:
    """The state of one part. Times are seconds of a monotonic clock."""

    part: ManagedProcess
    phase: Phase = Phase.WAITING
    started_s: float = 0.0
    rest_until_s: float = 0.0
    quick_ends: int = 0
    """Ends in a row within `STEADY_AFTER_S` of a start."""
    was_ready: bool = False
    """The part was ready at least once, so that others no longer wait for it."""

    def started(self, now_s: float) -> Watched:
        """Return the state after a start."""
        return replace(self, phase=Phase.STARTING, started_s=now_s)

    def found_ready(self) -> Watched:
        """Return the state after the part became ready."""
        return replace(self, phase=Phase.READY, was_ready=True)

    def found_ended(self, exit_code: int, now_s: float) -> Watched:
        """Return the state after an end: rest and try again, unless a person must change something first."""
        if exit_code == exit_codes.STOP:
            return replace(self, phase=Phase.ENDED)
        quick_ends = 1 if now_s - self.started_s >= STEADY_AFTER_S else self.quick_ends + 1
        return replace(self, phase=Phase.RESTING, quick_ends=quick_ends, rest_until_s=now_s + pause_s(quick_ends))


def pause_s(quick_ends: int) -> float:
    """Return the pause after this many quick ends in a row (at least 1)."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(quick_ends - 1, 16)))


def due(all_parts: Sequence[Watched], now_s: float) -> list[ManagedProcess]:
    """Return the parts to start now."""
    stage = min((w.part.stage for w in all_parts if not w.was_ready), default=ROLES)
    return [
        w.part
        for w in all_parts
        if (w.phase is Phase.WAITING and w.part.stage <= stage)
        or (w.phase is Phase.RESTING and w.rest_until_s <= now_s)
    ]
