"""Labelled features: joins an event's feature with people's labels, and publishes the pair anew at each change.

The router writes the input; the output, `topics.LABELLED`, is compacted, so a reader always finds each event's last
state. An event's feature and labels share key and partition. A Faust table keeps the first half until the other comes::

    features.public # feature ───────────┐
    labels #  ann 1: cat, bob 2: fox, ann 1 ─> Labels (table: joined) ─> labelled #  {ann: cat}, {ann: cat, bob: fox}
                                                    └─> rejected: label-without-feature

The state of an event is a join: its first feature, and each person's vote of the highest revision. So neither
repetition nor a restart changes it. `Labelled.revision` is the sum over the persons' revisions: it grows with every
change and names exactly one state. A withdrawn vote is remembered, so an older vote does not revive it.

A feature waits `KEEP_DAYS` days for a label; a partition keeps at most `FEATURES_KEPT` such features. An edge sends the
feature again beside each label, so a later label finds it, too. A label waits as long, at most `LABELS_KEPT` of them;
then it is refused. Events with both halves stay.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.messages import (
    Feature,
    Kind,
    Labelled,
    Malformed,
    Privacy,
    Vote,
    decode,
    encode,
)
from pipeline.records import Facts, read_headers
from pipeline.stream.batches import store_many
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, refusal_record, rejection

DAY_S: Final = 86_400.0
KEEP_DAYS: Final = 7
"""The other half of an event still matches if its site was cut off for days."""
FEATURES_KEPT: Final = 4096
"""Features without a label in a partition: some 3 MB of a worker's memory, and as much in the changelog."""
LABELS_KEPT: Final = 4096
"""Labels without a feature in a partition."""
VOTES_MAX: Final = 64
"""Votes on one event: fewer people look at one picture; more votes come from a broken client."""
TEXT_MAX: Final = 200
"""Characters of a label, a pseudonym or a common name."""
FEATURE_MAX_BYTES: Final = 64 << 10

LABELS_TOPIC: Final = topics.LABELS
FEATURES_TOPIC: Final = topics.ROUTED[Privacy.PUBLIC]


class StoredFeature(msgspec.Struct, frozen=True, array_like=True):
    """The stored part of a feature."""

    time: str
    space: str
    data: bytes
    path: tuple[str, ...]


class RevisedVote(msgspec.Struct, frozen=True, array_like=True):
    """One person's latest vote, and the revision of its label."""

    revision: int
    vote: Vote


class JoinedEvent(msgspec.Struct, frozen=True, array_like=True):
    """The state of one event."""

    partition: int
    since_s: float
    """Time at which the first record arrived."""
    feature: StoredFeature | None = None
    votes: tuple[RevisedVote, ...] = ()
    """Votes, in the order of the pseudonyms."""

    def with_feature(self, feature: StoredFeature) -> JoinedEvent:
        """Add a feature, unless there is one: people labelled the first, so the first is learned from."""
        return self if self.feature else msgspec.structs.replace(self, feature=feature)

    def with_vote(self, revised: RevisedVote) -> JoinedEvent:
        """Add a vote, unless the person has one of the same or a higher revision.

        Raises
        ------
        Rejected
            ``too-many-votes``.
        """
        votes = {known.vote.by: known for known in self.votes}
        known = votes.get(revised.vote.by)
        if known and known.revision >= revised.revision:
            return self
        votes[revised.vote.by] = revised
        if len(votes) > VOTES_MAX:
            raise Rejected("too-many-votes", f"more than {VOTES_MAX} people labelled one event; this label is not kept")
        return msgspec.structs.replace(self, votes=tuple(votes[by] for by in sorted(votes)))

    @property
    def is_whole(self) -> bool:
        """Return whether the event has a feature and a vote."""
        return self.feature is not None and bool(self.votes)

    def labelled(self, source: str, event: str) -> Labelled:
        """Return the message for readers; withdrawn votes are left out."""
        assert self.feature is not None
        return Labelled(
            event=event,
            source=source,
            time=self.feature.time,
            space=self.feature.space,
            data=self.feature.data,
            votes=tuple(revised.vote for revised in self.votes if revised.vote.label is not None),
            revision=sum(revised.revision for revised in self.votes),
            path=self.feature.path,
        )


def key_of(source: str, event: str) -> str:
    """Return the event's key in the table: an event that two sources claim is two events."""
    return f"{source}|{event}"


def pack(joined: JoinedEvent) -> str:
    """Return an event as a row of the table, which holds JSON."""
    return base64.b64encode(msgspec.msgpack.encode(joined)).decode()


def unpack(row: str) -> JoinedEvent:
    """Return the event of a row."""
    return msgspec.msgpack.decode(base64.b64decode(row), type=JoinedEvent)


def read(record: ConsumedRecord) -> tuple[Facts, StoredFeature | RevisedVote]:
    """Read a record of either topic: return its facts, and a feature or a vote.

    Raises
    ------
    Rejected
        With the reasons of `records.read_headers`; ``not-public``, ``kind-not-taken``, ``malformed``,
        ``space-missing``, ``label-invalid``.
    """
    facts = read_headers(record.headers)
    if facts.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record on {record.topic} is {facts.privacy}")
    wanted = Kind.LABEL if record.topic == LABELS_TOPIC else Kind.FEATURE
    if facts.kind is not wanted:
        raise Rejected("kind-not-taken", f"a record on {record.topic} is a {facts.kind}, not a {wanted}")
    try:
        if wanted is Kind.LABEL:
            return facts, RevisedVote(facts.revision, _checked(decode(Vote, record.value or b""), facts.source))
        feature = decode(Feature, record.value or b"")
    except Malformed:
        # The decoder's own error may quote the content, so the reason says no more.
        expected = "Vote" if wanted is Kind.LABEL else "Feature"
        raise Rejected("malformed", f"{facts.source}: the value is not a {expected}") from None
    if not facts.space:
        raise Rejected("space-missing", f"{facts.source}: a feature must name its feature space")
    if len(feature.data) > FEATURE_MAX_BYTES:
        raise Rejected("malformed", f"{facts.source}: a feature of more than {FEATURE_MAX_BYTES} bytes")
    return facts, StoredFeature(facts.time, facts.space, feature.data, feature.path)


