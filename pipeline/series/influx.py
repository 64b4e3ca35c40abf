"""The time-series store of production: InfluxDB 2. Only this file imports its client.

`writer.Writer` calls it from its thread; the client's own batching is not used, since it drops points silently.
InfluxDB's statuses become our errors: 400, 413 and 422 mean a bad point (`Rejected`; the writer finds which, unless
InfluxDB stored all others: `PartlyStored`), 401, 403 and 404 a wrong token, organisation or bucket (`Stop`), 500 and
above a fault of the server, perhaps over one point (`ServerFault`), all others a busy InfluxDB (`Retry`)::

    store = InfluxStore(settings.influx)
    store.write([point])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import urllib3
from influxdb_client import InfluxDBClient, WritePrecision
from influxdb_client import Point as Line
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from pipeline.errors import Rejected, Retry, Stop
from pipeline.series.points import PartlyStored, Point, ServerFault
from pipeline.settings.settings import InfluxSettings

TIMEOUT_MS: Final = 5_000
_BAD_POINT: Final = frozenset({400, 413, 422})
_BAD_SETTINGS: Final = frozenset({401, 403, 404})
_PARTIAL: Final = re.compile(r"partial write: .*\bdropped=(\d+)", re.DOTALL)
"""InfluxDB stored all but so many points: these are older than the bucket keeps, or of a wrong type."""


class InfluxStore:
    """Writes points to InfluxDB; connects when it is first used."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._client: Any = None

    def write(self, points: Sequence[Point]) -> None:
        """Write these points; they are stored when this returns.

        Raises
        ------
        Retry, Rejected, Stop
            As `points.PointStore.write`.
        """
        settings = self._settings
        if self._client is None:
            self._client = InfluxDBClient(
                url=settings.url, token=_token(settings), org=settings.org, timeout=TIMEOUT_MS, retries=False
            )
        try:
            self._client.write_api(write_options=SYNCHRONOUS).write(
                bucket=settings.bucket,
                org=settings.org,
                record=[line(point) for point in points],
                write_precision=WritePrecision.NS,
            )
        except ApiException as error:
            problem = f"InfluxDB at {settings.url}: {error.status} {error.reason}: {_message(error)}"
            if error.status in _BAD_POINT:
                if partial := _PARTIAL.search(str(error.body or "")):
                    raise PartlyStored(problem, int(partial[1])) from error
                raise Rejected("influx-refused", problem) from error
            if error.status in _BAD_SETTINGS:
                self.close()  # the next try reads the token's file again: `provision` may have renewed it
                raise Stop(f"{problem}. Check token, org and bucket in the settings") from error
            raise (ServerFault if error.status and error.status >= 500 else Retry)(problem) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Retry(f"InfluxDB at {settings.url}: {error}") from error

    def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()
            self._client = None


def line(point: Point) -> str:
    """Return the point in line protocol, escaped; empty tags are left out, as InfluxDB demands."""
    made = Line(point.measurement)
    for name, text in point.tags.items():
        made.tag(name, text.replace("\n", " "))
    for name, value in point.fields.items():
        made.field(name, value)
    return str(made.time(point.time_ns, WritePrecision.NS).to_line_protocol())


def _token(settings: InfluxSettings) -> str:
    """Return the token, from its file if there is one."""
    try:
        return Path(settings.token_file).read_text("utf-8").strip() if settings.token_file else settings.token
    except (OSError, ValueError) as error:
        raise Stop(f"{settings.token_file}: the token of InfluxDB cannot be read: {error}") from error


def _message(error: ApiException) -> str:
    return str(error.body or "")[:500]
