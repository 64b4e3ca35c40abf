"""The health of a device's cameras: the state of each is kept, and a fault is reported.

::

    frame answered ──> check ──> fault? ──> flag `camera-blurred` on the result: the edge does not learn from it
                         │          └─────> /health, metrics
                         └──finding──> Drift (MQTT, if the stream's results may leave the device), log

The state of a camera outlives a restart. It is written every `SAVED_EVERY_S`, and with each finding.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from dataclasses import dataclass

import msgspec
import structlog

from agents.device.store import SITE
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.vision import camera_health
from models.vision.camera_health import Camera, Finding, Glance
from pipeline import clock, topics
from pipeline.messages import Drift, Tier
from pipeline.privacy.policy import Policy
from pipeline.settings.settings import Settings
from pipeline.spool import Spool, Transaction
from pipeline.topics import Parsed

log = structlog.get_logger("device")

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS device_cameras(stream TEXT PRIMARY KEY, camera BLOB NOT NULL, at REAL NOT NULL);",
)
"""One script a version of its tables; only ever append."""

CAMERAS_MAX = 256
"""Streams whose cameras are remembered, newest first. Each takes 20 KB, and anyone may invent stream names."""

SAVED_EVERY_S = 600.0
"""Seconds between two writes of a camera's state."""


@dataclass(frozen=True, slots=True)
class CameraCheck:
    """The state of a camera after one frame, and the fault that this frame made known, if any."""

    stream: Parsed
    source: str
    camera: Camera
    finding: Finding | None
    at_s: float

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags of the frame's result."""
        return (f"camera-{self.camera.fault}",) if self.camera.fault else ()


class CameraFaults:
    """The cameras of one device agent. Frames of one stream come one at a time; streams run side by side."""

    def __init__(self, settings: Settings, policy: Policy, spool: Spool, metrics: Metrics) -> None:
        self._settings = settings
        self._policy = policy
        self._spool = spool
        self._metrics = metrics
        self._known: OrderedDict[str, Camera] = OrderedDict()
        self._saved: dict[str, float] = {}

    def open(self) -> None:
        """Create the table, and load the state of the cameras."""
        self._spool.migrate("cameras", MIGRATIONS)
        rows = self._spool.query("SELECT stream, camera FROM device_cameras ORDER BY at DESC LIMIT ?", (CAMERAS_MAX,))
        for source, blob in reversed(rows):
            try:
                self._known[source] = msgspec.msgpack.decode(blob, type=Camera)
            except msgspec.DecodeError:
                log.warning("the state of a camera is dropped: another release wrote it", stream=source)

    def check(self, stream: Parsed, seen: Glance, at_s: float, taken_s: float | None = None) -> CameraCheck:
        """Compare a frame, received at `at_s`, with what is usual for its camera at the hour when it was taken."""
        taken_s = at_s if taken_s is None else taken_s
        source = f"{stream.site}/{stream.device}/{stream.name}"
        hour = dt.datetime.fromtimestamp(taken_s, self._settings.zone).hour
        camera, finding = camera_health.check(self._known.get(source, Camera()), seen, at_s=taken_s, hour=hour)
        return CameraCheck(stream, source, camera, finding, at_s)

    def write(self, check: CameraCheck, tx: Transaction) -> None:
        """Save the camera's state if it is due, and publish a finding, in the transaction of the frame's answer."""
        due_s = self._saved.get(check.source, 0.0) + SAVED_EVERY_S
        if check.finding is not None or check.at_s >= due_s:
            blob = msgspec.msgpack.encode(check.camera)
            tx.db.execute("INSERT OR REPLACE INTO device_cameras VALUES (?, ?, ?)", (check.source, blob, check.at_s))
        level = self._policy.levels(check.source, check.at_s).levels.result
        if check.finding is None or level.reach is Tier.DEVICE:
            return
        stream, finding = check.stream, check.finding
        drift = Drift(
            time=clock.rfc3339(check.at_s),
            site=stream.site,
            device=stream.device,
            stream=stream.name,
            rule=finding.rule,
            signal=finding.signal,
            before=finding.before,
            now=finding.now,
            reason=finding.reason,
            privacy=level,
        )
        tx.send(
            outbox.outgoing(
                drift,
                hop=SITE,
                topic=topics.drift(stream.site, stream.device),
                id=f"{check.source}/{finding.rule}/{drift.time}",
                now_s=check.at_s,
                privacy=level,
            )
        )

    def committed(self, check: CameraCheck) -> None:
        """Use this state from now on, after its transaction was committed."""
        source, before = check.source, self._known.get(check.source, Camera())
        self._known[source] = check.camera
        self._known.move_to_end(source)
        if len(self._known) > CAMERAS_MAX:
            forgotten, _ = self._known.popitem(last=False)
            self._saved.pop(forgotten, None)
        if check.finding is not None or check.at_s >= self._saved.get(source, 0.0) + SAVED_EVERY_S:
            self._saved[source] = check.at_s
        if check.camera.fault != before.fault:
            self._metrics.camera(source, check.camera.fault)
        if check.finding is not None:
            self._metrics.drifted(source, check.finding.rule)
            log.warning("a camera is faulty", stream=source, rule=check.finding.rule, reason=check.finding.reason)

    def forget(self, before_s: float) -> None:
        """Drop the state of cameras that sent no frame since."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM device_cameras WHERE at < ?", (before_s,))

    def fault(self, source: str) -> str:
        """Return the fault of a camera; empty if it is sound."""
        return self._known.get(source, Camera()).fault
