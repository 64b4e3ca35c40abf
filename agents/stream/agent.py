"""Run the stream role: Faust, between the gateway and the readers in the cloud.

The role creates Kafka's topics, runs the app of `pipeline.stream.app` in a thread of its own, writes the results into
the cloud's time series, and checks with a second connection that the group's offsets move::

    features.ingest ──> [router, results, summaries, labels] ──> features.*, results, summaries, counts, labelled
                                      └────────────────> time series (InfluxDB or SQLite)

    $ tierwise stream
    $ curl -s http://127.0.0.1:8704/health
    {"role": "stream", "ready": true, "parts": {"kafka": "96 partitions", "behind": "0 records", "series": "fine"}}

A restart loses no state. On any failure the thread raises, and the role is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import faust
import faust.exceptions
import prometheus_client
import structlog

from agents.role.lifecycle import Health
from agents.role.telemetry import Metrics
from pipeline import kafka, topics
from pipeline.clock import Clock, SystemClock
from pipeline.errors import Retry
from pipeline.messages import Result
from pipeline.records import HourlySummary
from pipeline.series.points import Point, result_point, sighting_point, summary_point
from pipeline.series.writer import Writer, open_writer
from pipeline.settings.settings import Settings
from pipeline.stream.app import GROUP, Listeners, build_app, collect_rarely
from pipeline.stream.batches import check_membership
from pipeline.stream.delivery import ProducerRecord
from pipeline.stream.results import Answer
from pipeline.stream.watchdog import Watchdog
from pipeline.topics import Header

SERIES_FILE: Final = "cloud-series.db"
SERIES_KEEP_DAYS: Final = 365
"""Public results are small and few, so a year of them is kept."""
WATCH_EVERY_S: Final = 5.0
CHECK_READY_EVERY_S: Final = 0.25
"""Interval between checks whether the worker has its partitions, until it has them."""
CHECK_STILL_READY_EVERY_S: Final = 1.0
RETRY_EVERY_S: Final = 1.0
APP_STOP_WITHIN_S: Final = 3.0
"""Limit for Faust's stop(), which waits for ever for a dead broker. Uncommitted records come again."""
CONSUMED: Final = (topics.INGEST, topics.RESULTS, topics.SUMMARIES_INGEST, topics.LABELS)

log = structlog.get_logger(__name__)


def build(settings: Settings, clock: Clock | None = None) -> StreamRole:
    """Return the stream role. Opens nothing yet."""
    return StreamRole(settings, clock or SystemClock())


