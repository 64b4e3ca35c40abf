"""Start one process of `tierwise up`, read its output, and end it.

All its output goes to `<data>/logs/<name>.log`, rotated by size. The terminal shows what a person should know: our own
log lines of warning and above, and the line in which a part states why it ends. A library's lines stay in the file::

    >>> for_terminal('{"event": "connected", "level": "info"}', from_stderr=True)
    >>> for_terminal('{"event": "reconnecting", "level": "warning", "after_s": 2}', from_stderr=True)
    'warning: reconnecting (after_s=2)'
    >>> for_terminal("tierwise mqtt: port 1883 is in use", from_stderr=True)
    'port 1883 is in use'
    >>> for_terminal("WARNING: some library's line", from_stderr=True)

The process gets our process id and ends when we are gone, so no process is left over, whatever is killed.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final

from agents.up.plan import ROLE_NAMES, ManagedProcess
from pipeline.files import private_files

LOG_MAX_BYTES: Final = 5 << 20
LOGS_KEPT: Final = 3

LINE_MAX_BYTES: Final = 64 << 10
"""A longer line is logged in pieces, so that no child can fill our memory."""

CHILD_DEFAULTS: Final = {
    "MALLOC_ARENA_MAX": "2",  # glibc keeps freed memory in one arena a thread
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "PYTHONNODEBUGRANGES": "1",  # a traceback names lines, not columns
}
"""Environment variables that keep a process's memory small; those of the user count instead."""

LAST_WORDS_WITHIN_S: Final = 1.0
"""Time to read the last output of an ended process."""

SHOWN_LEVELS: Final = frozenset({"warning", "error", "critical"})

LAST_LINE: Final = re.compile(r"tierwise(?: [a-z]+)?: (.+)")
"""The line on stderr in which a part states why it ends: `tierwise edge: ...`."""

BROKER_LINE: Final = re.compile(r"[\d:., T-]+ kafka (WARNING|ERROR|CRITICAL) (.+)")
"""A problem that the embedded Kafka logs."""

OURS: Final = frozenset({"agents", "models", "pipeline", *ROLE_NAMES, "camera", "inbox", "releases"})
"""First words of our own loggers' names; all others are libraries'."""

HIDDEN_FIELDS: Final = frozenset({"event", "level", "time", "role", "logger", "exception"})
"""Fields of a log line that the terminal does not show: it names the part already, and tracebacks are in the file."""


class Child:
    """The process of a part. It may be started again after each end. `show` gets the lines for the terminal."""

    def __init__(self, part: ManagedProcess, log_dir: Path, show: Callable[[str], None]) -> None:
        self.part = part
        self.log_path = log_dir / f"{part.name}.log"
        self._show = show
        self._process: subprocess.Popen[bytes] | None = None
        self._listeners: list[threading.Thread] = []
        self._log = _Log(self.log_path, maxBytes=LOG_MAX_BYTES, backupCount=LOGS_KEPT, encoding="utf-8", delay=True)

    @property
    def pid(self) -> int:
        """The process id, or 0 before the first start."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start the process and read its output on two threads."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self.part.arguments, "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=private_files.UMASK,
            env=CHILD_DEFAULTS | os.environ,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which ends its parts in order
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._listeners = [
            threading.Thread(target=self._listen, args=(stream, from_stderr), name=f"{self.part.name}-log", daemon=True)
            for stream, from_stderr in ((self._process.stdout, False), (self._process.stderr, True))
        ]
        for listener in self._listeners:
            listener.start()

    def exit_code(self) -> int | None:
        """Return the exit code once all output is read. Return None before the start and while the process runs."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._read_rest()
        return code

    def ask_to_end(self) -> None:
        """Send SIGTERM if the process runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end_hard(self) -> None:
        """Send SIGKILL if the process runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Wait for the end of the process and close its log."""
        if self._process is not None:
            self._process.wait()
        self._read_rest()
        self._log.close()

    def _read_rest(self) -> None:
        for listener in self._listeners:
            listener.join(LAST_WORDS_WITHIN_S)

    def _listen(self, stream: IO[bytes], from_stderr: bool) -> None:
        with stream:
            while raw := stream.readline(LINE_MAX_BYTES):
                line = raw.decode("utf-8", "replace").rstrip()
                self._log.handle(logging.makeLogRecord({"msg": line}))
                if text := for_terminal(line, from_stderr=from_stderr):
                    self._show(text)


class _Log(logging.handlers.RotatingFileHandler):
    """Write log files that only their owner may read."""

    def _open(self) -> TextIOWrapper:
        private_files.make_file(Path(self.baseFilename))
        return super()._open()


def for_terminal(line: str, *, from_stderr: bool) -> str | None:
    """Return a child's line as the terminal shows it, or None to hide it."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or "event" not in fields:
        if broker := BROKER_LINE.fullmatch(line):
            return f"{broker[1].lower()}: {broker[2]}"
        last = LAST_LINE.fullmatch(line) if from_stderr else None
        return last[1] if last else None
    logger = str(fields.get("logger", "agents"))
    if fields.get("level") not in SHOWN_LEVELS or logger.partition(".")[0] not in OURS:
        return None
    facts = ", ".join(f"{name}={value}" for name, value in fields.items() if name not in HIDDEN_FIELDS)
    lines = str(fields.get("exception", "")).strip().splitlines()[-1:]
    return f"{fields['level']}: {fields['event']}{f' ({facts})' if facts else ''}{f': {lines[0]}' if lines else ''}"
