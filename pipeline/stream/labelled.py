"""Labelled features: joins an event's feature with people's labels, and publishes the pair anew at each change.

The router writes the input; the output, `topics.LABELLED`, is compacted, so a reader always finds each event's last
state. An event's feature and labels share key and partition. A Faust table keeps the events that have a label::

    router ──> features.public # feature ────┐
    labels #  ann 1: cat, bob 2: fox, ann 1 ─> Labels (table: joined) ─> labelled #  {ann: cat}, {ann: cat, bob: fox}
                                                    └─> rejected: label-without-feature

The state of an event is a join: its first feature, and each person's vote of the highest revision. So neither
repetition nor a restart changes it. `Labelled.revision` is the sum over the persons' revisions: it grows with every
change and names exactly one state. A withdrawn vote is remembered, so an older vote does not revive it.

Few features ever meet a label. So the router passes features on after Kafka has stored them, and they wait undecoded in
memory: the last `FEATURES_KEPT` of each partition, for `KEEP_DAYS` days. After a start, the first event that lacks its
feature makes the handler read the last features of that partition from Kafka again. An edge sends the feature again
beside each label, so a later label finds it, too. A label waits as long, at most `LABELS_KEPT` of them; then it is
refused. Events with both halves stay.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.kafka import Fetched
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
from pipeline.records import Facts, Headers, read_headers
from pipeline.stream.batches import store_many
from pipeline.stream.delivery import ConsumedRecord, Deliver, ProducerRecord, refusal_record, rejection
from pipeline.topics import Header

DAY_S: Final = 86_400.0
KEEP_DAYS: Final = 7
"""The other half of an event still matches if its site was cut off for days."""
FEATURES_KEPT: Final = 4096
"""Features without a label in a partition: some 3 MB of a worker's memory."""
LABELS_KEPT: Final = 4096
"""Labels without a feature in a partition."""
VOTES_MAX: Final = 64
"""Votes on one event: fewer people look at one picture; more votes come from a broken client."""
TEXT_MAX: Final = 200
"""Characters of a label, a pseudonym or a common name."""
FEATURE_MAX_BYTES: Final = 64 << 10

LABELS_TOPIC: Final = topics.LABELS
FEATURES_TOPIC: Final = topics.ROUTED[Privacy.PUBLIC]
_ID, _SOURCE, _TIME, _SPACE = Header.ID, Header.SOURCE, Header.TIME, Header.SPACE


class WaitingFeature(NamedTuple):
    """A feature that no label has met, undecoded."""

    since_s: float
    time: bytes
    space: bytes
    value: bytes


Features = OrderedDict[str, WaitingFeature]
"""The waiting features of a partition by their events' keys, the oldest first."""

Tail = Callable[[int], Awaitable[Sequence[Fetched]]]
"""Returns the last `FEATURES_KEPT` records of a partition of the public features."""


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


def read_label(record: ConsumedRecord) -> tuple[str, RevisedVote]:
    """Read a record of `topics.LABELS`: return the event's key and the vote.

    Raises
    ------
    Rejected
        With the reasons of `records.read_headers`; ``not-public``, ``kind-not-taken``, ``malformed``,
        ``label-invalid``.
    """
    facts = _public(record.headers, Kind.LABEL)
    try:
        vote = decode(Vote, record.value or b"")
    except Malformed:
        # The decoder's own error may quote the content, so the reason says no more.
        raise Rejected("malformed", f"{facts.source}: the value is not a Vote") from None
    return key_of(facts.source, facts.event), RevisedVote(facts.revision, _checked(vote, facts.source))


def read_feature(key: str, waiting: WaitingFeature) -> StoredFeature:
    """Decode a feature that meets a label.

    Raises
    ------
    Rejected
        ``malformed``, ``space-missing``.
    """
    source = key.partition("|")[0]
    if not waiting.space:
        raise Rejected("space-missing", f"{source}: a feature must name its feature space")
    try:
        feature = decode(Feature, waiting.value)
    except Malformed:
        raise Rejected("malformed", f"{source}: the value is not a Feature") from None
    if len(feature.data) > FEATURE_MAX_BYTES:
        raise Rejected("malformed", f"{source}: a feature of more than {FEATURE_MAX_BYTES} bytes")
    return StoredFeature(waiting.time.decode(), waiting.space.decode(), feature.data, feature.path)


def _public(headers: Headers, wanted: Kind) -> Facts:
    facts = read_headers(headers)
    if facts.privacy is not Privacy.PUBLIC:
        raise Rejected("not-public", f"a record beside public ones is {facts.privacy}")
    if facts.kind is not wanted:
        raise Rejected("kind-not-taken", f"a {facts.kind}, not a {wanted}")
    return facts