class StreamRole:
    """The stream role. `agents.role.lifecycle` drives it."""

    name = "stream"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.metrics = Metrics()
        self._stopping = threading.Event()
        self._request_stop: Callable[[], object] = self._stopping.set
        self._threads = [
            threading.Thread(target=self._serve, name="faust", daemon=True),
            threading.Thread(target=self._watch, name="watchdog", daemon=True),
        ]
        self._delivered_records = prometheus_client.Counter(
            "tierwise_delivered_records_total",
            "Records that Kafka acknowledged to the stream role.",
            ["topic"],
            registry=self.metrics.registry,
        )
        self._delivered_bytes = prometheus_client.Counter(
            "tierwise_delivered_bytes_total",
            "Bytes of the values of these records.",
            ["topic"],
            registry=self.metrics.registry,
        )
        self._writer: Writer | None = None
        self._topics_there = threading.Event()
        self._partitions = 0
        self._behind = 0
        self._trouble = "starting"
        self._away = ""
        """Problem of the watchdog's own connection to Kafka. A worker that lost Kafka does not notice it."""

    def start(self) -> None:
        """Open the time series and start the Faust thread and the watchdog."""
        folder = self._settings.data_dir
        (folder / "stream").mkdir(parents=True, exist_ok=True)  # Faust's datadir
        self._writer = open_writer(self._settings.cloud_influx, folder / SERIES_FILE, SERIES_KEEP_DAYS)
        self.metrics.series(self._writer.counts)
        self._writer.start()
        self.metrics.backlog("stream", lambda: self._behind)
        for thread in self._threads:
            thread.start()

    def health(self) -> Health:
        """Ready while partitions are assigned and Kafka answers."""
        writer, trouble = self._writer, self._away or self._trouble
        return Health(
            ready=not trouble and self._partitions > 0,
            parts={
                "kafka": trouble or f"{self._partitions} partitions",
                "behind": f"{self._behind} records",
                "series": (writer.state() or "fine") if writer else "not open",
            },
        )

    def stop(self, deadline_s: float) -> None:
        """Stop Faust, then flush the time series."""
        end = self._clock.monotonic() + deadline_s
        self._stopping.set()
        self._request_stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - self._clock.monotonic()))
        if self._writer is not None:
            self._writer.close(max(0.1, end - self._clock.monotonic()))

    # --- the faust thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopping.is_set() and not self._topics_there.is_set():
            try:
                created = kafka.create_topics(self._settings.kafka)
                if created:
                    log.info("topics created", topics=len(created))
                if kafka.wait_for_topics(self._settings.kafka, kafka.ALL_TOPICS, self._stopping):
                    self._topics_there.set()
            except Retry as error:
                self._trouble = str(error)
                self._stopping.wait(RETRY_EVERY_S)
        if not self._stopping.is_set():
            collect_rarely()
            asyncio.run(self._run())

    async def _run(self) -> None:
        stop_requested = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._request_stop = lambda: loop.call_soon_threadsafe(stop_requested.set)
        if self._stopping.is_set():
            return
        app = build_app(self._settings, self._clock, Listeners(self._write_results, self._write_hours, self._count))
        tasks = [
            asyncio.create_task(work) for work in (_run_app(app), self._watch_readiness(app), stop_requested.wait())
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._request_stop = self._stopping.set
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), APP_STOP_WITHIN_S)
        errors = [task.exception() for task in tasks if task.done()]  # asyncio reports one that nobody asks for
        for task in tasks:
            task.cancel()
        for error in filter(None, errors):
            raise kafka.fatal(error, kafka.address(self._settings.kafka)) or error

    async def _watch_readiness(self, app: faust.App) -> None:
        while True:
            await asyncio.sleep(CHECK_READY_EVERY_S if self._trouble else CHECK_STILL_READY_EVERY_S)
            consumer = app.consumer
            try:
                self._partitions = len(consumer.assignment())
                check_membership(app)
            except faust.exceptions.ConsumerNotStarted:  # still starting, as on a busy machine
                continue
            ready = self._partitions and consumer.flow_active and not app.rebalancing
            self._trouble = "" if ready else "waiting for partitions"

    # --- called in the app's loop; must not block ------------------------------------------------------------

    def _write_results(self, results: Sequence[Answer]) -> None:
        self._write([result_point(each) if isinstance(each, Result) else sighting_point(each) for each in results])

    def _write_hours(self, hours: Sequence[HourlySummary]) -> None:
        self._write([summary_point(hour.source, hour) for hour in hours])

    def _count(self, topic: str, records: Sequence[ProducerRecord]) -> None:
        self._delivered_records.labels(topic).inc(len(records))
        self._delivered_bytes.labels(topic).inc(sum(len(record.value or b"") for record in records))
        if topic == topics.REJECTED:
            reasons = Counter(dict(record.headers)[Header.REASON].decode() for record in records)
            for reason, count in reasons.items():
                self.metrics.refused(reason, count)

    def _write(self, points: Sequence[Point]) -> None:
        if self._writer is not None:
            self._writer.write(points)

    # --- the watchdog's thread ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        watchdog = Watchdog()
        with contextlib.closing(kafka.Progress(self._settings.kafka, CONSUMED, GROUP)) as progress:
            while not self._stopping.wait(WATCH_EVERY_S):
                if not self._topics_there.is_set():
                    continue
                try:
                    places = progress.measure()
                except Retry as error:
                    log.warning("cannot read the group's progress", reason=str(error))
                    self._away = str(error)
                    watchdog.excuse()
                    continue
                self._away = ""
                self._behind = sum(place.end - place.committed for place in places.values())
                if stuck := watchdog.stuck(self._clock.monotonic(), places):
                    raise RuntimeError(f"group {GROUP} commits no offsets: {stuck}")


async def _run_app(app: faust.App) -> None:
    await app.start()
    await app.wait_until_stopped()
    if app.crash_reason:
        raise app.crash_reason
