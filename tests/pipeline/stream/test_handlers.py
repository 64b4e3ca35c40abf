"""Results and summaries: what is told, what is remembered, and that a batch which dies half-way loses nothing."""

from __future__ import annotations

import asyncio
import functools
import operator
from zoneinfo import ZoneInfo

import pytest
from stream_samples import (
    NOON,
    NOON_S,
    ConsumedRecord,
    Died,
    Kafka,
    Table,
    envelope,
    report,
    reported,
    result,
    summarised,
    taken,
)

from pipeline import topics
from pipeline.errors import Rejected
from pipeline.messages import Envelope, Kind, Privacy, Refusal, decode, encode
from pipeline.records import HourlySummary
from pipeline.stream import results, summaries
from pipeline.stream.counts import Count
from pipeline.stream.results import Answer, Results
from pipeline.stream.summaries import Summaries


def counting(kafka: Kafka, table: Table, published: list[Answer]) -> Results:
    return Results(table, kafka, ZoneInfo("UTC"), lambda: NOON_S, published.extend)


def counts(kafka: Kafka) -> dict[str, int]:
    return {count.label: count.sightings for count in kafka.values(topics.COUNTS, Count)}


def test_a_batch_of_answers_is_counted_remembered_and_told() -> None:
    kafka, table, published = Kafka(), Table(), []
    batch = [reported(report(sighting)) for sighting in ("a", "b", "a")]
    asyncio.run(counting(kafka, table, published)(3, batch))
    assert counts(kafka) == {"Felidae": 2}
    assert [key for _, key, _ in table.log] == ["home/cam1/a", "home/cam1/b"]
    assert {partition for partition, _, _ in table.log} == {3}
    assert len(published) == 3


def test_the_same_batch_again_changes_and_tells_no_count() -> None:
    kafka, table = Kafka(), Table()
    handler = counting(kafka, table, [])
    for _ in range(2):
        asyncio.run(handler(3, [reported(report())]))
    assert len(kafka.topics[topics.COUNTS]) == len(table.log) == 1


@pytest.mark.parametrize("where", ["counts", "changelog"])
def test_a_batch_that_died_half_way_tells_the_same_numbers_when_it_comes_again(where: str) -> None:
    kafka, table = Kafka(), Table()
    handler = counting(kafka, table, [])
    asyncio.run(handler(3, [reported(report("a"))]))
    kafka.dies_at, table.dies = (topics.COUNTS, False) if where == "counts" else ("", True)
    with pytest.raises(Died):
        asyncio.run(handler(3, [reported(report("b"))]))
    kafka.dies_at, table.dies = "", False
    asyncio.run(handler(3, [reported(report("b"))]))
    assert counts(kafka) == {"Felidae": 2}
    assert set(table.data) == {"home/cam1/a", "home/cam1/b"}


def test_old_photos_are_counted_and_the_state_is_bounded_by_their_arrival() -> None:
    kafka, table, now_s = Kafka(), Table(), [NOON_S]
    handler = Results(table, kafka, ZoneInfo("UTC"), lambda: now_s[0], lambda _: None)
    for sighting, days in (("a", 0), ("b", 0), ("c", 20), ("a", 21)):
        now_s[0] = NOON_S + days * 86_400
        record = reported(report(sighting, time="2024-01-01T12:00:00.000Z"))
        asyncio.run(handler(3, [record._replace(timestamp=round(now_s[0] * 1000))]))
    last = {record.key: decode(Count, record.value or b"") for record in kafka.topics[topics.COUNTS]}
    assert sum(count.sightings for count in last.values()) == 3
    assert {count.day for count in last.values()} == {"2024-01-01"}
    assert {key: len(row) for key, row in table.data.items()} == {
        "home/cam1/a": 1, "home/cam1/b": 1, "home/cam1/c": 6,
    }  # fmt: skip


