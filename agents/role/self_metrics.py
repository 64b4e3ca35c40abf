"""Write a role's own metrics as a time series: backlog, traffic over each hop, answers, refusals.

`/metrics` is read on this machine only; from the series, a dashboard sees the whole deployment. `lifecycle` starts this
where the settings name an InfluxDB for the role's tier. It reads the role's counters, which hold no content::

    Metrics ──(every 15 s)──> points ──> Writer ──> InfluxDB
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from agents.role.telemetry import Metrics
from pipeline.clock import Clock
from pipeline.errors import Stop
from pipeline.series.points import Point, Value
from pipeline.series.writer import Writer, open_writer
from pipeline.settings.settings import InfluxSettings, Settings
from pipeline.spool import file

BEAT_S: Final = 15.0

AT_SITE: Final = frozenset({"device", "edge"})
"""Roles whose series go to the site's InfluxDB. The others' go to the cloud's."""

FIELDS: Final = {
    "tierwise_backlog": ("hop", "backlog"),
    "tierwise_hop_bytes_total": ("hop", "bytes"),
    "tierwise_hop_records_total": ("hop", "records"),
    "tierwise_delivered_records_total": ("topic", "records"),
    "tierwise_delivered_bytes_total": ("topic", "bytes"),
    "tierwise_refused_total": ("reason", "refused"),
    "tierwise_withheld_total": ("", "withheld"),
    "tierwise_series_points_total": ("outcome", "points"),
    "process_resident_memory_bytes": ("", "memory_bytes"),
    "process_cpu_seconds_total": ("", "cpu_seconds"),
}
"""Samples that become fields: by sample name, the label that becomes a tag, and the field's name."""


COUNTERS: Final = frozenset(field for name, (_, field) in FIELDS.items() if name.endswith("_total"))
"""Fields that begin at 0 with the process. Rates and increases of a counter need this 0 as its first point."""

REPLICAS_MAX: Final = 64


def points(metrics: Metrics, role: str, site: str, instance: str, now_s: float) -> Iterator[Point]:
    """Yield one point for each set of tags. Counters are written as they stand; a dashboard takes the differences."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Value]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name not in FIELDS or not math.isfinite(sample.value):
                continue
            label, field = FIELDS[sample.name]
            tags: tuple[tuple[str, str], ...] = ((label, sample.labels[label]),) if label else ()
            found.setdefault(tags, {})[field] = float(sample.value)
    for tags, fields in found.items():
        place = {"role": role, "instance": instance} | ({"site": site} if role in AT_SITE else {})
        yield Point("pulse", place | dict(tags), fields, now_s)


def instance(folder: Path, host: str) -> tuple[str, IO[bytes] | None]:
    """Return a name that no other replica on this data folder holds, and the lock on it.

    Replicas of a container have one host name and share a volume: `gateway`, `gateway-2`. A replica that is started
    anew takes a free name, so a dashboard and an alert see one agent before and after.
    """
    for number in range(1, REPLICAS_MAX):
        try:
            held = file.lock(folder / f"instance-{number}")
        except file.InUse:
            continue
        except Stop:
            break
        return (host if number == 1 else f"{host}-{number}"), held
    return host, None


class SelfMetrics:
    """Write the metrics every 15 s, on a thread of its own."""

    def __init__(self, metrics: Metrics, role: str, settings: Settings, clock: Clock, writer: Writer) -> None:
        self._metrics = metrics
        self._role = role
        self._site = settings.site
        self._folder = settings.data_dir / role
        self._instance = socket.gethostname()
        self._claim: IO[bytes] | None = None
        self._clock = clock
        self._written_s = clock.now()
        self._begun: set[tuple[object, ...]] = set()
        self._writer = writer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="self-metrics", daemon=True)

    def start(self) -> None:
        """Start the writer and the thread."""
        self._instance, self._claim = instance(self._folder, self._instance)
        self._written_s = self._clock.now()
        self._metrics.series(self._writer.counts)
        self._writer.start()
        self._thread.start()

    def state(self) -> str:
        """Return the writer's trouble and losses, empty if there are none."""
        return self._writer.state()

    def stop(self) -> None:
        """Write once more, and wait half a second for the writer to flush."""
        self._stopping.set()
        self.write()
        self._writer.close(0.5)
        if self._claim is not None:
            self._claim.close()

    def write(self) -> None:
        """Write the metrics as they are now. Before a counter's first value, write its 0 at the last beat."""
        now_s = self._clock.now()
        found = list(points(self._metrics, self._role, self._site, self._instance, now_s))
        zeros = []
        for point in found:
            begins = {(*point.tags.items(), name) for name in point.fields if name in COUNTERS} - self._begun
            if begins:
                zeros.append(point._replace(fields={str(key[-1]): 0.0 for key in begins}, time_s=self._written_s))
            self._begun |= begins
        self._writer.write([*zeros, *found])
        self._written_s = now_s

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_S):
            self.write()


def self_metrics_of(metrics: Metrics, role: str, settings: Settings, clock: Clock) -> SelfMetrics | None:
    """Return the reporter of a role, or None if the settings name no InfluxDB for its tier.

    Raises `Stop` if the client library of InfluxDB is missing.
    """
    influx: InfluxSettings = settings.influx if role in AT_SITE else settings.cloud_influx
    if not influx.url:
        return None
    return SelfMetrics(metrics, role, settings, clock, open_writer(influx, Path(os.devnull), keep_days=1))
