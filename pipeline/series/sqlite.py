"""The embedded time-series store: one SQLite file, written by `writer.Writer` and read by our command line.

It behaves like InfluxDB: measurement, tags and time in nanoseconds name a point, and writing it again merges its
fields. Points older than `keep_days` are deleted::

    >>> import tempfile
    >>> store = LocalStore(Path(tempfile.mkdtemp()) / "series.db", keep_days=30)
    >>> store.write([Point("reading", {"stream": "co2"}, {"value": 640.0}, 1.8e9)])
    >>> [point.fields for point in store.query("reading", tags={"stream": "co2"})]
    [{'value': 640.0}]
    >>> store.close()

A killed process may lose the points of the last second (``synchronous=NORMAL``). They are for dashboards; the spool
keeps the events.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from pipeline.errors import Retry, Stop
from pipeline.series.points import NS_PER_MS, Point, digits
from pipeline.spool import file

DAY_MS: Final = 86_400_000
_LAST_S: Final = 9e9
"""Later than any point: nanoseconds of it fit into SQLite's integers."""
CLEAN_EVERY_S: Final = 3_600.0
BUSY_TIMEOUT_S: Final = 2.0

_OPENING: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""
_MIGRATIONS: Final = (
    """
CREATE TABLE IF NOT EXISTS points (
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,  -- JSON object, keys sorted: equal tags are equal text
    time_ms INTEGER NOT NULL,
    fields TEXT NOT NULL,  -- JSON object
    PRIMARY KEY (measurement, tags, time_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS points_by_time ON points (measurement, time_ms);
CREATE INDEX IF NOT EXISTS points_by_age ON points (time_ms);
""",
    """
CREATE TABLE points_ns (
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,  -- JSON object, keys sorted: equal tags are equal text
    time_ns INTEGER NOT NULL,
    fields TEXT NOT NULL,  -- JSON object
    PRIMARY KEY (measurement, tags, time_ns)
) WITHOUT ROWID;
INSERT INTO points_ns SELECT measurement, tags,
    time_ms * 1000000 + digits(coalesce(json_extract(fields, '$.event'), json_extract(fields, '$.sighting'), '')), fields
    FROM points;
CREATE TABLE in_milliseconds AS SELECT max(time_ms) * 1000000 AS until_ns FROM points;
DROP TABLE points;
ALTER TABLE points_ns RENAME TO points;
CREATE INDEX points_by_time ON points (measurement, time_ns);
CREATE INDEX points_by_age ON points (time_ns);
""",
)
"""One script for each schema version; `PRAGMA user_version` counts the scripts that were run. Only append scripts."""
_UPSERT: Final = """
INSERT INTO points VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET fields = json_patch(points.fields, excluded.fields)
"""
_DELETE_TWIN: Final = "DELETE FROM points WHERE measurement = ? AND tags = ? AND time_ns = ? AND fields = ?"
"""An earlier release kept a reading without its event's id, at the whole millisecond: it must not stand there twice."""


