"""Writes time series for dashboards: readings, hours, answers and latencies over time. The data never waits for it.

The edge stores its site's points, the stream role the cloud's public ones. Both give points to a `Writer`, which never
blocks and never raises: its own thread stores them in batches in InfluxDB (`influx.py`) or SQLite (`sqlite.py`), and
tries again while the store is away::

    writer = open_writer(settings.influx, settings.data_dir / "series.db", keep_days=30)
    writer.start()
    writer.write([reading_point("home/room1/co2", 640.0, "ppm", now_s)])
    writer.close()

Measurement, tags and time name a point. Writing it again replaces its fields, so repeats are harmless. A point that the
store refuses for good is dropped alone and counted. So is a point over which a server fails again and again, while it
takes others. If the store is away for long, the oldest points are dropped. Every lost point is counted: `counts` for
`/metrics`, `state` for `/health`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from pipeline.errors import Rejected, Retry, Stop
from pipeline.series.points import PartlyStored, Point, PointStore, ServerFault
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import InfluxSettings

BACKLOG_MAX_POINTS: Final = 50_000
"""About 20 MB; at 50 points a second the store may be away for a quarter of an hour without loss."""
BATCH_MAX_POINTS: Final = 1_000
GATHER_S: Final = 0.5
"""Time for which the first point of a batch waits for more."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 60.0
FAULTS_BEFORE_SEARCH: Final = 3
"""So many times in a row a batch may end in a server's fault before its points are tried alone."""
REFUSED_QUIET_S: Final = 60.0
"""Refused points are logged when the first comes after so much time without any."""
PROBES: Final = 8
"""Points of such a batch that are tried alone first: does the server take any?"""

log = structlog.get_logger(__name__)


