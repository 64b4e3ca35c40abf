"""The embedded time-series store: one SQLite file, written by `writer.Writer` and read by our command line.

It behaves like InfluxDB: measurement, tags and time in milliseconds name a point, and writing it again merges its
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
from pipeline.series.points import Point
from pipeline.spool import file

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
"""One script for each schema version; `PRAGMA user_version` counts the scripts that were run. Only append scripts."""
_UPSERT: Final = """
INSERT INTO points VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET fields = json_patch(points.fields, excluded.fields)
"""


class LocalStore:
    """Opens its file when it is first used. One thread writes; any thread may call `query`."""

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
            The file is not a database of ours, or a newer release has written it.
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
        """Return the points of a measurement that have these tags, newest first; none if there is no file yet.

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

    def close(self) -> None:
        """Close the file."""
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
        connection.executescript(_OPENING)
        file.migrate(connection, path, _MIGRATIONS, "only dashboards need its past")
    except BaseException:
        connection.close()
        raise
    return connection


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
            f"{path}: {error}: move the file away; a new one is made, and only dashboards need its past"
        ) from error
