"""Envelopes as Kafka records: nothing is lost, and nothing damaged is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import ENVELOPES, report, result

from pipeline import records, topics
from pipeline.errors import Rejected
from pipeline.messages import Envelope, Kind, Privacy, encode
from pipeline.topics import Header

PUBLIC = Envelope(
    event="0193",
    kind=Kind.FEATURE,
    privacy=Privacy.PUBLIC,
    key="home/cam1",
    payload=b"feature",
    source="home/cam1/garden",
    time="2026-05-01T12:00:00.000Z",
    space="s1",
)


def headers(**changes: bytes | None) -> list[tuple[str, bytes]]:
    """Those of PUBLIC, with some replaced, added or (None) left out."""
    found: dict[str, bytes | None] = {**dict(records.to_record(PUBLIC).headers), **changes}
    return [(name, value) for name, value in found.items() if value is not None]


@pytest.mark.slow
@given(ENVELOPES)
def test_an_envelope_survives_the_way_through_kafka(envelope: Envelope) -> None:
    record = records.to_record(envelope)
    assert records.from_record(record.headers, record.key, record.value) == envelope


@given(ENVELOPES)
def test_a_user_private_record_tells_no_source_and_no_time(envelope: Envelope) -> None:
    record = records.to_record(envelope)
    if envelope.privacy is Privacy.USER_PRIVATE:
        assert {name for name, _ in record.headers} <= records.PRIVATE_HEADERS


@given(st.lists(st.tuples(st.sampled_from([*dict(records.to_record(PUBLIC).headers), "x"]), st.binary(max_size=40))))
def test_headers_are_read_or_rejected_and_nothing_else(noise: list[tuple[str, bytes]]) -> None:
    try:
        records.read_headers(noise)
    except Rejected as error:
        assert error.reason


@pytest.mark.parametrize(
    ("reason", "damaged"),
    [
        ("privacy-missing", headers(privacy=None)),
        ("privacy-missing", headers(privacy=b"")),
        ("privacy-unknown", headers(privacy=b"Public")),
        ("privacy-repeated", [*headers(), ("privacy", b"public")]),
        ("kind-missing", headers(kind=None)),
        ("kind-unknown", headers(kind=b"features")),
        ("kind-repeated", [*headers(), ("kind", b"feature")]),
        ("id-missing", headers(ce_id=None)),
        ("type-mismatch", headers(ce_type=b"tierwise.result.v1")),
        ("type-mismatch", headers(ce_type=None)),
        ("header-repeated", [*headers(), ("ce_source", b"home/cam1/garden")]),
        ("header-invalid", [*headers(), ("traceparent", b"\xff")]),
        ("header-invalid", [*headers(), ("traceparent", b"0" * 5000)]),
        ("header-invalid", [*headers(space=None), ("space", None)]),
        ("revision-invalid", headers(revision=b"0")),
        ("revision-invalid", headers(revision=b"-1")),
        ("revision-invalid", headers(revision=b"1" * 10)),
        ("revision-invalid", headers(revision=None)),
        ("source-missing", headers(ce_source=None)),
        ("source-invalid", headers(ce_source=b"home/cam1")),
        ("source-invalid", headers(ce_source=b"home/cam1/uplink")),
        ("source-invalid", headers(ce_source=b"\xff/cam1/garden")),
        ("time-missing", headers(ce_time=None)),
        ("time-invalid", headers(ce_time=b"noon")),
        ("time-invalid", headers(ce_time=b"\xff")),
        ("time-invalid", headers(ce_time=b"0001-01-01T00:00:00+23:00")),
        ("sealed-public", headers(sealed_by=b"site-key")),
        ("not-sealed", headers(privacy=b"edge-private")),
        ("not-sealed", headers(privacy=b"edge-private", sealed_by=b"")),
        ("header-forbidden", headers(privacy=b"user-private", sealed_by=b"user-key")),
    ],
)
def test_headers_that_are_not_whole_are_rejected_with_the_reason(reason: str, damaged: list[tuple[str, bytes]]) -> None:
    with pytest.raises(Rejected) as caught:
        records.read_headers(damaged)
    assert caught.value.reason == reason


def test_a_user_private_record_with_a_header_of_unknown_meaning_is_rejected() -> None:
    sealed = Envelope(event="1", kind=Kind.PIXELS, privacy=Privacy.USER_PRIVATE, key="ab", payload=b"", sealed_by="k")
    record = records.to_record(sealed)
    with pytest.raises(Rejected) as caught:
        records.read_headers([*record.headers, ("traceparent", b"00-cam1")])
    assert caught.value.reason == "header-forbidden"


def test_tracing_headers_of_others_do_no_harm_on_public_records() -> None:
    assert records.read_headers([*headers(), ("traceparent", b"00")]).privacy is Privacy.PUBLIC


@pytest.mark.parametrize(
    ("reason", "key", "value"),
    [
        ("key-missing", None, b""),
        ("key-missing", b"", b""),
        ("key-invalid", b"\xff", b""),
        ("value-missing", b"k", None),
    ],
)
def test_a_record_needs_key_and_value(reason: str, key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(Rejected) as caught:
        records.from_record(headers(), key, value)
    assert caught.value.reason == reason


def test_a_time_that_is_none_is_for_the_reader_to_refuse() -> None:
    record = records.to_record(
        Envelope(**{name: getattr(PUBLIC, name) for name in PUBLIC.__struct_fields__} | {"time": "?"})
    )
    assert dict(record.headers)[Header.TIME] == b"?"


def test_answers_of_edge_and_cloud_are_told_apart() -> None:
    assert records.answer(encode(report())) == report()
    assert records.answer(encode(result())) == result()


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b'{"event": 1}'])
def test_what_is_no_answer_is_refused_without_quoting_it(value: bytes) -> None:
    with pytest.raises(Rejected, match="neither") as caught:
        records.answer(value)
    assert caught.value.reason == "malformed"


def test_topics_of_the_router_have_equally_many_partitions() -> None:
    assert {*topics.ROUTED.values(), topics.RESULTS, topics.SUMMARIES_INGEST} <= set(topics.KAFKA_TOPICS)