def test_a_worker_that_is_weeks_behind_counts_on_where_it_was() -> None:
    """It forgets by the arrival of the answers, not by its own clock."""
    kafka, table = Kafka(), Table()
    handler = Results(table, kafka, ZoneInfo("UTC"), lambda: NOON_S + 99 * 86_400, lambda _: None)
    for sighting in ("a", "b"):
        asyncio.run(handler(3, [reported(report(sighting))]))
    assert counts(kafka) == {"Felidae": 2}


def test_a_fresh_worker_counts_on_from_the_recovered_table() -> None:
    kafka, table = Kafka(), Table()
    asyncio.run(counting(kafka, table, [])(3, [reported(report("a"))]))
    asyncio.run(counting(kafka, table, [])(3, [reported(report("b"))]))
    assert counts(kafka) == {"Felidae": 2}


def test_what_recovery_changed_in_the_table_is_seen() -> None:
    kafka, table, other = Kafka(), Table(), Table()
    handler = counting(kafka, table, [])
    asyncio.run(handler(3, [reported(report("a"))]))
    asyncio.run(counting(Kafka(), other, [])(3, [reported(report("b"))]))
    table.data |= other.data
    asyncio.run(handler.forget_view())
    asyncio.run(handler(3, [reported(report("c"))]))
    assert counts(kafka) == {"Felidae": 3}


def test_partitions_that_are_handled_at_the_same_time_do_not_lose_each_other() -> None:
    kafka, table = Kafka(), Table()
    handler = counting(kafka, table, [])

    async def both() -> None:
        each = [reported(report("a")), reported(report("b"))]
        two = [reported(report("a", source="home/cam2/garden"))]
        await asyncio.gather(handler(3, each), handler(4, two), handler(5, []))

    asyncio.run(both())
    asyncio.run(handler(3, [reported(report("c"))]))
    last = {(count.device, count.sightings) for count in kafka.values(topics.COUNTS, Count)}
    assert {("cam1", 3), ("cam2", 1)} <= last


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        ("malformed", taken(envelope(Kind.RESULT, b"{}"))),
        ("not-public", reported(report(privacy=Privacy.EDGE_PRIVATE))),
        ("source-mismatch", taken(envelope(Kind.RESULT, encode(report(source="home/cam2/garden"))))),
        ("time-invalid", reported(report(time="yesterday"))),
        ("time-invalid", taken(envelope(Kind.RESULT, encode(result(time=""))))),
        ("privacy-missing", reported(report())._replace(headers=())),
    ],
)
def test_an_answer_that_contradicts_its_record_is_rejected_and_the_rest_is_counted(
    reason: str, record: ConsumedRecord
) -> None:
    kafka, published = Kafka(), []
    asyncio.run(counting(kafka, Table(), published)(3, [record, reported(report())]))
    assert [refusal.reason for refusal in kafka.values(topics.REJECTED, Refusal)] == [reason]
    assert (counts(kafka), len(published)) == ({"Felidae": 1}, 1)


def test_a_sealed_record_on_the_results_topic_is_not_read() -> None:
    sealed = Envelope(
        event="1", kind=Kind.RESULT, privacy=Privacy.EDGE_PRIVATE, key="k", payload=encode(report()),
        source="home/cam1/garden", time=NOON, sealed_by="key",
    )  # fmt: skip
    with pytest.raises(Rejected) as caught:
        results.read(taken(sealed))
    assert caught.value.reason == "not-public"


# --- summaries -------------------------------------------------------------------------------------------------


def summarising(kafka: Kafka, table: Table, published: list[HourlySummary]) -> Summaries:
    return Summaries(table, kafka, lambda: NOON_S, published.extend)


def test_only_the_newest_revision_of_an_hour_is_told() -> None:
    kafka, table, published = Kafka(), Table(), []
    handler = summarising(kafka, table, published)
    for revisions in ([1, 3, 2], [3], [2, 4], [4, 1]):
        asyncio.run(handler(3, [summarised(revision=revision) for revision in revisions]))
    assert [summary.revision for summary in published] == [3, 4]
    assert [summary.revision for summary in kafka.values(topics.SUMMARIES, HourlySummary)] == [3, 4]
    assert table.data == {"home/room1/co2|2026-05-01T12:00:00.000Z": 4}