class LocalStore:
    """Opens its file when it is first used. One thread writes; any thread may call `query`."""

    def __init__(self, path: Path, keep_days: int) -> None:
        self._path = path
        self._keep_days = keep_days
        self._writing: sqlite3.Connection | None = None
        self._in_ms_until_ns = 0
        self._cleaned_s = float("-inf")

    def write(self, points: Sequence[Point]) -> None:
        """Store these points in one transaction.

        Raises
        ------
        Retry
            The disk is full, or the file is locked.
        Stop
            The file is not a database of ours, or a newer release has written it.
        """
        with _errors_mapped(self._path):
            if self._writing is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writing = _open(self._path)
                (until_ns,) = self._writing.execute("SELECT until_ns FROM in_milliseconds").fetchone()
                self._in_ms_until_ns = until_ns or 0
            rows = list(map(_row, points))
            twins = [
                (measurement, tags, time_ns - point.below_ms, fields)
                for point, (measurement, tags, time_ns, fields) in zip(points, rows, strict=True)
                if point.below_ms and time_ns - point.below_ms <= self._in_ms_until_ns
            ]
            with self._writing as connection:
                connection.executemany(_DELETE_TWIN, twins)
                connection.executemany(_UPSERT, rows)
            if time.monotonic() - self._cleaned_s > CLEAN_EVERY_S:
                self._clean(self._writing)

    def query(
        self,
        measurement: str,
        *,
        tags: Mapping[str, str] | None = None,
        since_s: float = 0.0,
        until_s: float | None = None,
        limit: int = 1_000,
    ) -> list[Point]:
        """Return the points of a measurement that have these tags, newest first; none if there is no file yet.

        Raises
        ------
        Retry, Stop
            As `write`.
        """
        wanted = tags or {}
        conditions = "".join(" AND json_extract(tags, ?) = ?" for _ in wanted)
        values = [text for name, value in wanted.items() for text in (f'$."{name}"', value)]
        end_ns = round(until_s * 1000) * NS_PER_MS + NS_PER_MS - 1 if until_s is not None else (1 << 63) - 1
        return self._read(
            f"SELECT * FROM points WHERE measurement = ? AND time_ns BETWEEN ? AND ?{conditions} "  # noqa: S608  # only placeholders
            "ORDER BY time_ns DESC LIMIT ?",
            (measurement, round(since_s * 1000) * NS_PER_MS, end_ns, *values, limit),
        )

    def stream(self, measurement: str, since_s: float, until_s: float) -> Iterator[Point]:
        """Yield the points of a measurement, oldest first, each as it is read: of any number. Raises as `query`."""
        bounds = [min(max(time_s, 0.0), _LAST_S) for time_s in (since_s, until_s)]
        return self._each(
            "SELECT * FROM points WHERE measurement = ? AND time_ns BETWEEN ? AND ? ORDER BY time_ns",
            (
                measurement,
                *(
                    round(time_s * 1000) * NS_PER_MS + number
                    for time_s, number in zip(bounds, (0, NS_PER_MS - 1), strict=True)
                ),
            ),
        )

    def close(self) -> None:
        """Close the file."""
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _read(self, statement: str, values: Sequence[str | int]) -> list[Point]:
        return list(self._each(statement, values))

    def _each(self, statement: str, values: Sequence[str | int]) -> Iterator[Point]:
        if not self._path.exists():
            return
        with (
            _errors_mapped(self._path),
            closing(
                sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
            ) as reading,
        ):
            if reading.execute("PRAGMA user_version").fetchone()[0] < len(_MIGRATIONS):
                raise Retry(f"{self._path}: an earlier release wrote it, and the edge upgrades it when it next starts")
            for measurement, tags, time_ns, fields in reading.execute(statement, values):
                yield Point(
                    measurement,
                    msgspec.json.decode(tags),
                    msgspec.json.decode(fields),
                    time_ns // NS_PER_MS / 1000,
                    time_ns % NS_PER_MS,
                )

    def _clean(self, connection: sqlite3.Connection) -> None:
        oldest_ms = round(time.time() * 1000) - self._keep_days * DAY_MS
        with connection:
            connection.execute("DELETE FROM points WHERE time_ns < ?", (oldest_ms * NS_PER_MS,))
        connection.execute("PRAGMA incremental_vacuum").fetchall()
        self._cleaned_s = time.monotonic()


def _open(path: Path) -> sqlite3.Connection:
    """Connect, and bring the schema up to date."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.executescript(_OPENING)
        connection.create_function("digits", 1, digits, deterministic=True)
        file.migrate(connection, path, _MIGRATIONS, "only dashboards need its past")
    except BaseException:
        connection.close()
        raise
    return connection


def _row(point: Point) -> tuple[str, str, int, str]:
    return (
        point.measurement,
        msgspec.json.encode(dict(point.tags), order="sorted").decode(),
        point.time_ns,
        msgspec.json.encode(dict(point.fields)).decode(),
    )


@contextmanager
def _errors_mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise Retry(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Stop(
            f"{path}: {error}: move the file away; a new one is made, and only dashboards need its past"
        ) from error
