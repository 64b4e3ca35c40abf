"""Supervise the cameras that the device opens itself: what fails at one of them, no other stream notices.

::

    open_source ──shot──> decodes? ──yes──> inbox
         │                   └──no──> refused by its name on the rejected topic
         └──away, failed──> log, /health, pause ──> open_source

Each source has a thread of its own, which `OwnCameras.run` keeps alive.
"""

from __future__ import annotations

import threading
from functools import partial

import structlog

from agents.device.camera_sources import open_source
from agents.device.camera_states import CameraStates
from agents.device.known_files import KnownFiles, SourceFile
from agents.device.live_source import LiveHooks, LiveTurns
from agents.device.photo_sources import Shot
from agents.device.store import SITE
from agents.role.dead_letters import INTERNAL_ERROR, answer_or_refuse, refusal
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline import ids, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.spool import Arrival, Spool, Transaction

log = structlog.get_logger("camera")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between attempts to open a source that is away: doubled from the first to the longest."""

AHEAD = 8
"""Photos of a folder that wait in the inbox at once: the others wait in the folder."""

ROOM_AGAIN_S = 0.1
"""Pause before another look at how many wait."""


class OwnCameras:
    """The device's own cameras. Streams run side by side."""

    def __init__(
        self, spool: Spool, metrics: Metrics, clock: Clock, stop: threading.Event, states: CameraStates, ahead: int = 2
    ) -> None:
        self._spool = spool
        self._states = states
        self._live: set[str] = set()
        """Topics of live cameras that have sent a frame."""
        self._turns = LiveTurns(ahead, lambda: spool.waiting_of(*self._live))
        self._metrics = metrics
        self._clock = clock
        self._stop = stop
        self._known = KnownFiles(spool)
        self._refused: dict[str, str] = {}
        """Why the last shot of a source was refused."""

    def run(self, source: str, address: str) -> None:
        """Commit the shots of one source until it ends or the agent stops. Raises `Stop` if the store is broken."""
        topic = topics.frame(*source.split("/"))
        pause_s = FIRST_PAUSE_S
        hooks = LiveHooks(
            has_room=partial(self._turns.ask, source),
            seen=partial(self._states.seen, source),
            dropped=partial(self._metrics.dropped, source),
        )
        while not self._stop.is_set():
            try:
                found = partial(self._states.opened, source)
                for shot in open_source(
                    address, source, self._known, stop=self._stop, clock=self._clock, found=found, hooks=hooks
                ):
                    self._states.seen(source)
                    if shot.file is None:
                        self._live.add(topic)
                    self._refused.pop(source, None)
                    pause_s = FIRST_PAUSE_S
                    while shot.file and self._spool.waiting_of(topic) >= AHEAD and not self._stop.is_set():
                        self._stop.wait(ROOM_AGAIN_S)
                    commit = partial(self._commit, source, topic, shot)
                    answer_or_refuse(commit, partial(self._refuse, source, topic, shot), self._stop)
                if refused := self._refused.get(source):  # only a single file ends
                    self._states.away(source, refused)
                return
            except (Stop, MemoryError):
                raise
            except Rejected as error:
                self._states.away(source, str(error))
                refuse = partial(self._refuse, source, topic, None)
                answer_or_refuse(partial(refuse, error), refuse, self._stop)
                return
            except Retry as error:
                why = str(error)
            except Exception as error:  # a bug or a failing disk ends this attempt, and no other stream
                log.exception("a camera failed", source=source)
                why = f"failed ({type(error).__name__})"
            self._states.away(source, why)
            log.warning("a camera is away", source=source, why=why, again_in_s=pause_s)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def tidy(self) -> None:
        """Keep the memory of known files within its bound."""
        self._known.tidy()

    def _commit(self, source: str, topic: str, shot: Shot) -> None:
        """Put a shot into the inbox, and remember its file in the same transaction."""
        if shot.problem:
            raise Rejected("unreadable", shot.problem)
        if not shot.own:
            images.decode(shot.data, at_least_px=images.MIN_SIDE_PX)
        file = shot.file
        if file is None:
            arrival = Arrival(topic, shot.data, shot.time_s, ids.event_id(shot.time_s))
        else:
            event = ids.of_content(file.bytes_s, source, file.digest)
            arrival = Arrival(topic, shot.data, self._clock.now(), event, captured_at=file.file_s)
        with self._spool.transaction() as tx:
            if file is not None:
                self._known.remember(source, file, tx)
            taken = file is None or not self._was_taken(source, topic, file, tx)
            if taken and (self._spool.full or tx.receive([arrival], link="")[0].full):
                raise Retry(f"{source} waits for room in the store")
        if taken:
            self._metrics.received(source, "camera")

    def _was_taken(self, source: str, topic: str, file: SourceFile, tx: Transaction) -> bool:
        """Return whether a release up to 0.1 took this file, under an id of its name and time."""
        old = ids.derived(file.time_s, source, file.path.name, str(file.time_s))
        return tx.has_seen(old, topic, file.digest)

    def _refuse(self, source: str, topic: str, shot: Shot | None, error: Rejected) -> None:
        """Refuse a file by its name, once."""
        named = Rejected(error.reason, f"{shot.name}: {error}") if shot else error
        self._refused[source] = str(named)
        log.warning("a file is refused", topic=topic, reason=error.reason, error=str(named))
        data, site, now_s = shot.data if shot else b"", topic.split("/")[2], self._clock.now()
        with self._spool.transaction() as tx:
            if shot and shot.file and error.reason != INTERNAL_ERROR:  # a later release may take it
                self._known.remember(source, shot.file, tx)
            tx.send(refusal(named, topic, data, site=site, hop=SITE, now_s=now_s))
        self._metrics.refused(error.reason)
        self._metrics.frame_refused(topics.stream_of(topic))
