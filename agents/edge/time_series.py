"""A site's time series: what the edge lets into them.

They may be kept by an InfluxDB on another machine, and whoever opens a dashboard sees them, so nothing passes here that
the edge itself may not hold in the clear::

    Answers, Sightings ──> SiteSeries (the level?) ──> Writer ──> InfluxDB or its SQLite twin
"""

from __future__ import annotations

from pipeline import clock
from pipeline.messages import Event, Report, Result, SightingReport, Tier
from pipeline.privacy.gate import may_see
from pipeline.series.points import reading_point, result_point, sighting_point
from pipeline.series.writer import Writer


class SiteSeries:
    """Never blocks and never raises, as `Writer` does not."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def results(self, *results: Result) -> None:
        """Answers of all tiers."""
        self._writer.write([result_point(r) for r in results if may_see(Tier.EDGE, r.privacy)])

    def report(self, event: Event, report: Report) -> None:
        """A sensor's report, and the device's answer about it, which holds the reading as well."""
        if not may_see(Tier.EDGE, event.levels.reading):
            return
        source, time_s = event.result.source, clock.seconds(event.result.time)
        self._writer.write([reading_point(source, report.value, report.unit, time_s)])
        self.results(event.result)

    def sighting(self, report: SightingReport) -> None:
        if may_see(Tier.EDGE, report.privacy):
            self._writer.write([sighting_point(report)])