class Writer:
    """Takes points without blocking; its thread stores them."""

    def __init__(self, store: PointStore) -> None:
        self._store = store
        self._waiting: deque[Point] = deque()
        self._parts: deque[list[Point]] = deque()
        """The batch that is being stored, in order; only the thread changes it."""
        self._changed = threading.Condition()
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._run, name="timeseries", daemon=True)
        self._faults = 0
        self._full = False
        self._refused_s = -math.inf
        self.written = 0
        self.refused = 0
        """Points that the store refused for good."""
        self.dropped = 0
        """Points dropped to make room for newer ones, or not stored before the end."""
        self.trouble = ""
        """Why no points can be stored now; empty if all is well."""

    @property
    def backlog(self) -> int:
        """The number of points that wait for their batch."""
        return len(self._waiting)

    def counts(self) -> Mapping[str, int]:
        """Return how many points were stored, refused by the store, and dropped."""
        return {"stored": self.written, "refused": self.refused, "dropped": self.dropped}

    def state(self) -> str:
        """Return the trouble and the losses since the start, as a text for `/health`; empty if there are none."""
        losses = {"refused": self.refused, "dropped": self.dropped}
        return "; ".join(
            [
                *([self.trouble, f"{self.backlog} points wait"] if self.trouble else ()),
                *(f"{count} points {how}" for how, count in losses.items() if count),
            ]
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def write(self, points: Sequence[Point]) -> None:
        """Take points to store; points without a finite field are refused, and after the end they are dropped."""
        sound = [sound for point in points if (sound := _sound(point)) is not None]
        with self._changed:
            self.refused += len(points) - len(sound)
            if self._ended:
                self.dropped += len(sound)
                return
            self._waiting.extend(sound)
            surplus = len(self._waiting) - BACKLOG_MAX_POINTS
            for _ in range(surplus):
                self._waiting.popleft()
            self.dropped += max(0, surplus)
            begins, self._full = surplus > 0 and not self._full, self._full or surplus > 0
            self._changed.notify_all()
        if begins:
            log.warning("the oldest points of the time series are dropped", waiting=BACKLOG_MAX_POINTS)

    def close(self, timeout_s: float = 2.0) -> None:
        """Store the waiting points as far as the time allows, and end the thread. Count and log what was not stored."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._changed:
            ends, self._ended = not self._ended, True
            lost = len(self._waiting) + sum(map(len, self._parts))
            self._waiting.clear()
            self.dropped += lost if ends else 0
        if ends and lost:
            log.warning(
                "the end came before these points of the time series were stored", dropped=lost, reason=self.trouble
            )

    def _run(self) -> None:
        pause_s = RETRY_FIRST_S
        while self._next():
            try:
                self._bring()
            except (Retry, Stop) as error:
                if not self.trouble:
                    log.warning("time series cannot be stored", reason=str(error))
                self.trouble = str(error)
                self._faults = self._faults + 1 if isinstance(error, ServerFault) else 0
                with self._changed:
                    self._waiting.extendleft(point for part in reversed(self._parts) for point in reversed(part))
                    self._parts.clear()
                    if self._closing:
                        break
                    self._changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                pause_s, self._faults = RETRY_FIRST_S, 0
                self._note_recovery()
        self._store.close()

    def _next(self) -> bool:
        """Take the next batch; return False after `close`, if no point waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
            self._changed.wait_for(lambda: self._closing or len(self._waiting) >= BATCH_MAX_POINTS, GATHER_S)
            size = 0 if self._ended else min(BATCH_MAX_POINTS, len(self._waiting))
            self._parts.extend([[self._waiting.popleft() for _ in range(size)]] if size else ())
            return size > 0

    def _bring(self) -> None:
        """Store the batch; find a refused point by halving the part that holds it."""
        takes_others: Point | None = None
        while self._parts:
            part = self._parts[0]
            stored, refused, reason = 0, 0, ""
            try:
                self._store.write(part)
                stored = len(part)
            except PartlyStored as error:
                refused, reason = min(error.refused, len(part)), str(error)
                stored = len(part) - refused
            except (Retry, Stop) as error:
                if not isinstance(error, ServerFault) or self._faults < FAULTS_BEFORE_SEARCH:
                    raise
                takes_others = takes_others or self._point_that_is_taken(part)
                if takes_others is None:
                    raise
                reason = str(error)
                if len(part) == 1:
                    self._store.write([takes_others])  # raises if the server is ill by now
                    stored = 1 if self._takes(part[0]) else 0
                    refused = 1 - stored
            except Exception as error:  # a bug of a client over one point must not end the time series
                reason = str(error) if isinstance(error, Rejected) else repr(error)
                refused = 1 if len(part) == 1 else 0
            with self._changed:
                self._parts.popleft()
                if not stored and not refused:
                    middle = len(part) // 2
                    self._parts.extendleft((part[middle:], part[:middle]))
                self.written += stored
                self.refused += refused
            if refused:
                now_s = time.monotonic()
                if now_s - self._refused_s > REFUSED_QUIET_S:
                    log.warning("the time-series store refuses points", measurement=part[0].measurement, reason=reason)
                self._refused_s = now_s

    def _point_that_is_taken(self, part: Sequence[Point]) -> Point | None:
        """Try points alone, the newest waiting one first; return one that the server takes, if any."""
        with self._changed:
            newest = [self._waiting[-1]] if self._waiting else []
        spread = part[:: max(1, len(part) // PROBES)]
        return next((point for point in [*newest, *spread] if self._takes(point)), None)

    def _takes(self, point: Point) -> bool:
        try:
            self._store.write([point])
        except (Rejected, ServerFault):
            return False
        return True

    def _note_recovery(self) -> None:
        """Log once that the store takes points again, and that none are dropped any more."""
        if self.trouble:
            self.trouble = ""
            log.info("time series are stored again", **self.counts())
        if self._full and self.backlog < BACKLOG_MAX_POINTS // 2:
            self._full = False
            log.info("no more points of the time series are dropped", dropped=self.dropped)


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
