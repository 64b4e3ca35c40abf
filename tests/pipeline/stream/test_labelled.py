"""Labels meet features: the join, what it remembers, what it gives up, and that no restart or repetition changes it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import NOON, NOON_S, ConsumedRecord, Died, Kafka, Table, envelope, taken

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.kafka import Fetched
from pipeline.messages import (
    Feature,
    Kind,
    Labelled,
    Privacy,
    Rank,
    Refusal,
    Vote,
    encode,
)
from pipeline.stream import labelled
from pipeline.stream.delivery import ProducerRecord
from pipeline.stream.labelled import FEATURES_KEPT, FEATURES_TOPIC, KEEP_DAYS, VOTES_MAX, Labels

CAM = "home/cam1/garden"
DAY_S = 86_400.0


def feature(event: str = "e1", data: bytes = b"\1\2\3", source: str = CAM, space: str = "s1") -> ConsumedRecord:
    payload = encode(Feature(data, "", Rank.SPECIES, 2, ("animal", "Felidae"), 0.9, 41.0))
    return taken(envelope(Kind.FEATURE, payload, source, event=event, space=space), FEATURES_TOPIC)


def label(name: str | None, by: str = "ann", revision: int = 1, event: str = "e1", source: str = CAM) -> ConsumedRecord:
    vote = Vote(name, by, time=NOON)
    return taken(envelope(Kind.LABEL, encode(vote), source, event=event, revision=revision), topics.LABELS)


class Site:
    """A handler with its Kafka and its table, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.kafka, self.table, self.now_s = Kafka(), Table(), NOON_S
        self.routed: dict[int, list[ProducerRecord]] = {}
        self.tails_read = 0
        self.restart()

    def restart(self) -> None:
        self.handler = Labels(self.table, self.kafka, lambda: self.now_s, self.tail)

    async def tail(self, partition: int) -> list[Fetched]:
        self.tails_read += 1
        return [
            Fetched(FEATURES_TOPIC, partition, offset, 0, record.key, record.value, tuple(record.headers))
            for offset, record in enumerate(self.routed.get(partition, []))
        ][-labelled.FEATURES_KEPT :]

    def take(self, *records: ConsumedRecord, partition: int = 3) -> None:
        """Take features as the router passes them on, and labels from their topic."""
        for topic, batch in itertools.groupby(records, key=lambda record: record.topic):
            if topic == FEATURES_TOPIC:
                asyncio.run(self.route(partition, [ProducerRecord(r.key, r.value, r.headers) for r in batch]))
            else:
                asyncio.run(self.handler(partition, [*batch]))

    async def route(self, partition: int, records: list[ProducerRecord]) -> None:
        self.routed.setdefault(partition, []).extend(records)
        await self.handler.features(partition, records)

    def waiting_features(self, partition: int = 3) -> set[str]:
        return {*self.handler._features[partition]}

    @property
    def published(self) -> list[Labelled]:
        return self.kafka.values(topics.LABELLED, Labelled)

    @property
    def last(self) -> dict[str, str | None]:
        """Who says what, as a reader of the compacted topic finds it."""
        best = max(self.published, key=lambda each: each.revision)
        return {vote.by: vote.label for vote in best.votes}

    @property
    def refusals(self) -> list[Refusal]:
        return self.kafka.values(topics.REJECTED, Refusal)


def test_a_label_meets_its_feature_whichever_comes_first() -> None:
    for records in ((feature(), label("Felis catus")), (label("Felis catus"), feature())):
        site = Site()
        site.take(records[0])
        assert site.published == []
        site.restart()
        site.take(records[1])
        assert site.published == [
            Labelled(
                event="e1",
                source=CAM,
                time=NOON,
                space="s1",
                data=b"\1\2\3",
                votes=(Vote("Felis catus", "ann", time=NOON),),
                revision=1,
                path=("animal", "Felidae"),
            )
        ]
        assert [record.key for record in site.kafka.topics[topics.LABELLED]] == [b"e1"]


def test_the_last_word_of_each_person_counts_and_disagreement_is_kept() -> None:
    site = Site()
    site.take(feature(), label("Felis catus"), label("Vulpes vulpes", "bob", 2), label("Lynx lynx", "ann", 3))
    assert site.last == {"ann": "Lynx lynx", "bob": "Vulpes vulpes"}