def _checked(vote: Vote, source: str) -> Vote:
    texts = (vote.label or "", vote.by, vote.under, vote.english, vote.time)
    if not vote.by or vote.label == "" or any(len(text) > TEXT_MAX for text in texts):
        raise Rejected(
            "label-invalid",
            f"{source}: a label needs a name and its giver's pseudonym, of at most {TEXT_MAX} characters each",
        )
    return vote


class Labels:
    """Handler of `topics.LABELS` and of the public features."""

    def __init__(self, table: Any, deliver: Deliver, now: Callable[[], float]) -> None:
        self._table = table
        self._deliver = deliver
        self._now = now
        self._waiting: dict[int, dict[str, JoinedEvent]] | None = None
        """Events that lack one half, by partition, the oldest first. None until they are read from the table."""
        self._joining = asyncio.Lock()
        """A partition's features and labels are handled at the same time and share the table."""

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        """Join a batch of features or labels, and publish the events that are whole now."""
        async with self._joining:
            await self._join(partition, records)

    async def forget_view(self) -> None:
        """Forget the waiting events: Faust has recovered the table, which is read again before the next record."""
        self._waiting = None

    async def _join(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        waiting = self._known_waiting().setdefault(partition, {})
        self._waiting, known_waiting = None, self._waiting  # valid again once the table holds the changes
        changed, rejections = self._changes(partition, records)
        rows: dict[str, str | None] = {key: pack(joined) for key, joined in changed.items()}
        whole: list[Labelled] = []
        for key, joined in changed.items():
            if joined.is_whole:
                waiting.pop(key, None)
                source, _, event = key.partition("|")
                whole.append(joined.labelled(source, event))
            else:
                waiting[key] = joined  # a known event keeps its place
        for key in outdated(waiting, self._now()):
            if waiting.pop(key).votes:
                rejections.append(_label_without_feature(key, partition, self._now()))
            rows[key] = None
        if rejections:
            await self._deliver(topics.REJECTED, partition, rejections)
        if whole:
            out = [ProducerRecord(labelled.event.encode(), encode(labelled)) for labelled in whole]
            await self._deliver(topics.LABELLED, partition, out)
        if rows:
            await store_many(self._deliver, self._table, partition, rows)
        self._waiting = known_waiting

    def _changes(
        self, partition: int, records: Sequence[ConsumedRecord]
    ) -> tuple[dict[str, JoinedEvent], list[ProducerRecord]]:
        """Return the changed events by key, and the rejections of unreadable records."""
        changed: dict[str, JoinedEvent] = {}
        rejections: list[ProducerRecord] = []
        for record in records:
            try:
                facts, half = read(record)
                key = key_of(facts.source, facts.event)
                before = changed.get(key) or self._found(key) or JoinedEvent(partition, self._now())
                after = before.with_vote(half) if isinstance(half, RevisedVote) else before.with_feature(half)
            except Rejected as error:
                rejections.append(rejection(record, error.reason, str(error), self._now()))
                continue
            if after != before:
                changed[key] = after
        return changed, rejections

    def _found(self, key: str) -> JoinedEvent | None:
        row = self._table.data.get(key)
        return unpack(row) if row else None

    def _known_waiting(self) -> dict[int, dict[str, JoinedEvent]]:
        if self._waiting is None:
            self._waiting = {}
            found = [(key, unpack(row)) for key, row in self._table.data.items()]
            for key, joined in sorted(found, key=lambda row: row[1].since_s):
                if not joined.is_whole:
                    self._waiting.setdefault(joined.partition, {})[key] = joined
        return self._waiting


def outdated(waiting: dict[str, JoinedEvent], now_s: float) -> list[str]:
    """Return the keys of events that waited too long, or are too many; `waiting` has the oldest first."""
    end_s = now_s - KEEP_DAYS * DAY_S
    old = [key for key, _ in itertools.takewhile(lambda row: row[1].since_s < end_s, waiting.items())]
    if len(waiting) <= min(FEATURES_KEPT, LABELS_KEPT):
        return old
    features = [key for key, joined in waiting.items() if not joined.votes]
    labels = [key for key, joined in waiting.items() if joined.votes]
    excess = [
        *features[: max(0, len(features) - FEATURES_KEPT)],
        *labels[: max(0, len(labels) - LABELS_KEPT)],
    ]
    return [*dict.fromkeys([*old, *excess])]


def _label_without_feature(key: str, partition: int, now_s: float) -> ProducerRecord:
    source, _, event = key.partition("|")
    detail = (
        f"{source}, event {event}: labelled, but no public feature of it arrived (within {KEEP_DAYS} days, or before "
        f"{LABELS_KEPT} later labels); check that the features of its stream are public, then label it again"
    )
    return refusal_record("label-without-feature", detail, f"{LABELS_TOPIC}/{partition}", b"", now_s)
