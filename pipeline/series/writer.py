"""Writes time series for dashboards: readings, hours, answers and latencies over time. The data never waits for it.

The edge stores its site's points, the stream role the cloud's public ones. Both give points to a `Writer`, which never
blocks and never raises: its own thread stores them in batches in InfluxDB (`influx.py`) or SQLite (`sqlite.py`), and
tries again while the store is away::

    writer = open_writer(settings.influx, settings.data_dir / "series.db", keep_days=30)
    writer.start()
    writer.write([reading_point("home/room1/co2", 640.0, "ppm", now_s)])
    writer.close()

Measurement, tags and time (milliseconds) name a point. Writing it again replaces its fields, so repeats are harmless. A
point that the store refuses for good is dropped alone and counted. If the store is away for long, the oldest points
are dropped and counted.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from pipeline.errors import Rejected, Retry, Stop
from pipeline.series.points import Point, PointStore
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import InfluxSettings

BACKLOG_MAX_POINTS: Final = 50_000
"""About 20 MB; at 50 points a second the store may be away for a quarter of an hour without loss."""
BATCH_MAX_POINTS: Final = 1_000
GATHER_S: Final = 0.5
"""Time for which the first point of a batch waits for more."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 60.0

log = structlog.get_logger(__name__)


class Writer:
    """Takes points without blocking; its thread stores them."""

    def __init__(self, store: PointStore) -> None:
        self._store = store
        self._waiting: deque[Point] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="timeseries", daemon=True)
        self.written = 0
        self.refused = 0
        """Points that the store refused for good."""
        self.dropped = 0
        """Points dropped to make room for newer ones, or not stored before the end."""
        self.trouble = ""
        """Why no points can be stored now; empty if all is well."""

    @property
    def backlog(self) -> int:
        """The number of points that are not stored yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def write(self, points: Sequence[Point]) -> None:
        """Take points to store; points without a finite field are refused."""
        sound = [sound for point in points if (sound := _sound(point)) is not None]
        with self._changed:
            self.refused += len(points) - len(sound)
            self._waiting.extend(sound)
            while len(self._waiting) > BACKLOG_MAX_POINTS:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify_all()

    def close(self, timeout_s: float = 2.0) -> None:
        """Store the waiting points as far as the time allows, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = RETRY_FIRST_S
        while batch := self._next():
            try:
                self._bring(batch)
            except (Retry, Stop) as error:
                if not self.trouble:
                    log.warning("time series cannot be stored", reason=str(error))
                self.trouble = str(error)
                with self._changed:
                    if self._closing:
                        break
                    self._waiting.extendleft(reversed(batch))
                    self._changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                self.trouble = ""
                pause_s = RETRY_FIRST_S
        self.dropped += len(batch) + len(self._waiting)
        self._waiting.clear()
        self._store.close()

    def _next(self) -> list[Point]:
        """Return the next batch; an empty one after `close`, if no point waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
            self._changed.wait_for(lambda: self._closing or len(self._waiting) >= BATCH_MAX_POINTS, GATHER_S)
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX_POINTS, len(self._waiting)))]

    def _bring(self, batch: Sequence[Point]) -> None:
        """Store a batch; find a refused point by halving the batch."""
        try:
            self._store.write(batch)
            self.written += len(batch)
        except Rejected as error:
            if len(batch) == 1:
                self.refused += 1
                log.warning(
                    "the time-series store refuses a point",
                    measurement=batch[0].measurement,
                    reason=str(error),
                )
            else:
                middle = len(batch) // 2
                self._bring(batch[:middle])
                self._bring(batch[middle:])


def open_writer(influx: InfluxSettings, path: Path, keep_days: int) -> Writer:
    """Return a writer to InfluxDB, or to SQLite at `path` if no url is set. It is not started yet.

    Raises
    ------
    Stop
        The SQLite file is damaged, or InfluxDB's client is not installed.
    """
    if not influx.url:
        return Writer(LocalStore(path, keep_days))
    try:
        from pipeline.series.influx import InfluxStore  # here, since its client is an optional, heavy library
    except ImportError:
        raise Stop(f"InfluxDB at {influx.url} needs its client: pip install 'tierwise[cloud]'") from None
    return Writer(InfluxStore(influx))


def _sound(point: Point) -> Point | None:
    """Return the point without the fields that no store takes (NaN and infinities), or None if no field is left."""
    fields = {
        name: value for name, value in point.fields.items() if not isinstance(value, float) or math.isfinite(value)
    }
    return point._replace(fields=fields) if fields else None
