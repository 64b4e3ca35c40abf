"""Sightings at the edge: each frame's newest answer is a vote, and the consensus is told whenever it changes.

To the site's users at once; to the cloud once, when the sighting is closed and public: that is what counts are made of.
"""

from __future__ import annotations

from agents.edge_store import EdgeStore
from agents.sightings import Vote, consensus
from models.cascade import rank_of
from pipeline.messages import UNKNOWN, Privacy, Result, SightingReport, Tier
from pipeline.points import sighting_point
from pipeline.records import NAMED_KINGDOMS, answer_envelope
from pipeline.settings import Settings
from pipeline.spool import Spool, Transaction
from pipeline.timeseries import Writer


class Sightings:
    """Sightings of one site."""

    def __init__(self, settings: Settings, store: EdgeStore, series: Writer) -> None:
        self._settings = settings
        self._store = store
        self._series = series

    def count(self, result: Result, tx: Transaction, *, asked: str | None = None) -> None:
        """Count an event's newest answer into its sighting, and tell the consensus if that changed."""
        if result.sighting is None:
            return
        self._store.vote(
            result.sighting, result.event, Vote(result.path, result.probability), tx, asked=asked
        )
        self._report(result.sighting, tx, result, closed=False)

    def close_quiet(self, now_s: float, spool: Spool) -> None:
        """Close sightings that no frame joins any more, and whose answers had their time."""
        patience_s = self._settings.device.sighting_gap_s + self._settings.edge.cloud_deadline_s
        for sighting in self._store.quiet(now_s - patience_s):
            with spool.transaction() as tx:
                self._report(sighting, tx, None, closed=True)

    def _report(self, sighting: str, tx: Transaction, latest: Result | None, *, closed: bool) -> None:
        """Publish a sighting's consensus; once it is closed and public, tell the cloud as well."""
        before = self._store.report(sighting, tx)
        agreed = consensus(self._store.votes(sighting, tx))
        if latest is not None:
            times = [latest.time] + ([before.time, before.until] if before else [])
            privacy = latest.privacy.join(before.privacy) if before else latest.privacy
            site, device, stream, model = latest.site, latest.device, latest.stream, latest.model
        elif before is not None:
            times, privacy, model = [before.time, before.until], before.privacy, before.model
            site, device, stream = before.site, before.device, before.stream
        else:
            return
        report = SightingReport(
            sighting=sighting,
            time=min(times),
            until=max(times),
            site=site,
            device=device,
            stream=stream,
            revision=before.revision + 1 if before else 1,
            rank=rank_of(agreed.path),
            label=agreed.path[-1] if agreed.path else UNKNOWN,
            path=agreed.path,
            probability=round(agreed.probability, 4),
            frames=agreed.frames,
            agree=agreed.agree,
            privacy=privacy,
            closed=closed,
            rule="consensus",
            model=model,
        )
        if privacy.reach is Tier.DEVICE:
            return
        self._store.send_report(report, tx)
        self._store.keep_report(report, tx)
        if closed:
            self._series.write([sighting_point(report)])
            if privacy is Privacy.PUBLIC and NAMED_KINGDOMS.intersection(report.path[:1]):
                self._store.send_up(answer_envelope(report), site, tx)
