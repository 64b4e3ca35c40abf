"""Labelled features: an event's feature and all that people say of it, labelled anew with each change.

Stands between the router and `topics.LABELLED`, which is compacted: a reader finds the last state of each event for
ever. Feature and label of an event share key and partition; a Faust table keeps what came first until the other comes::

    features.public # feature ───────────┐
    labels #  ann 1: cat, bob 2: fox, ann 1 ─> Labels (table: joined) ─> labelled #  {ann: cat}, {ann: cat, bob: fox}
                                                    └─> rejected: label-without-feature

What is known of an event is a join: its first feature, and of each person the vote of the highest revision. So
neither repetition nor a restart changes it, and `Labelled.revision`, the sum over the persons' revisions, grows with every
change and names one state only. A vote that is taken back stays as such: an older one does not bring it to life again.

A feature waits `KEEP_DAYS` days for a label, at most `FEATURES_KEPT` of them a partition. A site's edge sends it again beside
each label, so a later label finds it, too. A label waits as long, as many of them; then it is labelled as refused. Events with both stay.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import (
    Feature,
    Kind,
    Labelled,
    Malformed,
    Privacy,
    Refusal,
    Vote,
    decode,
    encode,
)
from pipeline.records import Facts, read_headers
from pipeline.stream.batches import store_many
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, rejection
from pipeline.topics import Header

DAY_S: Final = 86_400.0
KEEP_DAYS: Final = 7
"""A site that was cut off for days still finds the other half here."""
FEATURES_KEPT: Final = 4096
"""Without a label, a partition: some 3 MB of a worker's memory, and as much of the changelog."""
LABELS_KEPT: Final = 4096
"""Without a feature, a partition."""
VOTES_MAX: Final = 64
"""Of one event: more people do not look at one picture, but a broken client may."""
TEXT_MAX: Final = 200
"""Characters of a label, a pseudonym, a common name."""
FEATURE_MAX_BYTES: Final = 64 << 10

LABELS_TOPIC: Final = topics.LABELS
FEATURES_TOPIC: Final = topics.ROUTED[Privacy.PUBLIC]