def test_an_older_word_that_comes_late_changes_nothing_and_tells_nothing() -> None:
    site = Site()
    site.take(feature(), label("Lynx lynx", revision=3))
    site.take(label("Felis catus", revision=1), label("Lynx lynx", revision=3), feature())
    assert len(site.published) == 1


def test_a_word_taken_back_leaves_an_event_without_votes_not_without_a_record() -> None:
    site = Site()
    site.take(feature(), label("Lynx lynx"))
    site.take(label(None, revision=2))
    site.take(label("Lynx lynx", revision=1))
    assert [(each.votes, each.revision) for each in site.published[1:]] == [((), 2)]


def test_a_label_that_meets_no_feature_is_told_after_a_week() -> None:
    site = Site()
    site.take(label("Felis catus"))
    site.now_s += KEEP_DAYS * DAY_S + 1
    site.restart()
    site.take(feature("other"))
    assert [each.reason for each in site.refusals] == ["label-without-feature"]
    assert "event e1" in site.refusals[0].detail
    assert set(site.table.data) == set()
    site.take(feature("another"))
    assert len(site.refusals) == 1


def test_a_feature_that_nobody_labels_is_forgotten_quietly_and_joins_when_it_comes_again() -> None:
    site = Site()
    site.take(feature())
    site.now_s += KEEP_DAYS * DAY_S + 1
    site.take(feature("other"))
    assert (site.waiting_features(), site.refusals) == ({f"{CAM}|other"}, [])
    site.take(feature(), label("Felis catus"))
    assert site.last == {"ann": "Felis catus"}


def test_features_without_a_label_are_bounded_and_labelled_events_are_not_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert FEATURES_KEPT > 1000
    monkeypatch.setattr(labelled, "FEATURES_KEPT", 3)
    site = Site()
    site.take(feature("e0"), label("Felis catus", event="e0"), label("Lynx lynx", event="lonely"))
    for number in range(1, 6):
        site.take(feature(f"e{number}"))
    kept = [key.partition("|")[2] for key in (*site.table.data, *site.waiting_features())]
    assert sorted(kept) == ["e0", "e3", "e4", "e5", "lonely"]


def test_labels_without_a_feature_are_bounded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "LABELS_KEPT", 2)
    site = Site()
    site.take(*(label("Lynx lynx", event=f"e{number}") for number in range(4)), feature("f"))
    assert [each.reason for each in site.refusals] == ["label-without-feature"] * 2
    assert sorted(key.partition("|")[2] for key in site.table.data) == ["e2", "e3"]


def test_partitions_do_not_push_out_each_others_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "FEATURES_KEPT", 1)
    site = Site()
    site.take(feature("a"), partition=1)
    site.take(feature("b"), partition=2)
    assert [len(site.waiting_features(partition)) for partition in (1, 2)] == [1, 1]


def test_another_source_that_claims_an_event_joins_nothing_of_it() -> None:
    site = Site()
    site.take(feature(), label("Lynx lynx", source="barn/cam1/garden"))
    assert site.published == []


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        ("malformed", taken(envelope(Kind.LABEL, b"nonsense"), topics.LABELS)),
        ("label-invalid", label("")),
        ("label-invalid", label("Lynx lynx", by="")),
        ("label-invalid", label("L" * 201)),
        ("kind-not-taken", taken(envelope(Kind.RESULT, b""), topics.LABELS)),
        ("not-public", taken(envelope(Kind.LABEL, b"", privacy=Privacy.EDGE_PRIVATE, sealed_by="k"), topics.LABELS)),
        ("privacy-missing", ConsumedRecord(topics.LABELS, 3, 0, 0, b"home/cam1", b"", [])),
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused_and_the_rest_of_the_batch_is_joined(reason: str, record: ConsumedRecord) -> None:
    with pytest.raises(Rejected) as caught:
        labelled.read_label(record)
    assert caught.value.reason == reason
    site = Site()
    site.take(feature("good"), record, label("Lynx lynx", event="good"))
    assert [each.reason for each in site.refusals] == [reason]
    assert [each.event for each in site.published] == ["good"]


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("malformed", taken(envelope(Kind.FEATURE, b"{}", event="bad", space="s1"), FEATURES_TOPIC)),
        ("malformed", feature("bad", data=bytes(70_000))),
        ("space-missing", feature("bad", space="")),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_bad_feature_is_refused_once_a_label_meets_it_and_others_are_joined(
    reason: str, bad: ConsumedRecord, first: int
) -> None:
    site = Site()
    site.take(bad, feature("good"))
    assert site.refusals == []
    both = [label("Lynx lynx", event="bad"), label("Lynx lynx", event="good")]
    site.take(both[first], both[1 - first])
    assert [each.reason for each in site.refusals] == [reason]
    assert [each.event for each in site.published] == ["good"]
    site.take(feature("bad"))
    assert {each.event for each in site.published} == {"good", "bad"}