def _checked(vote: Vote, source: str) -> Vote:
    texts = (vote.label or "", vote.by, vote.under, vote.english, vote.time)
    if not vote.by or vote.label == "" or any(len(text) > TEXT_MAX for text in texts):
        raise Rejected(
            "label-invalid",
            f"{source}: a label needs a name and its giver's pseudonym, of at most {TEXT_MAX} characters each",
        )
    return vote


class Labels:
    """Handler of `topics.LABELS`, and of the public features that the router passes on."""

    def __init__(self, table: Any, deliver: Deliver, now: Callable[[], float], tail: Tail) -> None:
        self._table = table
        self._deliver = deliver
        self._now = now
        self._tail = tail
        self._waiting: dict[int, dict[str, JoinedEvent]] | None = None
        """Events that lack one half, by partition, the oldest first. None until they are read from the table."""
        self._features: defaultdict[int, Features] = defaultdict(OrderedDict)
        """Undecoded features, by partition and event, the oldest first."""
        self._complete: set[int] = set()
        """Partitions whose features from before the start are known, too."""
        self._joining = asyncio.Lock()
        """A partition's features and labels are handled at the same time and share the table."""

    async def __call__(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        """Join a batch of labels, and publish the events that are whole now."""
        async with self._joining:
            changed: dict[str, JoinedEvent] = {}
            rejections: list[ProducerRecord] = []
            for record in records:
                try:
                    key, vote = read_label(record)
                    before = changed.get(key) or self._found(key) or JoinedEvent(partition, self._now())
                    after = before.with_vote(vote)
                except Rejected as error:
                    rejections.append(rejection(record, error.reason, str(error), self._now()))
                    continue
                if after != before:
                    changed[key] = after
            await self._join(partition, changed, rejections)

    async def features(self, partition: int, records: Sequence[ProducerRecord]) -> None:
        """Take the public features of a batch of the router, and publish the events that are whole now."""
        async with self._joining:
            remember(self._features[partition], records, self._now())
            await self._join(partition, {}, [])

    async def forget_view(self) -> None:
        """Forget what waits: Faust has recovered the table, which is read again before the next record."""
        self._waiting = None
        self._features.clear()
        self._complete.clear()

    async def _join(self, partition: int, changed: dict[str, JoinedEvent], rejections: list[ProducerRecord]) -> None:
        waiting = self._known_waiting().setdefault(partition, {})
        self._waiting, known_waiting = None, self._waiting  # valid again once the table holds the changes
        lacking = {key for key, joined in (*waiting.items(), *changed.items()) if joined.feature is None}
        if partition not in self._complete and not lacking <= self._features[partition].keys():
            self._features[partition] = await self._with_tail(partition)
            self._complete.add(partition)
        features = self._features[partition]
        met = lacking & features.keys()
        for key in sorted(met):
            try:
                changed[key] = (changed.get(key) or waiting[key]).with_feature(read_feature(key, features[key]))
            except Rejected as error:
                place, value = f"{FEATURES_TOPIC}/{partition}", features[key].value
                rejections.append(refusal_record(error.reason, str(error), place, value, self._now()))
        await self._publish(partition, waiting, changed, rejections)
        for key in met:
            del features[key]
        self._waiting = known_waiting

    async def _with_tail(self, partition: int) -> Features:
        """Return the waiting features, with those that were routed before the start."""
        features: Features = OrderedDict()
        records = await self._tail(partition)
        remember(features, [record for record in records if _is_public_feature(record)], self._now())
        for key, feature in self._features[partition].items():
            features.setdefault(key, feature)
        return features

    async def _publish(
        self,
        partition: int,
        waiting: dict[str, JoinedEvent],
        changed: dict[str, JoinedEvent],
        rejections: list[ProducerRecord],
    ) -> None:
        """Publish the events that are whole now, refuse the labels that waited too long, and store the changes."""
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


def remember(features: Features, records: Iterable[ProducerRecord | Fetched], now_s: float) -> None:
    """Add public features whose headers were judged; of two features of an event the first counts."""
    for record in records:  # every public feature passes here
        head = dict(record.headers)
        key = (head[_SOURCE] + b"|" + head[_ID]).decode()  # see `key_of`
        if key not in features:
            features[key] = WaitingFeature._make((now_s, head[_TIME], head.get(_SPACE, b""), record.value or b""))
    end_s = now_s - KEEP_DAYS * DAY_S
    while features and (len(features) > FEATURES_KEPT or next(iter(features.values())).since_s < end_s):
        features.popitem(last=False)


def _is_public_feature(record: Fetched) -> bool:
    try:
        _public(record.headers, Kind.FEATURE)
    except Rejected:
        return False
    return True


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
