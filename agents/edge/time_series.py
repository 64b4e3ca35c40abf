"""A site's time series, as privacy levels allow them.

An InfluxDB on another machine may keep them, and everyone with a dashboard sees them. So only records that the edge may
hold in the clear are written::

    answers, sightings ──> SiteSeries (by level) ──> Writer ──> InfluxDB or its SQLite twin
"""

from __future__ import annotations

from pipeline import clock
from pipeline.messages import Event, Report, Result, SightingReport, Tier
from pipeline.privacy.gate import may_see
from pipeline.series.points import reading_point, result_point, sighting_point
from pipeline.series.writer import Writer


class SiteSeries:
    """Never blocks and never raises, like `Writer`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def results(self, *results: Result) -> None:
        """Write answers of any tier."""
        self._writer.write([result_point(r) for r in results if may_see(Tier.EDGE, r.privacy)])

    def report(self, event: Event, report: Report) -> None:
        """Write a sensor's report, and the device's answer to it, which holds the reading as well."""
        if not may_see(Tier.EDGE, event.levels.reading):
            return
        source, time_s = event.result.source, clock.seconds(event.result.time)
        self._writer.write([reading_point(source, report.value, report.unit, time_s, event.result.event)])
        self.results(event.result)

    def sighting(self, report: SightingReport) -> None:
        """Write a closed sighting."""
        if may_see(Tier.EDGE, report.privacy):
            self._writer.write([sighting_point(report)])