def test_features_without_a_label_are_neither_decoded_nor_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "decode", lambda *_: pytest.fail("decoded"))
    site = Site()
    site.take(*(feature(f"e{number}") for number in range(5)))
    assert (site.kafka.topics, site.table.data, site.tails_read) == ({}, {}, 0)


def test_after_a_start_the_features_are_read_from_kafka_once_and_only_if_an_event_lacks_one() -> None:
    site = Site()
    site.take(feature("e1"), feature("e2", data=b"first"))
    site.restart()
    site.take(feature("e2", data=b"second"), feature("e3"), label("Lynx lynx", event="e3"))
    assert site.tails_read == 0
    site.take(label("Lynx lynx", event="e1"), label("Lynx lynx", event="e2"), label("Lynx lynx", event="none"))
    site.take(label("Lynx lynx", event="none too"))
    assert site.tails_read == 1
    assert {each.event: each.data for each in site.published if each.event == "e2"} == {"e2": b"first"}
    assert {each.event for each in site.published} == {"e1", "e2", "e3"}


def test_foreign_records_among_the_features_in_kafka_are_passed_over() -> None:
    site = Site()
    site.take(feature())
    site.routed[3][:0] = [ProducerRecord(None, b"nonsense"), ProducerRecord(b"k", None, [("kind", b"feature")])]
    site.restart()
    site.take(label("Felis catus"))
    assert (site.last, site.refusals) == ({"ann": "Felis catus"}, [])


def test_features_that_an_earlier_release_stored_in_the_table_still_meet_their_labels() -> None:
    site = Site()
    stored = labelled.StoredFeature(NOON, "s1", b"\1", ("animal",))
    site.table.data[f"{CAM}|e1"] = labelled.pack(labelled.JoinedEvent(3, NOON_S, stored))
    site.take(feature("e1", data=b"again"), label("Felis catus"))
    assert [each.data for each in site.published] == [b"\1"]


def test_an_event_that_a_crowd_labels_stays_small() -> None:
    site = Site()
    site.take(feature(), *(label("Lynx lynx", f"p{n}", n) for n in range(1, VOTES_MAX + 3)))
    assert len(site.last) == VOTES_MAX
    assert [each.reason for each in site.refusals] == ["too-many-votes"] * 2


@pytest.mark.parametrize("where", [topics.LABELLED, topics.REJECTED, "changelog"])
def test_a_batch_that_died_half_way_tells_the_same_when_it_comes_again(where: str) -> None:
    site = Site()
    site.take(feature())
    site.kafka.dies_at = where
    batch = (label("Lynx lynx"), label(""))
    with pytest.raises(Died):
        site.take(*batch)
    site.kafka.dies_at = ""
    site.take(*batch)
    assert site.last == {"ann": "Lynx lynx"}
    assert {each.revision for each in site.published} == {1}


HISTORY = st.lists(st.tuples(st.sampled_from(["ann", "bob", "eve"]), st.sampled_from(["cat", "fox", None])), max_size=8)


STEPS = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["", "kafka", "table", "commit", "view"])), max_size=8)


@pytest.mark.slow
@given(history=HISTORY, steps=STEPS)
def test_any_cut_into_batches_with_repetitions_kills_and_recoveries_ends_in_the_same_state(
    history: Sequence[tuple[str, str | None]], steps: Sequence[tuple[int, str]]
) -> None:
    records = [feature(), *(label(name, by, n) for n, (by, name) in enumerate(history, start=1))]
    site, committed = Site(), 0
    for size, fails in [*steps, (len(records), "")]:
        site.kafka.dies_at = {"kafka": topics.LABELLED, "table": "changelog"}.get(fails, "")
        batch = records[committed : committed + size]
        try:
            site.take(*batch)
        except Died:
            site.restart()
            continue
        if fails == "view":
            asyncio.run(site.handler.forget_view())
        if fails != "commit":  # else it was lost, and all of it comes again
            committed += len(batch)
    if history:
        assert site.last == {by: name for by, name in dict(history).items() if name is not None}
    by_revision: dict[int, Labelled] = {}
    for each in site.published:
        assert by_revision.setdefault(each.revision, each) == each
