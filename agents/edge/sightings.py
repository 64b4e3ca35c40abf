"""Sightings at the edge: each frame's newest answer is a vote, and the consensus is published whenever it changes.

The users of the site receive each revision. The cloud receives a sighting once, when it is closed and public, and
counts it. A sighting is as private as the most private of its frames; if that is user-private, it is not published any
more.
"""

from __future__ import annotations

from msgspec.structs import replace

from agents.edge.label_rules import LABELLED
from agents.edge.resources import EdgeResources
from models.answering.cascade import rank_of
from models.answering.sightings import LABEL_WEIGHT, consensus, weight
from pipeline.messages import UNKNOWN, Privacy, Rank, Result, SightingReport, Tier
from pipeline.records import NAMED_KINGDOMS, answer_envelope
from pipeline.spool import Transaction


class Sightings:
    """Sightings of one site."""

    def __init__(self, resources: EdgeResources) -> None:
        self._settings = resources.settings
        self._store = resources.store
        self._series = resources.series

    def count(self, result: Result, tx: Transaction, *, asked: str | None = None) -> None:
        """Count an event's newest answer into its sighting, and publish the consensus.

        `asked` is the event about which the cloud was asked, or which it answered.
        """
        if result.sighting is None:
            return
        sightings = self._store.sightings
        votes = LABEL_WEIGHT if result.rule == LABELLED else weight(result.probability)
        sightings.vote(result.sighting, result.event, result.path, votes, result.privacy, tx, asked=asked)
        before = sightings.report(result.sighting, tx) or _begun(result.sighting, result)
        span = {"time": min(before.time, result.time), "until": max(before.until, result.time)}
        self._publish(replace(before, **span, model=result.model, closed=False), tx)

    def close_quiet(self, now_s: float) -> None:
        """Close sightings that no frame can join any more, and whose answers are no longer awaited."""
        patience_s = self._settings.device.sighting_gap_s + self._settings.edge.cloud_deadline_s
        before_s = now_s - patience_s
        for sighting in self._store.sightings.quiet(before_s):
            with self._store.transaction() as tx:
                if self._store.sightings.close(sighting, before_s, tx):
                    report = self._store.sightings.report(sighting, tx)
                    if report is not None:
                        self._publish(replace(report, closed=True), tx)

    def _publish(self, before: SightingReport, tx: Transaction) -> None:
        """Publish the next revision of a report; send it to the cloud as well once it is closed and public."""
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
                self._store.send_up(answer_envelope(report), tx)


def _begun(sighting: str, first: Result) -> SightingReport:
    """Return the report of a new sighting, before its first revision."""
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
