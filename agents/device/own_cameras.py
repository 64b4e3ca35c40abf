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
from agents.device.live_source import Watch
from agents.device.photo_sources import Shot
from agents.device.store import SITE
from agents.role.dead_letters import answer_or_refuse, refusal
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline import ids, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.spool import Arrival, Spool

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
        self, spool: Spool, metrics: Metrics, clock: Clock, stop: threading.Event, states: CameraStates
    ) -> None:
        self._spool = spool
        self._states = states
        self._metrics = metrics
        self._clock = clock
        self._stop = stop

    def run(self, source: str, address: str) -> None:
        """Commit the shots of one source until it ends or the agent stops. Raises `Stop` if the store is broken."""
        topic = topics.frame(*source.split("/"))
        pause_s = FIRST_PAUSE_S
        watch = Watch(
            has_room=lambda: self._spool.waiting_of(topic) == 0,
            seen=partial(self._states.seen, source),
            dropped=partial(self._metrics.dropped, source),
        )
        while not self._stop.is_set():
            try:
                for shot in open_source(address, stop=self._stop, clock=self._clock, watch=watch):
                    self._states.seen(source)
                    pause_s = FIRST_PAUSE_S
                    while not shot.live and self._spool.waiting_of(topic) >= AHEAD and not self._stop.is_set():
                        self._stop.wait(ROOM_AGAIN_S)
                    commit = partial(self._commit, source, topic, shot)
                    answer_or_refuse(commit, partial(self._refuse, topic, shot), self._stop)
                self._states.opened(source)
                return
            except (Stop, MemoryError):
                raise
            except Rejected as error:
                self._states.away(source, str(error))
                refuse = partial(self._refuse, topic, None)
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

    def _commit(self, source: str, topic: str, shot: Shot) -> None:
        """Put a shot into the inbox. A photo that was committed before is not taken again."""
        if shot.problem:
            raise Rejected("unreadable", shot.problem)
        if not shot.own:
            images.decode(shot.data, at_least_px=images.MIN_SIDE_PX)
        event = ids.derived(shot.time_s, source, shot.name, str(shot.time_s))
        arrival = Arrival(topic, shot.data, shot.time_s if shot.live else self._clock.now(), event)
        if self._spool.full or self._spool.receive([arrival], link="")[0].full:
            raise Retry(f"{source} waits for room in the store")
        self._metrics.received(source, "camera")

    def _refuse(self, topic: str, shot: Shot | None, error: Rejected) -> None:
        """Refuse a file by its name."""
        named = Rejected(error.reason, f"{shot.name}: {error}") if shot else error
        log.warning("a file is refused", topic=topic, reason=error.reason, error=str(named))
        data, site, now_s = shot.data if shot else b"", topic.split("/")[2], self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(named, topic, data, site=site, hop=SITE, now_s=now_s))
        self._metrics.refused(error.reason)
        self._metrics.frame_refused(topics.stream_of(topic))
