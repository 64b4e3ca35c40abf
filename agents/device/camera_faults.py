"""How a device's cameras are: what is remembered of each, and who is told when one breaks.

::

    frame answered ──> look ──> fault? ──> flag `camera-blurred` on the result: the edge neither learns nor asks of it
                         │         └─────> /health, metrics
                         └──finding──> Drift (MQTT, if the stream's results may leave the device), log

What is remembered outlives a restart; it is written every `SAVED_EVERY_S`, and with each finding.
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
from models.vision.camera_health import Camera, Finding, Glance, check
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
"""Streams that are remembered, the latest ones: each takes 20 KB, and anyone may invent names."""

SAVED_EVERY_S = 600.0


@dataclass(frozen=True, slots=True)
class Looked:
    """One frame's part in what is known of its camera."""

    stream: Parsed
    source: str
    camera: Camera
    finding: Finding | None
    at_s: float

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"camera-{self.camera.fault}",) if self.camera.fault else ()


class Cameras:
    """The cameras of one device agent. A stream's frames come one at a time, streams side by side."""

    def __init__(self, settings: Settings, policy: Policy, spool: Spool, metrics: Metrics) -> None:
        self._settings = settings
        self._policy = policy
        self._spool = spool
        self._metrics = metrics
        self._known: OrderedDict[str, Camera] = OrderedDict()
        self._saved: dict[str, float] = {}

    def open(self) -> None:
        """Make the table; remember the cameras."""
        self._spool.migrate("cameras", MIGRATIONS)
        rows = self._spool.query(
            "SELECT stream, camera FROM device_cameras ORDER BY at DESC LIMIT ?", (CAMERAS_MAX,)
        )
        for source, blob in reversed(rows):
            try:
                self._known[source] = msgspec.msgpack.decode(blob, type=Camera)
            except msgspec.DecodeError:
                log.warning(
                    "what was remembered of a camera is forgotten: another release wrote it", stream=source
                )

    def look(self, stream: Parsed, seen: Glance, at_s: float) -> Looked:
        """Hold a frame, which came then, against what its camera used to be like."""
        source = f"{stream.site}/{stream.device}/{stream.name}"
        hour = dt.datetime.fromtimestamp(at_s, self._settings.zone).hour
        camera, finding = check(self._known.get(source, Camera()), seen, at_s=at_s, hour=hour)
        return Looked(stream, source, camera, finding, at_s)

    def tell(self, looked: Looked, tx: Transaction) -> None:
        """Save what is due, and tell what was found, in the transaction of the frame's answer."""
        due_s = self._saved.get(looked.source, 0.0) + SAVED_EVERY_S
        if looked.finding is not None or looked.at_s >= due_s:
            blob = msgspec.msgpack.encode(looked.camera)
            tx.db.execute(
                "INSERT OR REPLACE INTO device_cameras VALUES (?, ?, ?)", (looked.source, blob, looked.at_s)
            )
        level = self._policy.levels(looked.source, looked.at_s).levels.result
        if looked.finding is None or level.reach is Tier.DEVICE:
            return
        stream, finding = looked.stream, looked.finding
        drift = Drift(
            time=clock.rfc3339(looked.at_s),
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
                id=f"{looked.source}/{finding.rule}/{drift.time}",
                now_s=looked.at_s,
                privacy=level,
            )
        )

    def took(self, looked: Looked) -> None:
        """It is committed."""
        source, before = looked.source, self._known.get(looked.source, Camera())
        self._known[source] = looked.camera
        self._known.move_to_end(source)
        if len(self._known) > CAMERAS_MAX:
            forgotten, _ = self._known.popitem(last=False)
            self._saved.pop(forgotten, None)
        if looked.finding is not None or looked.at_s >= self._saved.get(source, 0.0) + SAVED_EVERY_S:
            self._saved[source] = looked.at_s
        if looked.camera.fault != before.fault:
            self._metrics.camera(source, looked.camera.fault)
        if looked.finding is not None:
            self._metrics.drifted(source, looked.finding.rule)
            log.warning("camera", stream=source, rule=looked.finding.rule, reason=looked.finding.reason)

    def forget(self, before_s: float) -> None:
        """Drop cameras of which nothing was heard since."""
        with self._spool.transaction() as tx:
            tx.db.execute("DELETE FROM device_cameras WHERE at < ?", (before_s,))

    def faults(self) -> str:
        """What is wrong, for `/health`; empty: nothing."""
        return ", ".join(
            f"{source}: {camera.fault}" for source, camera in list(self._known.items()) if camera.fault
        )
