"""The state of each camera: online or away, and since when; its last frame, drops and refusals.

It is known since the start of the agent, and shown by `/health`, `tierwise doctor`, the metrics and the retained
status::

    >>> from pipeline.clock import HandClock
    >>> states = CameraStates(Settings(), Metrics(), HandClock(0.0))
    >>> states.seen("home/cam1/garden")
    >>> states.text()
    'home/cam1/garden: online since 1970-01-01T00:00:00.000Z, last frame 0 s ago'
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from agents.role.telemetry import Metrics
from pipeline.clock import Clock, rfc3339
from pipeline.credentials import hidden
from pipeline.messages import CameraState, Task
from pipeline.settings.settings import Settings, StreamSettings

CAMERAS_MAX = 256
"""Cameras that are known at once: anyone may invent stream names."""

REPEATED_EVERY_S = 60.0
"""Pause between two messages while only times and numbers change."""


@dataclass(slots=True)
class _Camera:
    own: bool
    off_delay_s: float
    since_s: float
    heard_s: float
    """Monotonic time of the last frame, or of the start."""
    last_s: float | None = None
    why: str = ""
    """Why it is away; empty while it is online."""


class CameraStates:
    """The cameras of one device agent. Any thread may call any method."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Camera] = {}
        self._sent: tuple[dict[str, str], float] = ({}, 0.0)
        for source, stream in settings.named_streams.items():
            device = source.split("/")[1]
            if stream.task is Task.WILDLIFE and (not settings.device.names or device in settings.device.names):
                self._camera(source)

    def seen(self, source: str) -> None:
        """Note a frame of a camera."""
        with self._lock:
            if (camera := self._camera(source)) is not None:
                camera.last_s, camera.heard_s = self._clock.now(), self._clock.monotonic()
                self._metrics.camera_seen(source, camera.last_s)
                self._set(source, camera, "")

    def opened(self, source: str) -> None:
        """Note that an own source is there."""
        self.away(source, "")

    def away(self, source: str, why: str) -> None:
        """Note why an own source is away; empty: it is there."""
        with self._lock:
            if (camera := self._camera(source)) is not None:
                self._set(source, camera, why)

    def current(self) -> dict[str, CameraState]:
        """Return the states of all cameras that are expected or were heard of, by ``site/device/stream``."""
        now_s = self._clock.monotonic()
        with self._lock:
            for source, camera in self._known.items():
                if not camera.own and not camera.why and now_s - camera.heard_s > camera.off_delay_s:
                    self._set(source, camera, f"no frame for {camera.off_delay_s:g} s")
            return {source: self._state(source, camera) for source, camera in self._known.items()}

    def text(self, faults: Callable[[str], str] = lambda _: "") -> str:
        """Return the states of own cameras, and of others that were heard of, for `/health`."""
        now_s = self._clock.now()
        shown = []
        for source, state in sorted(self.current().items()):
            if not (self._known[source].own or state.last_frame or state.refused):
                continue
            last_s = self._known[source].last_s
            parts = [
                f"{state.state} since {state.since}" + (f" ({state.reason})" if state.reason else ""),
                faults(source),
                f"last frame {max(0.0, now_s - last_s):.0f} s ago" if last_s is not None else "no frame yet",
                f"{state.dropped} dropped" if state.dropped else "",
                f"{state.refused} refused" if state.refused else "",
            ]
            shown.append(f"{source}: {', '.join(filter(None, parts))}")
        return "; ".join(shown)

    def changed(self) -> bool:
        """Return whether the status should be published again, and count it as published."""
        now_s = self._clock.now()
        states = {source: state.state for source, state in self.current().items()}
        before, sent_s = self._sent
        if states == before and now_s - sent_s < REPEATED_EVERY_S:
            return False
        self._sent = (states, now_s)
        return True

    def _camera(self, source: str) -> _Camera | None:
        if source not in self._known and len(self._known) < CAMERAS_MAX:
            stream = self._settings.stream(source) or StreamSettings()
            camera = _Camera(bool(stream.source), stream.off_delay_s, self._clock.now(), self._clock.monotonic())
            self._known[source] = camera
            camera.why = "it was not opened yet" if camera.own else ""
            self._metrics.camera_away(source, camera.own)
        return self._known.get(source)

    def _set(self, source: str, camera: _Camera, why: str) -> None:
        if bool(why) != bool(camera.why):
            camera.since_s = self._clock.now()
            self._metrics.camera_away(source, bool(why))
        camera.why = hidden(why)

    def _state(self, source: str, camera: _Camera) -> CameraState:
        return CameraState(
            state="away" if camera.why else "online",
            since=rfc3339(camera.since_s),
            last_frame="" if camera.last_s is None else rfc3339(camera.last_s),
            dropped=int(self._metrics.value("tierwise_frames_dropped_total", stream=source)),
            refused=int(self._metrics.value("tierwise_frames_refused_total", stream=source)),
            reason=camera.why,
        )
