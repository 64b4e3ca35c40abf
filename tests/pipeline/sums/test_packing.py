"""Packed sums are exact, small, and nothing else is taken for them."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import Rejected
from pipeline.sums.packing import _Packed, complaint_about, pack, unpack
from pipeline.sums.sums import Sums

D = 7


def sums_of(seed: int, events: int, labels: tuple[str, ...] = ("a", "b", "c"), dimension: int = D) -> Sums:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 256, (events, dimension), np.uint8)
    return Sums.empty("s", dimension, labels).add(vectors, rng.integers(0, len(labels), events))


def equal(each: Sums, other: Sums) -> bool:
    return each.snapshot() == other.snapshot()


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
@settings(deadline=None, max_examples=40)
def test_what_was_packed_is_read_back_exactly(seed, events) -> None:
    sums = sums_of(seed, events)
    assert equal(unpack(pack(sums), D), sums)


def test_sums_of_no_labels_are_read_back() -> None:
    nothing = Sums.empty("s", D, ())
    assert equal(unpack(pack(nothing), D), nothing)


def test_equal_sums_make_equal_bytes() -> None:
    assert pack(sums_of(1, 20)) == pack(sums_of(1, 20))


def test_a_hundred_and_sixty_events_of_256_bytes_take_less_than_ninety_kilobytes() -> None:
    rng = np.random.default_rng(0)
    vectors = np.clip(rng.normal(128, 32, (160, 256)), 0, 255).astype(np.uint8)
    sums = Sums.empty("s", 256, tuple("abcdefgh")).add(vectors, np.arange(160) % 8)
    assert len(pack(sums)) < 90_000 < len(zlib.compress(sums.snapshot()))


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=60)
def test_any_other_bytes_are_refused(data) -> None:
    for row in (data, zlib.compress(data)):
        with pytest.raises(Rejected) as refused:
            unpack(row, D)
        assert refused.value.reason == "bad-sums"


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_bytes_that_end_early_are_refused(cut: int) -> None:
    with pytest.raises(Rejected, match="not packed sums"):
        unpack(pack(sums_of(1, 20))[:-cut], D)


def test_sums_of_another_dimension_are_refused() -> None:
    with pytest.raises(Rejected, match="dimension 7"):
        unpack(pack(sums_of(1, 20)), D + 1)


@pytest.mark.slow
def test_bytes_that_would_blow_up_are_refused_before_they_do() -> None:
    bomb = zlib.compress(msgspec.msgpack.encode(_Packed(1, "s", D, (), bytes(50_000_000))), 9)
    with pytest.raises(Rejected, match="not packed sums"):
        unpack(bomb, D)


def test_integers_that_no_events_add_up_to_are_told() -> None:
    sums = sums_of(3, 20)
    assert complaint_about(sums) == ""
    for array, complaint in (("counts", "counts"), ("gram", "product|sum of all"), ("cross", "sum")):
        changed = getattr(sums, array).copy()
        changed.flat[0] += 1_000_000
        odd = msgspec.structs.replace(sums, **{array: changed})
        assert complaint_about(odd), complaint
        with pytest.raises(Rejected, match=complaint):
            unpack(pack(odd), D)
