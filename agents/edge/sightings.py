"""Sightings at the edge: each frame's newest answer is a vote, and the consensus is told whenever it changes.

To the site's users at once; to the cloud once, when the sighting is closed and public: that is what counts are made of.
A sighting is as private as the most private of its frames; where that is user-private, nothing is told of it any more.
"""

from __future__ import annotations

from msgspec.structs import replace

from agents.edge.label_rules import LABELLED
from agents.edge.store import EdgeStore
from agents.edge.time_series import SiteSeries
from models.answering.cascade import rank_of
from models.answering.sightings import LABEL_WEIGHT, consensus, weight
from pipeline.messages import UNKNOWN, Privacy, Rank, Result, SightingReport, Tier
from pipeline.records import NAMED_KINGDOMS, answer_envelope
from pipeline.settings.settings import Settings
from pipeline.spool import Spool, Transaction


class Sightings:
    """Sightings of one site."""

    def __init__(self, settings: Settings, store: EdgeStore, series: SiteSeries) -> None:
        self._settings = settings
        self._store = store
        self._series = series

    def count(self, result: Result, tx: Transaction, *, asked: str | None = None) -> None:
        """Count an event's newest answer into its sighting, and tell the consensus.

        `asked`: the event about which the cloud was asked with this answer, or answered.
        """
        if result.sighting is None:
            return
        sightings = self._store.sightings
        votes = LABEL_WEIGHT if result.rule == LABELLED else weight(result.probability)
        sightings.vote(result.sighting, result.event, result.path, votes, result.privacy, tx, asked=asked)
        before = sightings.report(result.sighting, tx) or _begun(result.sighting, result)
        span = {"time": min(before.time, result.time), "until": max(before.until, result.time)}
        self._tell(replace(before, **span, model=result.model, closed=False), tx)

    def close_quiet(self, now_s: float, spool: Spool) -> None:
        """Close sightings that no frame joins any more, and whose answers had their time."""
        patience_s = self._settings.device.sighting_gap_s + self._settings.edge.cloud_deadline_s
        before_s = now_s - patience_s
        for sighting in self._store.sightings.quiet(before_s):
            with spool.transaction() as tx:
                if self._store.sightings.close(sighting, before_s, tx):
                    report = self._store.sightings.report(sighting, tx)
                    if report is not None:
                        self._tell(replace(report, closed=True), tx)

    def _tell(self, before: SightingReport, tx: Transaction) -> None:
        """Publish the next revision of a report; once it is closed and public, tell the cloud as well."""
        privacy = self._store.sightings.privacy(before.sighting, tx)
        if privacy.reach is Tier.DEVICE:
            return
        agreed = consensus(self._store.sightings.tallies(before.sighting, tx))
        report = replace(
            before,
            revision=before.revision + 1,
            rank=rank_of(agreed.path),
            label=agreed.path[-1] if agreed.path else UNKNOWN,
            path=agreed.path,
            probability=round(agreed.probability, 4),
            frames=agreed.frames,
            agree=agreed.agree,
            privacy=privacy,
        )
        self._store.send_report(report, tx)
        self._store.sightings.keep_report(report, tx)
        if report.closed:
            self._series.sighting(report)
            if privacy is Privacy.PUBLIC and NAMED_KINGDOMS.intersection(report.path[:1]):
                self._store.send_up(answer_envelope(report), report.site, tx)


def _begun(sighting: str, first: Result) -> SightingReport:
    """Before anything was told of a sighting."""
    return SightingReport(
        sighting=sighting,
        time=first.time,
        until=first.time,
        site=first.site,
        device=first.device,
        stream=first.stream,
        revision=0,
        rank=Rank.KINGDOM,
        label=UNKNOWN,
        path=(),
        probability=0.0,
        frames=0,
        agree=0,
        privacy=first.privacy,
        closed=False,
        rule="consensus",
        model=first.model,
    )
