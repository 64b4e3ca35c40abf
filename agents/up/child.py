"""One process of `tierwise up`: started, listened to, ended.

What it writes goes to `<data>/logs/<name>.log`, rotated by size; what a person should know goes to the terminal too:
log lines of warning and above, and whatever is no log line at all on stderr (the one clear line of a role that must
be helped)::

    >>> heard('{"event": "connected", "level": "info"}', from_stderr=True)
    >>> heard('{"event": "reconnecting", "level": "warning", "after_s": 2}', from_stderr=True)
    'warning: reconnecting (after_s=2)'
    >>> heard("port 1883 is in use", from_stderr=True)
    'port 1883 is in use'

The process is told this one's id and ends when it is gone: nothing survives, whatever is killed.
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

from agents.up.plan import Part
from pipeline.files import private_files

LOG_MAX_BYTES: Final = 5 << 20
LOGS_KEPT: Final = 3

LINE_MAX_BYTES: Final = 64 << 10
"""A longer line is logged in pieces: one process's mistake must not fill the memory of this one."""

LAST_WORDS_WITHIN_S: Final = 1.0
"""For reading what an ended process left in its pipes; longer only if a process of its own holds them open."""

SHOWN_LEVELS: Final = frozenset({"warning", "error", "critical"})

QUIET_LINE: Final = re.compile(r"[\d:., T-]+ \S+ (?:DEBUG|INFO) ")
"""A log line of the standard library's form that only tells what goes on: `2026-01-01 00:00:00,000 kafka INFO ...`."""

FRAME_FIELDS: Final = frozenset({"event", "level", "time", "role", "logger", "exception"})
"""Of a log line: not shown in the terminal, which names the part already; tracebacks are in the file."""


class Child:
    """A part's process, which may be started again after each end. `tell` gets the lines for the terminal."""

    def __init__(self, part: Part, log_dir: Path, tell: Callable[[str], None]) -> None:
        self.part = part
        self.log_path = log_dir / f"{part.name}.log"
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._listeners: list[threading.Thread] = []
        self._log = _Log(
            self.log_path, maxBytes=LOG_MAX_BYTES, backupCount=LOGS_KEPT, encoding="utf-8", delay=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self.part.arguments, "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=private_files.UMASK,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which ends its parts in order
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._listeners = [
            threading.Thread(
                target=self._listen, args=(stream, from_stderr), name=f"{self.part.name}-log", daemon=True
            )
            for stream, from_stderr in ((self._process.stdout, False), (self._process.stderr, True))
        ]
        for listener in self._listeners:
            listener.start()

    def exit_code(self) -> int | None:
        """None while it runs, or was not started. After an end everything that it said has been told."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._hear_out()
        return code

    def ask_to_end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end_hard(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """After its end: collect it and close its log."""
        if self._process is not None:
            self._process.wait()
        self._hear_out()
        self._log.close()

    def _hear_out(self) -> None:
        for listener in self._listeners:
            listener.join(LAST_WORDS_WITHIN_S)

    def _listen(self, stream: IO[bytes], from_stderr: bool) -> None:
        with stream:
            while raw := stream.readline(LINE_MAX_BYTES):
                line = raw.decode("utf-8", "replace").rstrip()
                self._log.handle(logging.makeLogRecord({"msg": line}))
                if text := heard(line, from_stderr=from_stderr):
                    self._tell(text)


class _Log(logging.handlers.RotatingFileHandler):
    """Its files are their owner's alone."""

    def _open(self) -> TextIOWrapper:
        private_files.make_file(Path(self.baseFilename))
        return super()._open()


def heard(line: str, *, from_stderr: bool) -> str | None:
    """What of a child's line a person should see in the terminal."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or "event" not in fields:
        return line if from_stderr and line and not QUIET_LINE.match(line) else None
    if fields.get("level") not in SHOWN_LEVELS:
        return None
    facts = ", ".join(f"{name}={value}" for name, value in fields.items() if name not in FRAME_FIELDS)
    last = str(fields.get("exception", "")).strip().splitlines()[-1:]
    return f"{fields['level']}: {fields['event']}{f' ({facts})' if facts else ''}{f': {last[0]}' if last else ''}"
