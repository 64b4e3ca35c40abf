"""Time series: readings, hours, answers and latencies over time, for dashboards; beside the way of the data, never in it.

The edge keeps its site's, the stream role the cloud's public ones. Both hand points to a `Writer`, which never blocks
and never raises: a thread of its own stores them in InfluxDB (`influx.py`) or its SQLite twin (`local.py`), in batches,
and tries again while the store is away::

    writer = open_writer(settings.influx, settings.data_dir / "series.db", keep_days=30)
    writer.start()
    writer.write([reading_point("home/room1/co2", 640.0, "ppm", now_s)])
    writer.close()

A point is named by measurement, tags and time (milliseconds): writing it again replaces its fields, so repeats are
harmless. What a store refuses for good is dropped alone and counted; when the store is away for long, the oldest points
make room, and that is counted, too.
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
from pipeline.series.points import Point, Store
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import InfluxSettings

BACKLOG_MAX_POINTS: Final = 50_000
"""Some 20 MB; at 50 points/s the store may be away for a quarter of an hour without loss."""
BATCH_MAX_POINTS: Final = 1_000
GATHER_S: Final = 0.5
"""How long the first point of a batch waits for company."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 60.0

log = structlog.get_logger(__name__)


class Writer:
    """Takes points without ever blocking; its thread brings them to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Point] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="timeseries", daemon=True)
        self.written = 0
        self.refused = 0
        """Points that the store will never take."""
        self.dropped = 0
        """Points that made room for newer ones, or that the end came before."""
        self.trouble = ""
        """Why nothing can be stored just now; empty when all is well."""

    @property
    def backlog(self) -> int:
        """Points that are not stored yet."""
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def write(self, points: Sequence[Point]) -> None:
        """Hand over points; those without a finite field are refused."""
        sound = [sound for point in points if (sound := _sound(point)) is not None]
        with self._changed:
            self.refused += len(points) - len(sound)
            self._waiting.extend(sound)
            while len(self._waiting) > BACKLOG_MAX_POINTS:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify_all()

    def close(self, timeout_s: float = 2.0) -> None:
        """Store what waits, as far as the time allows."""
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
        """The next batch; empty when closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
            self._changed.wait_for(lambda: self._closing or len(self._waiting) >= BATCH_MAX_POINTS, GATHER_S)
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX_POINTS, len(self._waiting)))]

    def _bring(self, batch: Sequence[Point]) -> None:
        """Store a batch; what is refused is found by halving."""
        try:
            self._store.write(batch)
            self.written += len(batch)
        except Rejected as error:
            if len(batch) == 1:
                self.refused += 1
                log.warning(
                    "time series store refuses a point", measurement=batch[0].measurement, reason=str(error)
                )
            else:
                middle = len(batch) // 2
                self._bring(batch[:middle])
                self._bring(batch[middle:])


def open_writer(influx: InfluxSettings, path: Path, keep_days: int) -> Writer:
    """A writer to InfluxDB, or to the SQLite twin at `path` where no url is set; not started yet.

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
    """Without fields that no store takes: NaN and infinities."""
    fields = {
        name: value
        for name, value in point.fields.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
    return point._replace(fields=fields) if fields else None
