"""Run a role: start it, serve its health, wait, and stop it in time.

A role's package has an `agent.py` with `build(settings)`. This module does the rest, the same for every role::

    build ──> HTTP (503) ──> start ──> HTTP (200 when ready) ──> wait ──> stop ──> exit code
                                                                  ^
                        SIGTERM, SIGINT, the parent's death ──────┤ 0
                        Stop raised in any thread ────────────────┤ 2: a person must change something
                        any other exception in any thread ────────┘ 1: the supervisor starts it anew

A watchdog that needs a fresh process raises an exception. A role that does not stop in time is ended hard; nothing is
lost, since every acknowledged record is committed.

    $ tierwise device
    $ curl -s http://127.0.0.1:8701/health
    {"role": "device", "ready": true, "version": "0.1.0", "parts": {"mqtt": "connected"}}
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog

from agents.role import exit_codes
from agents.role.health_server import HealthServer
from agents.role.logs import configure_logs
from agents.role.run_file import Running, running_path
from agents.role.self_metrics import SelfMetrics, self_metrics_of
from agents.role.telemetry import Metrics, version
from pipeline.brokers import parent
from pipeline.clock import SystemClock
from pipeline.credentials import hidden
from pipeline.errors import Retry, Stop
from pipeline.files import private_files

if TYPE_CHECKING:
    from pipeline.settings.settings import Settings

log = structlog.get_logger(__name__)

STOP_WITHIN_S: Final = 3.5
"""Time for a role to close connections and flush files."""

START: Final = "start"
"""Where a role fails that cannot open its stores: a person must act, and a restart would not help."""

END_AFTER_S: Final = 4.5
"""A stop that takes longer ends the process hard. Service managers commonly kill at 5 s or later."""


@dataclass(frozen=True, slots=True)
class Health:
    """Readiness of a role, and a short text about each part that it depends on."""

    ready: bool
    parts: Mapping[str, str]


class Role(Protocol):
    """The interface that `run_role` drives."""

    name: str
    metrics: Metrics

    def start(self) -> None:
        """Open stores, start threads; return quickly. May raise `Stop`."""

    def health(self) -> Health:
        """Return the current health. Cheap; any thread may call it at any time, also before `start` returned."""

    def stop(self, deadline_s: float) -> None:
        """Stop within the deadline, even if brokers are dead or `start` failed."""


Build = Callable[["Settings"], Role]


@dataclass(frozen=True, slots=True)
class Ending:
    """An exit code and its reason."""

    code: int
    why: str


@dataclass(slots=True)
class Endings:
    """Collect reasons to end from all threads and signal handlers; the first one counts.

    `SimpleQueue.put` is safe in a signal handler.
    """

    _reasons: queue.SimpleQueue[Ending] = field(default_factory=queue.SimpleQueue)
    _alarm: queue.SimpleQueue[Ending] = field(default_factory=queue.SimpleQueue)

    def report(self, ending: Ending) -> None:
        """Add a reason to end."""
        self._reasons.put(ending)
        self._alarm.put(ending)

    def wait(self) -> Ending:
        """Wait for the first reason and return it."""
        return self._reasons.get()

    def end_hard_when_late(self) -> None:
        """Wait for the first reason, then end the process hard if it is still there after `END_AFTER_S`."""
        ending = self._alarm.get()
        time.sleep(END_AFTER_S)
        log.error("ended hard", after_s=END_AFTER_S, why=ending.why)
        logging.shutdown()
        sys.stderr.flush()
        os._exit(ending.code)


def run_role(name: str, build: Build, settings: Settings, *, parent_pid: int | None = None) -> int:
    """Run a role until it is asked to stop or fails, and return its exit code. Call it from the main thread.

    Parameters
    ----------
    parent_pid
        The process that started this one. The role stops when that process is gone.
    """
    os.umask(private_files.UMASK)
    configure_logs(settings.log, name)
    endings = Endings()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number,
            lambda n, _frame: endings.report(Ending(exit_codes.ASKED, f"asked to stop by {signal.Signals(n).name}")),
        )
    threading.excepthook = lambda args: endings.report(_failure(args.exc_value, _thread_name(args.thread)))
    threading.Thread(target=endings.end_hard_when_late, name="end-when-late", daemon=True).start()
    if parent_pid is not None:
        gone = Ending(exit_codes.ASKED, f"the parent process {parent_pid} is gone")
        parent.watch(parent_pid, lambda: endings.report(gone))
    with contextlib.ExitStack() as cleanup:
        try:
            _make_folders(settings.data_dir, name)
            role = build(settings)
            cleanup.callback(_stop, role)
            reporter = self_metrics_of(role.metrics, name, settings, SystemClock())
            with private_files.disk_errors_mapped():
                cleanup.enter_context(_served(role, settings, reporter))
                role.start()
            if reporter:
                cleanup.callback(reporter.stop)
                reporter.start()
            log.info("started", version=version(), pid=os.getpid())
        except Exception as error:  # every failure of a role becomes an exit code here
            endings.report(_failure(error, START))
        ending = endings.wait()
        log.info("stopping", why=ending.why)
        if ending.code == exit_codes.STOP:
            print(f"tierwise {name}: {hidden(ending.why)}", file=sys.stderr, flush=True)
    log.info("stopped", code=ending.code)
    return ending.code


def _make_folders(data_dir: Path, role: str) -> None:
    """Make the role's folder, readable by its user alone. The mode of an existing data folder stays as it is."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        private_files.make_folder(data_dir / role)
    except OSError as error:
        raise Stop(
            f"cannot write to {data_dir} ({error.strerror}): make it writable, or change `data` in the settings"
        ) from None


def _failure(error: BaseException | None, where: str) -> Ending:
    if isinstance(error, Stop):
        return Ending(exit_codes.STOP, str(error))
    if where == START and isinstance(error, Retry):  # a store on a full or locked disk
        return Ending(exit_codes.STOP, str(error))
    log.error("failed", where=where, exc_info=error)
    return Ending(exit_codes.FAILED, f"{type(error).__name__} in {where}")


def _thread_name(thread: threading.Thread | None) -> str:
    return thread.name if thread is not None else "a thread that has ended"


def _stop(role: Role) -> None:
    try:
        role.stop(STOP_WITHIN_S)
    except Exception:  # the other parts must still be stopped; the records are committed already
        log.exception("stopping failed")


# --- /health, /metrics and the run file ------------------------------------------------------------------------


@contextlib.contextmanager
def _served(role: Role, settings: Settings, reporter: SelfMetrics | None) -> Iterator[None]:
    def health() -> tuple[bool, dict[str, Any]]:
        try:
            current = role.health()
        except Exception as error:  # a part that is just opening or closing
            current = Health(ready=False, parts={"health": f"{type(error).__name__}: {error}"})
        return current.ready, {
            "role": role.name,
            "ready": current.ready,
            "version": version(),
            "parts": {
                **{part: hidden(how) for part, how in current.parts.items()},
                **({"self metrics": hidden(lost)} if reporter and (lost := reporter.state()) else {}),
            },
        }

    wanted: int = getattr(settings.http, role.name)
    server = HealthServer(health, role.metrics)
    port = server.open(wanted, f"http.{role.name}") if wanted >= 0 else None
    path = running_path(settings.data_dir, role.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode(Running(pid=os.getpid(), port=port)))
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()
