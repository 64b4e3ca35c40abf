"""What a site tells of what it learned: numbered increments of sums over its edge-private labelled events, if its owner wants that.

::

    edge_lessons (edge-private, in no increment yet) --one a visit, >= 20 a label--> SumIncrement --gate: sums-of-many--> uplink

Off unless `edge.share_sums` is set: edge-private means that it stays. Each event is in one increment at most, for ever, and of a
visit only one event is: frames of one visit are nearly one picture. At most one increment a day.

What was told stays told. A label that is taken back afterwards is taken out of this site's own head, not out of the cloud's: there only
the whole site can be taken out again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog

from agents.edge.learning_store import Tellable
from agents.edge.store import DAY_S, EdgeStore
from models.labels.taxonomy import Taxonomy
from pipeline import clock, ids, messages
from pipeline.clock import Clock
from pipeline.messages import Envelope, Kind, Privacy, SumIncrement
from pipeline.privacy.sums_rule import LARGEST_BYTES, LEAST_EVENTS, increment_of
from pipeline.spool import Spool, Transaction
from pipeline.sums.sums import Sums

log = structlog.get_logger("edge")


class SumTeller:
    """The increments of one site."""

    def __init__(self, site: str, spool: Spool, store: EdgeStore, time: Clock) -> None:
        self._site = site
        self._spool = spool
        self._answers = store
        self._store = store.learning
        self._clock = time

    def tell(self, space: str, tree: Taxonomy) -> SumIncrement | None:
        """The next increment, on its way to the gateway; None where a day has not passed or no label has enough events."""
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            number, at_s = self._store.last_increment(tx)
            if now_s - at_s < DAY_S:
                return None
            chosen = together([its for its in self._store.tellable(space, tx) if self._may_tell(its, tx)])
            sums, chosen = fitting(space, chosen)
            if not chosen:
                return None
            under = {
                its.path[-1]: "/".join(its.path[:-1]) for its in chosen if its.path[-1] not in tree.paths
            }
            increment = increment_of(sums, number + 1, under)
            self._store.note_increment(number + 1, [its.event for its in chosen], now_s, tx)
            self._answers.send_up(self._envelope(increment, now_s), self._site, tx)
        log.info("sums are told", number=increment.number, counts=dict(increment.counts))
        return increment

    def _may_tell(self, its: Tellable, tx: Transaction) -> bool:
        """Not where the event's level rose in the moment before."""
        known = self._answers.answer_in(its.event, tx)
        if known is None:
            return True
        levels = known.context.levels
        return levels.feature.join(levels.of(Kind.LABEL)) is not Privacy.USER_PRIVATE

    def _envelope(self, increment: SumIncrement, now_s: float) -> Envelope:
        # A key of its own: the topic keeps the last record of each key alone.
        key = f"{self._site}/sums-{increment.number}"
        return Envelope(
            event=ids.derived(now_s, key),
            kind=Kind.SUM,
            privacy=Privacy.PUBLIC,
            key=key,
            payload=messages.encode(increment),
            source=f"{key}/edge",
            time=clock.rfc3339(now_s),
            space=increment.space,
            revision=increment.number,
        )


def together(waiting: Sequence[Tellable]) -> list[Tellable]:
    """One event a visit and label, of the labels that have enough of them."""
    firsts = {(its.visit, its.path[-1]): its for its in reversed(waiting)}
    chosen = [its for its in waiting if firsts[its.visit, its.path[-1]] is its]
    labels = [its.path[-1] for its in chosen]
    return [its for its in chosen if labels.count(its.path[-1]) >= LEAST_EVENTS]


def fitting(space: str, chosen: Sequence[Tellable]) -> tuple[Sums, list[Tellable]]:
    """The sums of these events; where they are too large for one increment, without the labels that have fewest: those wait for the
    next.
    """
    kept = list(chosen)
    while True:
        sums = sums_of(space, kept)
        if not kept or len(increment_of(sums, 1).sums) <= LARGEST_BYTES:
            return sums, kept
        labels = [its.path[-1] for its in kept]
        fewest = min(set(labels), key=lambda label: (labels.count(label), label))
        kept = [its for its in kept if its.path[-1] != fewest]


def sums_of(space: str, chosen: Sequence[Tellable]) -> Sums:
    """Over the labels of these events, in the order of their names."""
    labels = sorted({its.path[-1] for its in chosen})
    dimension = len(chosen[0].vector) if chosen else 0
    sums = Sums.empty(space, dimension, labels)
    if not chosen:
        return sums
    vectors = np.stack([np.frombuffer(its.vector, np.uint8) for its in chosen])
    return sums.add(vectors, np.array([labels.index(its.path[-1]) for its in chosen]))
