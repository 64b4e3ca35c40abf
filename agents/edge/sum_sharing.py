"""Share what a site has learned, if its owner agrees: numbered increments of sums over edge-private lessons.

::

    edge_lessons (edge-private, not shared) --one a visit, >= 20 a label--> SumIncrement --gate: sums-of-many--> uplink

This is off unless `edge.share_sums` is set, since edge-private records stay at the site. Each event is in at most one
increment, and so is each visit, since the frames of a visit are nearly one picture. There is at most one increment a
day.

A shared sum stays shared. If a label is taken back afterwards, this site's own head forgets it, but the cloud's does
not: there, only the whole site can be taken out again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog

from agents.edge.label_rules import label_level
from agents.edge.learning_store import ShareableLesson
from agents.edge.store import DAY_S, EdgeStore
from models.labels.taxonomy import Taxonomy
from pipeline import clock, ids, messages
from pipeline.clock import Clock
from pipeline.messages import Envelope, Kind, Privacy, SumIncrement
from pipeline.privacy.sums_rule import LARGEST_BYTES, LEAST_EVENTS, increment_of
from pipeline.spool import Transaction
from pipeline.sums.sums import Sums

log = structlog.get_logger("edge")


class SumSharing:
    """The increments of one site."""

    def __init__(self, site: str, store: EdgeStore, time: Clock) -> None:
        self._site = site
        self._store = store
        self._lessons = store.learning
        self._clock = time

    def share(self, space: str, tree: Taxonomy) -> SumIncrement | None:
        """Send the next increment to the gateway. Return None if no label has enough events or no day has passed."""
        now_s = self._clock.now()
        with self._store.transaction() as tx:
            number, at_s = self._lessons.last_increment(tx)
            if 0 <= now_s - at_s < DAY_S:  # negative if the clock was set back
                return None
            chosen = together([lesson for lesson in self._lessons.shareable(space, tx) if self._may_share(lesson, tx)])
            sums, chosen = fitting(space, chosen)
            if not chosen:
                return None
            under = {
                lesson.path[-1]: "/".join(lesson.path[:-1]) for lesson in chosen if lesson.path[-1] not in tree.paths
            }
            increment = increment_of(sums, number + 1, under)
            self._lessons.add_increment(number + 1, [lesson.event for lesson in chosen], now_s, tx)
            self._store.send_up(self._envelope(increment, now_s), tx)
        log.info("sums were shared", number=increment.number, counts=dict(increment.counts))
        return increment

    def _may_share(self, lesson: ShareableLesson, tx: Transaction) -> bool:
        """Return False if the event's level was raised just before."""
        known = self._store.answer_in(lesson.event, tx)
        return known is None or label_level(known.context.levels) is not Privacy.USER_PRIVATE

    def _envelope(self, increment: SumIncrement, now_s: float) -> Envelope:
        # Each increment has its own key, since the topic keeps only the last record of a key.
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


def together(waiting: Sequence[ShareableLesson]) -> list[ShareableLesson]:
    """Return one lesson of each visit and label, for the labels that have enough of them."""
    firsts = {(lesson.visit, lesson.path[-1]): lesson for lesson in reversed(waiting)}
    chosen = [lesson for lesson in waiting if firsts[lesson.visit, lesson.path[-1]] is lesson]
    labels = [lesson.path[-1] for lesson in chosen]
    return [lesson for lesson in chosen if labels.count(lesson.path[-1]) >= LEAST_EVENTS]


def fitting(space: str, chosen: Sequence[ShareableLesson]) -> tuple[Sums, list[ShareableLesson]]:
    """Return the sums of these lessons, and the lessons in them.

    If the sums are too large for one increment, the labels with the fewest lessons are left for the next.
    """
    kept = list(chosen)
    while True:
        sums = sums_of(space, kept)
        if not kept or len(increment_of(sums, 1).sums) <= LARGEST_BYTES:
            return sums, kept
        labels = [lesson.path[-1] for lesson in kept]
        fewest = min(set(labels), key=lambda label: (labels.count(label), label))
        kept = [lesson for lesson in kept if lesson.path[-1] != fewest]


def sums_of(space: str, chosen: Sequence[ShareableLesson]) -> Sums:
    """Return the sums over the labels of these lessons, in the order of their names."""
    labels = sorted({lesson.path[-1] for lesson in chosen})
    dimension = len(chosen[0].vector) if chosen else 0
    sums = Sums.empty(space, dimension, labels)
    if not chosen:
        return sums
    vectors = np.stack([np.frombuffer(lesson.vector, np.uint8) for lesson in chosen])
    return sums.add(vectors, np.array([labels.index(lesson.path[-1]) for lesson in chosen]))
