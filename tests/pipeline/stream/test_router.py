"""The router's decision, by headers alone: it fails closed, whatever happens to a header on the way."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import ENVELOPES, ConsumedRecord, taken

from pipeline import topics
from pipeline.messages import Envelope, Kind, Privacy, Refusal, decode
from pipeline.stream.delivery import ProducerRecord
from pipeline.stream.router import ROUTES, Router, route, sort
from pipeline.topics import Header

PUBLIC_TOPICS = {topics.ROUTED[Privacy.PUBLIC], topics.RESULTS, topics.SUMMARIES_INGEST}
PRIVATE = ENVELOPES.filter(lambda envelope: envelope.privacy is not Privacy.PUBLIC)

Headers = list[tuple[str, bytes]]
VALUES = st.binary(max_size=12) | st.sampled_from(
    [b"public", b"edge-private", b"user-private", b"feature", b"result", b"summary", b"PUBLIC", b"public "]
)


@st.composite
def damaged(draw: st.DrawFn, envelopes: st.SearchStrategy[Envelope]) -> Headers:
    """The headers of an envelope with one of them lost, changed, repeated, renamed, or a foreign one added."""
    headers = list(taken(draw(envelopes)).headers)
    place = draw(st.integers(0, len(headers) - 1))
    name, value = headers[place]
    match draw(st.sampled_from(["lose", "change", "repeat", "rename", "add"])):
        case "lose":
            del headers[place]
        case "change":
            headers[place] = (name, draw(VALUES))
        case "repeat":
            headers.insert(draw(st.integers(0, len(headers))), (name, draw(VALUES | st.just(value))))
        case "rename":
            headers[place] = (draw(st.text(max_size=12)), value)
        case _:
            headers.append((draw(st.text(max_size=12)), draw(VALUES)))
    return headers


@given(damaged(PRIVATE))
def test_no_damage_to_one_header_of_a_private_record_makes_it_public(headers: Headers) -> None:
    assert route(headers).topic not in PUBLIC_TOPICS


@pytest.mark.slow
@given(damaged(ENVELOPES.filter(lambda envelope: envelope.privacy is Privacy.USER_PRIVATE)))
def test_a_damaged_user_private_record_stays_user_private_or_is_rejected(headers: Headers) -> None:
    assert route(headers).topic in {topics.ROUTED[Privacy.USER_PRIVATE], topics.REJECTED}


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from([Header.KIND, Header.PRIVACY, Header.TYPE, "x"]), VALUES), max_size=8))
def test_headers_made_of_noise_are_rejected(headers: Headers) -> None:
    assert route(headers).topic == topics.REJECTED


@given(ENVELOPES)
def test_every_whole_record_goes_where_the_table_says(envelope: Envelope) -> None:
    rows = [row.topic for row in ROUTES if envelope.kind in row.kinds and envelope.privacy is row.privacy]
    assert [route(taken(envelope).headers).topic] == (rows or [topics.REJECTED])


@pytest.mark.parametrize("kind", [Kind.PIXELS, Kind.READING])
def test_public_records_that_nobody_takes_are_rejected(kind: Kind) -> None:
    envelope = Envelope(
        event="e",
        kind=kind,
        privacy=Privacy.PUBLIC,
        key="a/b",
        payload=b"",
        source="a/b/c",
        time="2026-05-01T12:00:00Z",
    )
    assert route(taken(envelope).headers).reason == "kind-not-taken"


def test_a_routed_record_keeps_key_value_headers_and_time() -> None:
    record = taken(PLAIN)
    (out,) = sort([record], now_s=0.0)[topics.ROUTED[Privacy.PUBLIC]]
    assert out == ProducerRecord(record.key, record.value, record.headers, record.timestamp)


def test_a_rejected_record_tells_its_place_and_digest_but_neither_content_nor_key() -> None:
    record = taken(PLAIN, topics.INGEST, offset=7)._replace(headers=[], value=b"a secret", key=b"home/cam1")
    (out,) = sort([record], now_s=0.0)[topics.REJECTED]
    refusal = decode(Refusal, out.value or b"")
    assert (out.key, list(out.headers)) == (None, [(Header.REASON, b"privacy-missing")])
    assert refusal.topic == f"{topics.INGEST}/3/7"
    assert (refusal.size_bytes, refusal.sha256) == (8, hashlib.sha256(b"a secret").hexdigest())
    assert b"secret" not in (out.value or b"") and b"cam1" not in (out.value or b"")


def test_the_router_returns_after_all_of_a_batch_is_delivered_to_the_partition_it_came_from() -> None:
    delivered: list[tuple[str, int, int]] = []

    async def deliver(topic: str, partition: int, records: list[ProducerRecord]) -> None:
        await asyncio.sleep(0)
        delivered.append((topic, partition, len(records)))

    broken = taken(PLAIN)._replace(headers=[])
    asyncio.run(Router(deliver, lambda: 0.0)(3, [taken(PLAIN), broken, taken(PLAIN)]))
    assert sorted(delivered) == [(topics.ROUTED[Privacy.PUBLIC], 3, 2), (topics.REJECTED, 3, 1)]


def test_a_record_without_headers_key_and_value_is_rejected() -> None:
    nothing = ConsumedRecord(topics.INGEST, 0, 0, 0, None, None, ())
    assert list(sort([nothing], 0.0)) == [topics.REJECTED]


PLAIN = Envelope(
    event="0193",
    kind=Kind.FEATURE,
    privacy=Privacy.PUBLIC,
    key="home/cam1",
    payload=b"feature",
    source="home/cam1/garden",
    time="2026-05-01T12:00:00.000Z",
)
