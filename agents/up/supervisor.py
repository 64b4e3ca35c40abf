"""Run `tierwise up`: start the brokers and roles of one machine as child processes, and restart those that end.

    lock the data folder ─> ports free? extras there? ─> brokers ─> roles ─> (all ready) ─> restart what ends
                                                                                   └─ stop: roles, then brokers

`plan.py` decides what to start and when. This module holds the processes and the thread that drives them::

    supervisor = Supervisor(settings, Path("tierwise.toml"), plan(settings, Path("tierwise.toml")), print)
    supervisor.start()
    supervisor.wait_ready(timeout_s=30)
    ...
    supervisor.stop()
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from agents.role import exit_codes
from agents.role.health_server import LOOPBACK
from agents.role.run_file import PROBE_TIMEOUT_S, ask_health, running
from agents.up import ports
from agents.up.child import Child
from agents.up.plan import BROKERS, EXTRAS, ROLES, ManagedProcess, Phase, Watched, due, is_installed, pause_s
from pipeline.errors import Stop
from pipeline.files import private_files

if TYPE_CHECKING:
    from pipeline.settings.settings import Settings

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 0.05
"""Interval between checks of the children until all are ready; each is one cheap system call."""

LOOK_WHEN_READY_S: Final = 0.5
"""The same afterwards."""

STILL_WAITING_AFTER_S: Final = 10.0
"""A part that is not ready by then is reported, with what it waits for."""

ROLES_END_WITHIN_S: Final = 5.5
"""A role ends itself after 4.5 s at most; later it is killed."""
BROKERS_END_WITHIN_S: Final = 3.0


class UpEvent(enum.Enum):
    """A kind of news about a part."""

    STARTING = enum.auto()
    READY = enum.auto()
    ALL_READY = enum.auto()
    SLOW = enum.auto()
    LINE = enum.auto()
    """A line of the part's own output that a person should see."""
    DIED = enum.auto()
    GAVE_UP = enum.auto()
    """Another start would not help the part. `part` is empty when everything ends because of it."""


@dataclass(frozen=True, slots=True)
class News:
    """An event of a part."""

    event: UpEvent
    part: str
    text: str = ""
    seconds: float = 0.0


