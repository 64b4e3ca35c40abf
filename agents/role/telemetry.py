"""Count what a role does, as Prometheus metrics.

Nothing here sees the content of a record. Each role counts into its own `Metrics`, whose registry `/metrics` serves::

    >>> metrics = Metrics()
    >>> metrics.received("home/cam1/garden", "frame")
    >>> metrics.value("tierwise_events_received_total", stream="home/cam1/garden", channel="frame")
    1.0
"""

from __future__ import annotations

import collections
import functools
import importlib.metadata
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from pipeline.messages import Result

STREAMS_MAX: Final = 256
"""Streams that are counted by name. Sites have fewer; invented names must not let the registry grow for ever."""

OTHER_LABELS_MAX: Final = 64
"""Bound on the values of every other label. Reasons, hops and rules are ours, so it is never reached in practice."""

CAMERA_FAULTS: Final = ("dark", "frozen", "blurred")
"""Camera faults that last until a person repairs them."""

LATENCY_BUCKETS_MS: Final = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)


@functools.cache
def version() -> str:
    """Return the installed version of Tierwise."""
    return importlib.metadata.version("tierwise")


# --- logs ------------------------------------------------------------------------------------------------------


# --- metrics ---------------------------------------------------------------------------------------------------


class _Names:
    """Pass label values through up to a bound, then replace new ones by `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            if name in self._seen:
                return name
            if len(self._seen) >= self._most:
                return "other"
            self._seen.add(name)
            return name


class Metrics:
    """The counters of one role, in a registry of its own. Any thread may call any method."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._streams = _Names(STREAMS_MAX)
        self._words = _Names(OTHER_LABELS_MAX)
        self._received = Counter(
            "tierwise_events_received_total",
            "Frames and readings committed, by stream.",
            ["stream", "channel"],
            registry=self.registry,
        )
        self._without_value = Counter(
            "tierwise_without_value_total",
            "Messages of other programs' topics that had no value for a stream, by stream.",
            ["stream"],
            registry=self.registry,
        )
        self._answered = Counter(
            "tierwise_answered_total",
            "Answers published, by the rule that stopped or forwarded the event.",
            ["tier", "rank", "rule"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "tierwise_latency_ms",
            "Milliseconds from an event's receipt by the device agent to this tier's answer.",
            ["tier"],
            buckets=LATENCY_BUCKETS_MS,
            registry=self.registry,
        )
        self._refused = Counter(
            "tierwise_refused_total",
            "Input refused for good, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._withheld = Counter(
            "tierwise_withheld_total", "Records that the privacy gate kept.", registry=self.registry
        )
        self._hop_bytes = Counter(
            "tierwise_hop_bytes_total", "Payload bytes sent over a hop.", ["hop"], registry=self.registry
        )
        self._hop_records = Counter(
            "tierwise_hop_records_total", "Records sent over a hop.", ["hop"], registry=self.registry
        )
        self._drifted = Counter(
            "tierwise_drift_total",
            "Times that a stream left its past, by rule.",
            ["stream", "rule"],
            registry=self.registry,
        )
        self._asked = Counter("tierwise_asks_total", "Labels asked for, by rule.", ["rule"], registry=self.registry)
        self._fault = Gauge(
            "tierwise_camera_fault",
            "1 while a camera is dark, frozen or blurred.",
            ["stream", "fault"],
            registry=self.registry,
        )
        self._away = Gauge("tierwise_camera_away", "1 while a camera is away.", ["stream"], registry=self.registry)
        self._last_frame = Gauge(
            "tierwise_camera_last_frame_seconds",
            "Time of a camera's last frame, in seconds since 1970.",
            ["stream"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "tierwise_frames_dropped_total",
            "Frames of a live camera that were dropped for newer ones.",
            ["stream"],
            registry=self.registry,
        )
        self._frames_refused = Counter(
            "tierwise_frames_refused_total", "Frames refused, by stream.", ["stream"], registry=self.registry
        )
        self._backlog = Gauge(
            "tierwise_backlog",
            "Records that wait for the next hop's acknowledgement.",
            ["hop"],
            registry=self.registry,
        )

        self._updates = Counter(
            "tierwise_updates_total",
            "Steps of releases towards taking effect, by the stage that was reached and the rule that led there.",
            ["stage", "rule"],
            registry=self.registry,
        )
        self._series: list[Callable[[], Mapping[str, int]]] = []
        self.registry.register(_SeriesPoints(self._series))
        self._model = Info("tierwise_model", "The model whose heads serve.", registry=self.registry)

    def received(self, stream: str, channel: str, count: int = 1) -> None:
        """Count committed events of a stream (`home/cam1/garden`) on a channel (`frame`, `reading`)."""
        self._received.labels(self._streams(stream), self._words(channel)).inc(count)

    def without_value(self, stream: str) -> None:
        """Count a message on another program's topic that has no value for a stream."""
        self._without_value.labels(self._streams(stream)).inc()

    def answered(self, result: Result) -> None:
        """Count one published result and its latency."""
        self._answered.labels(result.tier, result.rank, self._words(result.rule)).inc()
        self._latency.labels(result.tier).observe(result.latency_ms)

    def refused(self, reason: str, count: int = 1) -> None:
        """Count refused input."""
        self._refused.labels(self._words(reason)).inc(count)

    def withheld(self, count: int = 1) -> None:
        """Count records that the privacy gate kept."""
        self._withheld.inc(count)

    def hop(self, hop: str, size_bytes: int) -> None:
        """Count one record sent over a hop (`device-edge`)."""
        name = self._words(hop)
        self._hop_bytes.labels(name).inc(size_bytes)
        self._hop_records.labels(name).inc()

    def update(self, stage: str, rule: str) -> None:
        """Count a release's step to a rollout stage, forward or back."""
        self._updates.labels(self._words(stage), self._words(rule)).inc()

    def serves(self, model: str) -> None:
        """Record the model that serves from now on."""
        self._model.info({"model": model})

    def drifted(self, stream: str, rule: str) -> None:
        """Count a drift or a camera fault of a stream (`home/cam1/garden`)."""
        self._drifted.labels(self._streams(stream), self._words(rule)).inc()

    def asked(self, rule: str) -> None:
        """Count a label request."""
        self._asked.labels(self._words(rule)).inc()

    def camera(self, stream: str, fault: str) -> None:
        """Set the fault of a camera; an empty text means that it is sound."""
        name = self._streams(stream)
        for each in CAMERA_FAULTS:
            self._fault.labels(name, each).set(each == fault)

    def camera_away(self, stream: str, away: bool) -> None:
        """Record whether a camera is away."""
        self._away.labels(self._streams(stream)).set(away)

    def camera_seen(self, stream: str, at_s: float) -> None:
        """Record the time of a camera's last frame."""
        self._last_frame.labels(self._streams(stream)).set(at_s)

    def dropped(self, stream: str) -> None:
        """Count a frame of a live camera that was dropped for a newer one."""
        self._dropped.labels(self._streams(stream)).inc()

    def frame_refused(self, stream: str) -> None:
        """Count a refused frame of a stream, beside `refused`."""
        self._frames_refused.labels(self._streams(stream)).inc()

    def backlog(self, hop: str, measure: Callable[[], float]) -> None:
        """Let every scrape measure how much waits for a hop."""
        self._backlog.labels(hop).set_function(functools.partial(_measured, measure))

    def series(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Let every scrape count the points that a writer of time series stored, and those that it lost."""
        self._series.append(counts)

    def value(self, name: str, **labels: str) -> float:
        """Return one sample, or 0.0 if there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """Return all samples in the Prometheus text format."""
        return generate_latest(self.registry)


class _SeriesPoints(Collector):
    """Sum the counts of a role's writers of time series."""

    def __init__(self, sources: Sequence[Callable[[], Mapping[str, int]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See `Collector`."""
        family = CounterMetricFamily(
            "tierwise_series_points",
            "Points for the time series: stored; refused by the store for good; dropped, since it was away for long.",
            labels=["outcome"],
        )
        totals = collections.Counter(stored=0, refused=0, dropped=0)
        for counts in self._sources:
            totals.update(counts())
        for outcome, count in totals.items():
            family.add_metric([outcome], count)
        yield family


def _measured(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except Exception:  # a store that is just closing may raise; one gauge must not fail the whole scrape
        return float("nan")
