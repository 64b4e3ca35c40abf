"""Run the intake of a device: the FTP server and the mailbox, each on a thread of its own that outlives its errors."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import structlog

from agents.deploy.camera_logins import CameraLogins
from agents.device.intake.door import IntakeDoor
from agents.device.intake.mailbox import Mailbox
from agents.role.telemetry import Metrics
from pipeline.clock import Clock
from pipeline.errors import Stop
from pipeline.messages import Task
from pipeline.settings.patterns import is_pattern
from pipeline.settings.settings import Settings
from pipeline.spool import Spool

log = structlog.get_logger("intake")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pauses before another attempt: doubled from the first to the longest."""
LOCAL_NAMES: Final = ("localhost", "127.0.0.1")


class CameraIntake:
    """What cameras deliver by themselves. Nothing runs that the settings do not ask for."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        metrics: Metrics,
        clock: Clock,
        stop: threading.Event,
        seen: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stop = stop
        self._door = IntakeDoor(settings, spool, metrics, clock, seen)
        self._states: dict[str, str] = {}

    def loops(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield name and function of each thread."""
        intake = self._settings.intake
        if intake.ftp.port:
            self._states["ftp"] = "starting"
            yield "intake ftp", partial(self._supervised, "ftp", self._serve_ftp)
        if intake.mail.host:
            self._states["mail"] = "starting"
            yield "intake mail", partial(self._supervised, "mail", self._read_mail)

    def health(self) -> str:
        """Return the state of both ways for `/health`; empty if neither is asked for."""
        return ", ".join(f"{way}: {state}" for way, state in self._states.items())

    def _supervised(self, way: str, run: Callable[[], None]) -> None:
        """Run until the agent stops. Raises `Stop` if the store is broken."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                run()
            except (Stop, MemoryError):
                raise
            except OSError as error:
                self._states[way] = f"away: {error.strerror or error}"
                log.warning("the intake cannot start", way=way, why=str(error), again_in_s=pause_s)
            except Exception as error:  # a bug here ends no other stream
                if self._stop.is_set():  # the store is closed already
                    return
                self._states[way] = f"failed ({type(error).__name__})"
                log.exception("the intake failed", way=way)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _sources(self) -> list[str]:
        """Return the camera streams of this agent."""
        names = self._settings.device.names
        return [
            source
            for source, stream in self._settings.streams.items()
            if stream.task is Task.WILDLIFE and not is_pattern(source) and (not names or source.split("/")[1] in names)
        ]

    def _serve_ftp(self) -> None:
        from agents.device.intake import ftp_server  # only now: the library is loaded where it is asked for

        ftp, logins, sources = self._settings.intake.ftp, CameraLogins(self._settings.data_dir), self._sources()
        names = list(dict.fromkeys((*filter(None, (ftp.public,)), *LOCAL_NAMES)))
        own = "" if ftp.certificate or ftp.tls == "off" else str(logins.certificate(names, dt.datetime.now(dt.UTC)))

        def started(port: int) -> None:
            self._states["ftp"] = f"listens on {ftp.listen}:{port}"
            log.info("the FTP server listens", address=ftp.listen, port=port, tls=ftp.tls)

        ftp_server.serve(
            ftp,
            ftp.certificate or own,
            login=lambda name, password: logins.stream_of(name, password, sources),
            deliver=self._door.deliver,
            stop=self._stop,
            guard=ftp_server.LoginGuard(),
            on_start=started,
        )

    def _read_mail(self) -> None:
        patterns = {source: self._settings.streams[source].mail for source in self._sources()}
        Mailbox(
            self._settings.intake.mail,
            {source: pattern for source, pattern in patterns.items() if pattern},
            self._door,
            self._settings.site,
            self._stop,
            partial(self._states.__setitem__, "mail"),
        ).run()