class Supervisor:
    """Start parts, restart those that end, and stop all in order."""

    def __init__(
        self,
        settings: Settings,
        settings_file: Path,
        parts: Sequence[ManagedProcess],
        report: Callable[[News], None],
    ) -> None:
        self._settings = settings
        self._settings_file = settings_file
        self._report_news = report
        self._watched = {part.name: Watched(part) for part in parts}
        self._children: dict[str, Child] = {}
        self._slow: set[str] = set()
        self._began_s = 0.0
        self._all_ready = threading.Event()
        self._finish = threading.Event()
        self._failure: Stop | None = None
        self._thread = threading.Thread(target=self._drive, name="supervisor", daemon=True)
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Check what can be checked, then start everything in the background.

        Raises
        ------
        Stop
            Another instance uses the data folder, a port is in use, or an extra is missing.
        """
        data_dir = self._settings.data_dir
        logs = data_dir / "logs"
        try:
            if not data_dir.exists():  # the mode of an existing folder stays as it is
                private_files.make_folder(data_dir)
            private_files.make_folder(logs)
            self._lock = _lock(data_dir)
        except OSError as error:
            raise Stop(
                f"cannot write {error.filename or data_dir}: {error.strerror}; make room or change its rights, or change "
                f"`data` in {self._settings_file}"
            ) from None
        parts = [watched.part for watched in self._watched.values()]
        _check_modules(parts)
        problems = [text for part in parts if (text := ports.problem(part, self._settings_file))]
        if problems:
            raise Stop("\n".join(problems))
        for part in parts:
            self._children[part.name] = Child(part, logs, functools.partial(self._report, UpEvent.LINE, part.name))
        self._began_s = time.monotonic()
        self._thread.start()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until every part was ready once. Return False after the timeout.

        Raises
        ------
        Stop
            A part cannot be started at all; all parts have been stopped.
        """
        ready = self._all_ready.wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        return ready

    def stop(self) -> None:
        """Stop the roles, then the brokers. No process is left when this returns."""
        self._finish.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._lock is not None:
            self._lock.close()

    # --- the supervisor's thread -------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            while not self._finish.wait(LOOK_WHEN_READY_S if self._is_calm else LOOK_EVERY_S):
                self._check_children()
        except Exception as error:  # the children must be stopped in order all the same
            log.exception("supervisor failed")
            self._give_up(Stop(f"the supervisor failed: {type(error).__name__}: {error}"))
        finally:
            self._end(ROLES, ROLES_END_WITHIN_S)
            self._end(BROKERS, BROKERS_END_WITHIN_S)
            for child in self._children.values():
                child.close()
            self._all_ready.set()  # wakes `wait_ready`, which raises the failure, if any

    @property
    def _is_calm(self) -> bool:
        return all(watched.phase in (Phase.READY, Phase.ENDED) for watched in self._watched.values())

    def _check_children(self) -> None:
        for name, watched in self._watched.items():
            if watched.phase in (Phase.STARTING, Phase.READY):
                self._watched[name] = self._observe(watched)
        if not self._all_ready.is_set() and all(w.was_ready for w in self._watched.values()):
            self._all_ready.set()
            self._report(UpEvent.ALL_READY, "", seconds=time.monotonic() - self._began_s)
        for part in due(list(self._watched.values()), time.monotonic()):
            self._watched[part.name] = self._start(part)

    def _start(self, part: ManagedProcess) -> Watched:
        watched = self._watched[part.name].started(time.monotonic())
        self._slow.discard(part.name)
        try:
            self._children[part.name].start()
        except OSError as error:  # no memory or no process left for now
            watched = watched.found_ended(exit_codes.FAILED, time.monotonic())
            pause = pause_s(watched.quick_ends)
            self._report(UpEvent.DIED, part.name, f"did not start ({error.strerror}), tries again in {pause:g} s")
        else:
            self._report(UpEvent.STARTING, part.name)
        return watched

    def _observe(self, watched: Watched) -> Watched:
        name, now_s = watched.part.name, time.monotonic()
        code = self._children[name].exit_code()
        if code is not None:
            after = watched.found_ended(code, now_s)
            if after.phase is Phase.ENDED:
                self._report(UpEvent.GAVE_UP, name, "ended and is not started again; see its message above")
                if not self._all_ready.is_set():
                    self._give_up(Stop(f"{name} cannot start; see its message above"))
            else:
                pause = pause_s(after.quick_ends)
                self._report(
                    UpEvent.DIED,
                    name,
                    f"ended ({_how(code)}), starts again in {pause:g} s",
                    now_s - watched.started_s,
                )
            return after
        if watched.phase is Phase.STARTING:
            ready, waits_for = readiness(watched.part, self._children[name].pid, self._settings.data_dir)
            if ready:
                self._report(UpEvent.READY, name, waits_for, now_s - watched.started_s)
                return watched.found_ready()
            if name not in self._slow and now_s - watched.started_s > STILL_WAITING_AFTER_S:
                self._slow.add(name)
                self._report(UpEvent.SLOW, name, waits_for, now_s - watched.started_s)
        return watched

    def _give_up(self, why: Stop) -> None:
        self._failure = why
        self._finish.set()
        self._report(UpEvent.GAVE_UP, "", str(why))

    def _report(self, event: UpEvent, part: str, text: str = "", seconds: float = 0.0) -> None:
        self._report_news(News(event, part, text, seconds))

    def _end(self, stage: int, within_s: float) -> None:
        children = [self._children[w.part.name] for w in self._watched.values() if w.part.stage == stage]
        children = [child for child in children if child.pid]
        for child in children:
            child.ask_to_end()
        deadline = time.monotonic() + within_s
        while any(child.exit_code() is None for child in children) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        for child in children:
            child.end_hard()


def _how(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


# --- before anything starts ------------------------------------------------------------------------------------


def _lock(data_dir: Path) -> TextIO:
    """Lock the data folder. The kernel releases the lock when this process ends, however it ends."""
    path = data_dir / "up.lock"
    with contextlib.ExitStack() as undo:
        file = undo.enter_context(path.open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Stop(
                f"another `tierwise up` (pid {file.read().strip() or 'unknown'}) runs on {data_dir}: stop it, or give "
                "this one a settings file with another `data` folder and other ports"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        undo.pop_all()
    return file


def _check_modules(parts: Sequence[ManagedProcess]) -> None:
    """Raise `Stop` if an extra of the package is missing."""
    missing = {EXTRAS[module] for part in parts for module in part.modules if not is_installed(module)}
    if missing:
        needs = ", ".join(part.name for part in parts if any(EXTRAS[m] in missing for m in part.modules))
        raise Stop(
            f"{needs} need more than the plain package: pip install 'tierwise[{','.join(sorted(missing))}]', "
            "or start the others alone: tierwise up --only device,edge"
        )


# --- is it ready? ----------------------------------------------------------------------------------------------


def readiness(part: ManagedProcess, pid: int, data_dir: Path) -> tuple[bool, str]:
    """Return whether a started part is ready, and its address or what it waits for."""
    if part.stage == BROKERS:
        return _accepts(part.port), f"{LOOPBACK}:{part.port}"
    found = running(data_dir, part.name)
    if found is None or found.pid != pid:
        return False, "is starting"
    if found.port is None:
        return True, f"health unknown: its HTTP port is off ({part.port_key} = -1)"
    ready, parts = ask_health(found.port)
    if ready:
        return True, f"http://{LOOPBACK}:{found.port}/health"
    return False, ", ".join(f"{name}: {state}" for name, state in parts.items()) or "is starting"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
