"""The embedded time-series store: one SQLite file, written by `timeseries.Writer`, read by our command line.

It keeps the same promises as InfluxDB: a point is named by measurement, tags and time in milliseconds, and writing it
again merges its fields. Points older than `keep_days` are deleted::

    >>> import tempfile
    >>> store = LocalStore(Path(tempfile.mkdtemp()) / "series.db", keep_days=30)
    >>> store.write([Point("reading", {"stream": "co2"}, {"value": 640.0}, 1.8e9)])
    >>> [point.fields for point in store.query("reading", tags={"stream": "co2"})]
    [{'value': 640.0}]
    >>> store.close()

A killed process may lose the last second's points (``synchronous=NORMAL``): they are for dashboards; events have their
own store (`spool/`).
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
from pipeline.series.points import Point

DAY_MS: Final = 86_400_000
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
)
"""One script a schema version; `PRAGMA user_version` counts how many were run. Only ever append."""
_UPSERT: Final = """
INSERT INTO points VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET fields = json_patch(points.fields, excluded.fields)
"""


class LocalStore:
    """Opens its file when it is first used. Written by one thread; `query` and `latest` may be called by any."""

    def __init__(self, path: Path, keep_days: int) -> None:
        self._path = path
        self._keep_days = keep_days
        self._writing: sqlite3.Connection | None = None
        self._cleaned_s = float("-inf")

    def write(self, points: Sequence[Point]) -> None:
        """Store these points in one transaction.

        Raises
        ------
        Retry
            The disk is full, or the file is locked.
        Stop
            The file is no database of ours, or a newer release's.
        """
        with _errors_mapped(self._path):
            if self._writing is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writing = _open(self._path)
            with self._writing as connection:
                connection.executemany(_UPSERT, map(_row, points))
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
        """Points of a measurement that have these tags, newest first; none where nothing was ever written.

        Raises
        ------
        Retry, Stop
            As `write`.
        """
        wanted = tags or {}
        conditions = "".join(" AND json_extract(tags, ?) = ?" for _ in wanted)
        values = [text for name, value in wanted.items() for text in (f'$."{name}"', value)]
        end_ms = round(until_s * 1000) if until_s is not None else 1 << 62
        return self._read(
            f"SELECT * FROM points WHERE measurement = ? AND time_ms BETWEEN ? AND ?{conditions} "  # noqa: S608  # only placeholders
            "ORDER BY time_ms DESC LIMIT ?",
            (measurement, round(since_s * 1000), end_ms, *values, limit),
        )

    def latest(self, measurement: str, since_s: float = 0.0) -> list[Point]:
        """The newest point of each series (each set of tags) of a measurement.

        Raises
        ------
        Retry, Stop
            As `write`.
        """
        return self._read(
            "SELECT measurement, tags, max(time_ms), fields FROM points WHERE measurement = ? AND time_ms >= ? GROUP BY tags",
            (measurement, round(since_s * 1000)),
        )

    def close(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _read(self, statement: str, values: Sequence[str | int]) -> list[Point]:
        if not self._path.exists():
            return []
        with (
            _errors_mapped(self._path),
            closing(
                sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
            ) as reading,
        ):
            return [
                Point(measurement, msgspec.json.decode(tags), msgspec.json.decode(fields), time_ms / 1000)
                for measurement, tags, time_ms, fields in reading.execute(statement, values)
            ]

    def _clean(self, connection: sqlite3.Connection) -> None:
        oldest_ms = round(time.time() * 1000) - self._keep_days * DAY_MS
        with connection:
            connection.execute("DELETE FROM points WHERE time_ms < ?", (oldest_ms,))
        connection.execute("PRAGMA incremental_vacuum").fetchall()
        self._cleaned_s = time.monotonic()


def _open(path: Path) -> sqlite3.Connection:
    """Connect, and bring the schema up to date."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.executescript(_OPENING)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise Stop(
            f"{path} has schema version {version}, this release knows {len(_MIGRATIONS)}: install the newer release "
            "again, or move the file away; only dashboards miss its past"
        )
    for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT")


def _row(point: Point) -> tuple[str, str, int, str]:
    return (
        point.measurement,
        msgspec.json.encode(dict(point.tags), order="sorted").decode(),
        round(point.time_s * 1000),
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
            f"{path}: {error}: move the file away; a new one is made, and only dashboards miss its past"
        ) from error