class StoredFeature(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a feature."""

    time: str
    space: str
    data: bytes
    path: tuple[str, ...]


class RevisedVote(msgspec.Struct, frozen=True, array_like=True):
    """One person's last vote, and the label's revision that brought it."""

    revision: int
    vote: Vote


class JoinedEvent(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one event."""

    partition: int
    since_s: float
    """When its first record came."""
    feature: StoredFeature | None = None
    votes: tuple[RevisedVote, ...] = ()
    """By pseudonym."""

    def with_feature(self, sent: StoredFeature) -> JoinedEvent:
        """The first one stays: what it was labelled for is what is learned."""
        return self if self.feature else msgspec.structs.replace(self, feature=sent)

    def with_vote(self, vote: RevisedVote) -> JoinedEvent:
        """The highest revision of each person stays.

        Raises
        ------
        Rejected
            ``too-many-votes``.
        """
        votes = {known.vote.by: known for known in self.votes}
        known = votes.get(vote.vote.by)
        if known and known.revision >= vote.revision:
            return self
        votes[vote.vote.by] = vote
        if len(votes) > VOTES_MAX:
            raise Rejected(
                "too-many-votes", f"more than {VOTES_MAX} people labelled one event; this one is not kept"
            )
        return msgspec.structs.replace(self, votes=tuple(votes[by] for by in sorted(votes)))

    @property
    def is_whole(self) -> bool:
        return self.feature is not None and bool(self.votes)

    def labelled(self, source: str, event: str) -> Labelled:
        """What readers get; an event whose votes were all taken back has no votes left."""
        assert self.feature is not None
        return Labelled(
            event=event,
            source=source,
            time=self.feature.time,
            space=self.feature.space,
            data=self.feature.data,
            votes=tuple(vote.vote for vote in self.votes if vote.vote.label is not None),
            revision=sum(vote.revision for vote in self.votes),
            path=self.feature.path,
        )


def key_of(source: str, event: str) -> str:
    """Of the table: an event that two sources claim is two events."""
    return f"{source}|{event}"


def pack(joined: JoinedEvent) -> str:
    """A row of the table, which holds JSON."""
    return base64.b64encode(msgspec.msgpack.encode(joined)).decode()


def unpack(row: str) -> JoinedEvent:
    return msgspec.msgpack.decode(base64.b64decode(row), type=JoinedEvent)


def read(record: ConsumedRecord) -> tuple[Facts, StoredFeature | RevisedVote]:
    """What a record of either topic says.

    Raises
    ------
    Rejected
        As `records.read_headers`; ``not-public``, ``kind-not-taken``, ``malformed``, ``space-missing``, ``label-invalid``.
    """
    facts = read_headers(record.headers)
    if facts.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record on {record.topic} says {facts.privacy}")
    wanted = Kind.LABEL if record.topic == LABELS_TOPIC else Kind.FEATURE
    if facts.kind is not wanted:
        raise Rejected("kind-not-taken", f"a record on {record.topic} says {facts.kind}, not {wanted}")
    try:
        if wanted is Kind.LABEL:
            return facts, RevisedVote(
                facts.revision, _checked(decode(Vote, record.value or b""), facts.source)
            )
        feature = decode(Feature, record.value or b"")
    except Malformed:
        raise Rejected(
            "malformed",
            f"{facts.source}: not the {'Vote' if wanted is Kind.LABEL else 'Feature'} it should be",
        ) from None  # no more: errors may quote the content
    if not facts.space:
        raise Rejected("space-missing", f"{facts.source}: a feature names the space that it lives in")
    if len(feature.data) > FEATURE_MAX_BYTES:
        raise Rejected("malformed", f"{facts.source}: a feature of more than {FEATURE_MAX_BYTES} bytes")
    return facts, StoredFeature(facts.time, facts.space, feature.data, feature.path)


def _checked(vote: Vote, source: str) -> Vote:
    texts = (vote.label or "", vote.by, vote.under, vote.english, vote.time)
    if not vote.by or vote.label == "" or any(len(text) > TEXT_MAX for text in texts):
        raise Rejected(
            "label-invalid",
            f"{source}: a label has a name and a pseudonym of who gave it, of at most {TEXT_MAX} characters each",
        )
    return vote


class Labels:
    """Handler of `topics.LABELS` and of the public features."""

    def __init__(self, table: Any, deliver: Deliver, now: Callable[[], float]) -> None:
        self._table = table
        self._deliver = deliver
        self._now = now
        self._waiting: dict[int, dict[str, JoinedEvent]] | None = None
        """By partition: the events that lack one half, the oldest first; None: to be read from the table."""
        self._joining = asyncio.Lock()
        """A partition's features and labels are handled at the same time; they share the table."""

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        async with self._joining:
            await self._join(partition, records)

    async def forget_view(self) -> None:
        """Faust has changed the table behind our back (recovery): read it again before the next record."""
        self._waiting = None

    async def _join(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        waiting = self._known_waiting().setdefault(partition, {})
        self._waiting, known_waiting = None, self._waiting  # until the table holds what is about to change
        refused: list[ProducerRecord] = []
        changed: dict[str, JoinedEvent] = {}
        labelled: dict[str, Labelled] = {}
        for record in records:
            try:
                facts, half = read(record)
                key = key_of(facts.source, facts.event)
                before = changed.get(key) or self._found(key) or JoinedEvent(partition, self._now())
                after = before.with_vote(half) if isinstance(half, RevisedVote) else before.with_feature(half)
            except Rejected as error:
                refused.append(rejection(record, error.reason, str(error), self._now()))
                continue
            if after != before:
                changed[key] = after
                if after.is_whole:
                    labelled[key] = after.labelled(facts.source, facts.event)
        rows: dict[str, str | None] = {key: pack(joined) for key, joined in changed.items()}
        for key, joined in changed.items():
            if joined.is_whole:
                waiting.pop(key, None)
            else:
                waiting[key] = joined  # in the place that it has
        for key in outdated(waiting, self._now()):
            if waiting.pop(key).votes:
                refused.append(_missed(key, partition, self._now()))
            rows[key] = None
        if refused:
            await self._deliver(topics.REJECTED, partition, refused)
        if labelled:
            out = [
                ProducerRecord(labelled.event.encode(), encode(labelled)) for labelled in labelled.values()
            ]
            await self._deliver(topics.LABELLED, partition, out)
        if rows:
            await store_many(self._deliver, self._table, partition, rows)
        self._waiting = known_waiting

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
    """Keys of what has waited long enough, and of what is too much; `waiting` has the oldest first."""
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


def _missed(key: str, partition: int, now_s: float) -> ProducerRecord:
    source, _, event = key.partition("|")
    refusal = Refusal(
        reason="label-without-feature",
        detail=f"{source}, event {event}: labelled, but no public feature of it came (in {KEEP_DAYS} days, or before {LABELS_KEPT} later ones); "
        "look whether its stream's features are public, then label it again",
        topic=f"{LABELS_TOPIC}/{partition}",
        size_bytes=0,
        sha256=hashlib.sha256(b"").hexdigest(),
        time=clock.rfc3339(now_s),
    )
    return ProducerRecord(None, encode(refusal), [(Header.REASON, refusal.reason.encode())])
