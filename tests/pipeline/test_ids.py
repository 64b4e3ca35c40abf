"""Event ids: UUIDv7 that tell their time, and derived ones that are equal for equal names."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ids

moments = st.floats(0, 2**47 / 1000)
words = st.lists(st.text(max_size=8), min_size=1, max_size=3)


@given(moments)
def test_an_event_id_is_a_uuid_of_version_7_that_tells_its_millisecond(now_s: float) -> None:
    made = ids.event_id(now_s)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert ids.is_event_id(made)
    assert ids.time_s(made) == int(now_s * 1000) / 1000


def test_event_ids_of_one_moment_differ() -> None:
    assert len({ids.event_id(0.0) for _ in range(100)}) == 100


@given(moments, moments)
def test_event_ids_sort_by_their_time(one_s: float, other_s: float) -> None:
    each, other = sorted((int(one_s * 1000), int(other_s * 1000)))
    if each != other:
        assert ids.event_id((each + 0.5) / 1000) < ids.event_id((other + 0.5) / 1000)


@given(moments, words, words)
def test_derived_ids_are_equal_for_equal_names_alone(now_s: float, each: list[str], other: list[str]) -> None:
    assert (ids.derived(now_s, *each) == ids.derived(now_s, *other)) == (each == other)
    assert uuid.UUID(ids.derived(now_s, *each)).version == 7


def test_a_time_before_1970_becomes_1970() -> None:
    assert ids.time_s(ids.event_id(-5.0)) == 0.0


def test_an_id_of_another_version_tells_no_time() -> None:
    assert ids.time_s(str(uuid.UUID(int=7, version=4))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "0193",
        "{018bcfe5-6800-7000-8000-000000000001}",
        "018BCFE5-6800-7000-8000-00000000000A",
        "../../etc/passwd",
    ],
)
def test_only_the_canonical_spelling_is_an_id(text: str) -> None:
    assert not ids.is_event_id(text)


@given(st.one_of(st.none(), moments), st.binary(min_size=32, max_size=32))
def test_the_id_of_a_file_holds_a_time_only_if_its_bytes_do(time_s: float | None, digest: bytes) -> None:
    made = ids.of_content(time_s, "home/cam1/garden", digest)
    assert made == ids.of_content(time_s, "home/cam1/garden", digest) != ids.of_content(time_s, "home/cam2/a", digest)
    assert ids.is_event_id(made)
    assert ids.time_s(made) == (None if time_s is None else int(time_s * 1000) / 1000)


def test_a_jpeg_may_bring_an_id() -> None:
    jpeg, event = b"\xff\xd8\xff\xe0 and so on", ids.event_id(1.0)
    assert ids.of_jpeg(ids.in_jpeg(jpeg, event)) == event
    assert ids.of_jpeg(jpeg) is ids.of_jpeg(b"") is ids.of_jpeg(ids.in_jpeg(jpeg, "x" * 36)) is None
    assert ids.of_jpeg(ids.in_jpeg(jpeg, event)[:40]) is None