def test_a_summary_is_told_with_its_source_and_mean_under_one_key_an_hour() -> None:
    kafka = Kafka()
    asyncio.run(summarising(kafka, Table(), [])(3, [summarised(hour="2026-05-01T14:00:00+02:00")]))
    (record,) = kafka.topics[topics.SUMMARIES]
    assert record.key == b"home/room1/co2|2026-05-01T12:00:00.000Z"
    assert decode(HourlySummary, record.value or b"").mean == 500.0


def test_an_hour_that_was_told_but_not_remembered_is_told_again() -> None:
    kafka, table = Kafka(), Table()
    handler = summarising(kafka, table, [])
    table.dies = True
    with pytest.raises(Died):
        asyncio.run(handler(3, [summarised()]))
    table.dies = False
    asyncio.run(handler(3, [summarised()]))
    assert len(kafka.topics[topics.SUMMARIES]) == 2


def test_hours_of_long_ago_are_forgotten_as_new_ones_come() -> None:
    kafka, table = Kafka(), Table()
    handler = summarising(kafka, table, [])
    for day in ("2026-03-22T13", "2026-03-22T12", "2026-03-21T14", "2026-05-01T12"):
        asyncio.run(handler(3, [summarised(hour=f"{day}:00:00Z")]))
    assert sorted(table.data) == [f"home/room1/co2|{day}:00:00.000Z" for day in ("2026-03-22T13", "2026-05-01T12")]
    assert (3, "home/room1/co2|2026-03-22T12:00:00.000Z", None) in table.log


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        ("malformed", taken(envelope(Kind.SUMMARY, b"\x80"))),
        ("hour-invalid", summarised(hour="noon")),
        ("hour-invalid", summarised(hour="2026-05-01T12:30:00Z")),
        ("hour-invalid", summarised(hour="0001-01-01T00:00:00Z")),
        ("hour-invalid", summarised(hour="2026-05-04T12:00:00Z")),  # three days ahead
        ("summary-invalid", summarised(count=0)),
        ("summary-invalid", summarised(total=float("nan"))),
        ("summary-invalid", summarised(low=float("-inf"))),
        ("summary-invalid", summarised(high=1.7e308, total=1.7e308)),
        ("summary-invalid", summarised(low=600.0, high=400.0)),
        ("summary-invalid", summarised(total=1201.0)),
        ("summary-invalid", summarised(total=799.0)),
        ("kind-missing", summarised()._replace(headers=[("privacy", b"public")])),
    ],
)
def test_a_summary_that_cannot_be_is_rejected_and_the_rest_is_told(reason: str, record: ConsumedRecord) -> None:
    kafka, published = Kafka(), []
    asyncio.run(summarising(kafka, Table(), published)(3, [record, summarised()]))
    assert [refusal.reason for refusal in kafka.values(topics.REJECTED, Refusal)] == [reason]
    assert len(published) == 1


def test_an_hour_whose_sum_was_rounded_is_told() -> None:
    total = functools.reduce(operator.add, [0.1] * 10)  # `sum` compensates from Python 3.12 on; other senders do not
    assert total != 1.0
    assert summaries.read(summarised(count=10, total=total, low=0.1, high=0.1)).total == total


def test_a_refused_hour_is_not_quoted() -> None:
    with pytest.raises(Rejected) as caught:
        summaries.read(summarised(hour="CANARY"))
    assert "CANARY" not in str(caught.value)


def test_a_sealed_summary_is_not_read() -> None:
    sealed = Envelope(
        event="1", kind=Kind.SUMMARY, privacy=Privacy.EDGE_PRIVATE, key="k", payload=b"", source="a/b/c", time=NOON,
        sealed_by="key",
    )  # fmt: skip
    with pytest.raises(Rejected) as caught:
        summaries.read(taken(sealed))
    assert caught.value.reason == "not-public"
