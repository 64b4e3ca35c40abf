"""Sums are exact: merged equals central bit for bit, in any order; what was subtracted was never there."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import Rejected
from pipeline.sums.sums import LabelsMismatch, SpaceMismatch, Sums, SumsOverflow

LABELS = ("Felidae", "Canidae", "Bovidae")
D = 5


@st.composite
def events(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(0, 30))
    return draw(arrays(np.uint8, (n, D))), draw(arrays(np.int64, n, elements=st.integers(0, len(LABELS) - 1)))


def empty() -> Sums:
    return Sums.empty("test", D, LABELS)


@pytest.mark.slow
@given(events(), st.lists(st.integers(0, 6), min_size=30, max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_sums_of_sites_merged_in_any_order_equal_the_central_sums_bit_for_bit(given_events, sites, random) -> None:
    x, y = given_events
    at = np.array(sites[: len(x)], int)
    parts = [empty().add(x[at == site], y[at == site]) for site in range(7)]
    random.shuffle(parts)
    assert reduce(Sums.merge, parts).snapshot() == empty().add(x, y).snapshot()


@pytest.mark.slow
@given(events(), events())
@settings(deadline=None)
def test_an_event_that_is_subtracted_was_never_there(kept, forgotten) -> None:
    both = empty().add(*kept).add(*forgotten)
    assert both.subtract(empty().add(*forgotten)).snapshot() == empty().add(*kept).snapshot()


@pytest.mark.slow
@given(events())
@settings(deadline=None)
def test_a_snapshot_restores_to_equal_sums(given_events) -> None:
    sums = empty().add(*given_events)
    assert Sums.restore(sums.snapshot()).snapshot() == sums.snapshot()


def test_sums_are_the_products_they_claim_to_be() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5000, D)).astype(np.uint8), rng.integers(0, 3, 5000)
    sums = empty().add(x, y)
    wide = np.hstack([x.astype(np.int64), np.ones((5000, 1), np.int64)])
    assert sums.events == 5000
    np.testing.assert_array_equal(sums.gram, wide.T @ wide)
    np.testing.assert_array_equal(sums.cross, wide.T @ np.eye(3, dtype=np.int64)[y])


def cells(draw: st.DrawFn, shape: tuple[int, ...], least: int) -> np.ndarray:
    limits = np.iinfo(np.int64)
    return draw(arrays(np.int64, shape, elements=st.integers(max(least, limits.min), limits.max)))


@st.composite
def any_sums(draw: st.DrawFn, least: int = np.iinfo(np.int64).min) -> Sums:
    """Sums with any cells at all, most of them far larger than events would make them."""
    shapes = ((len(LABELS),), (D + 1, D + 1), (D + 1, len(LABELS)))
    return Sums("test", LABELS, *(cells(draw, shape, least) for shape in shapes))


def exact(*sums: Sums) -> list[np.ndarray]:
    """Cell by cell in Python's integers, which never overflow."""
    return [
        np.sum([getattr(row, field).astype(object) for row in sums], axis=0) for field in ("counts", "gram", "cross")
    ]


def fits(arrays_: list[np.ndarray]) -> bool:
    limits = np.iinfo(np.int64)
    return all(limits.min <= int(cell) <= limits.max for array in arrays_ for cell in array.flat)


@pytest.mark.slow
@given(any_sums(), any_sums())
@settings(deadline=None)
def test_a_merge_is_exact_or_refused_and_a_refused_one_leaves_both_as_they_were(each, other) -> None:
    before, total = (each.snapshot(), other.snapshot()), exact(each, other)
    if fits(total):
        merged = each.merge(other)
        for field, cells_ in zip(("counts", "gram", "cross"), total, strict=True):
            np.testing.assert_array_equal(getattr(merged, field), cells_.astype(np.int64))
    else:
        with pytest.raises(SumsOverflow, match="exceed int64"):
            each.merge(other)
    assert (each.snapshot(), other.snapshot()) == before


@pytest.mark.slow
@given(st.lists(any_sums(least=0), min_size=2, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_where_the_total_overflows_every_order_is_refused_and_else_every_order_is_equal(parts, random) -> None:
    shuffled = random.sample(parts, len(parts))
    if fits(exact(*parts)):
        assert reduce(Sums.merge, shuffled).snapshot() == reduce(Sums.merge, parts).snapshot()
    else:
        for order in (parts, shuffled):
            with pytest.raises(SumsOverflow):
                reduce(Sums.merge, order)


@pytest.mark.slow
@given(events(), events())
@settings(deadline=None)
def test_events_of_different_spaces_never_meet_in_one_sum(mine, theirs) -> None:
    here, there = empty().add(*mine), Sums.empty("another space", D, LABELS).add(*theirs)
    for meet in (here.merge, here.subtract):
        with pytest.raises(SpaceMismatch, match="do not mix"):
            meet(there)


@pytest.mark.slow
@given(events(), st.permutations(LABELS))
@settings(deadline=None)
def test_columns_may_be_reordered_and_added_without_changing_what_they_hold(given_events, order) -> None:
    sums = empty().add(*given_events)
    wider = sums.with_labels((*order, "Ursidae"))
    assert wider.events == sums.events
    assert wider.with_labels(LABELS).snapshot() == sums.snapshot()


def test_a_sum_that_would_leave_int64_is_refused() -> None:
    sums = empty().add(np.full((1, D), 255, np.uint8), [0])
    huge = Sums("test", LABELS, sums.counts, np.full_like(sums.gram, np.iinfo(np.int64).max), sums.cross)
    with pytest.raises(SumsOverflow, match="exceed int64"):
        huge.merge(sums)
    low = Sums("test", LABELS, sums.counts, np.full_like(sums.gram, -(2**62)), sums.cross)
    with pytest.raises(SumsOverflow, match="exceed int64"):
        low.merge(low).merge(low)


def test_subtracting_what_was_never_added_is_refused() -> None:
    with pytest.raises(SumsOverflow, match="not all of them were added"):
        empty().subtract(empty().add(np.ones((1, D), np.uint8), [1]))


def test_spaces_and_labels_never_mix() -> None:
    with pytest.raises(SpaceMismatch, match="do not mix"):
        empty().merge(Sums.empty("other", D, LABELS))
    with pytest.raises(SpaceMismatch, match="do not mix"):
        empty().merge(Sums.empty("test", D + 1, LABELS))
    with pytest.raises(LabelsMismatch, match="different labels"):
        empty().merge(Sums.empty("test", D, ("a", "b", "c")))
    with pytest.raises(SpaceMismatch, match="takes uint8"):
        empty().add(np.ones((1, D), np.float32), [0])  # type: ignore[arg-type]
    with pytest.raises(LabelsMismatch, match="positions below 3"):
        empty().add(np.ones((1, D), np.uint8), [3])
    with pytest.raises(LabelsMismatch, match="twice"):
        Sums.empty("test", D, ("a", "a"))


def test_a_new_label_gets_a_column_and_none_with_events_is_dropped() -> None:
    sums = empty().add(np.full((2, D), 7, np.uint8), [0, 1])
    wider = sums.with_labels(("Ursidae", "Canidae", "Felidae"))
    assert wider.counts.tolist() == [0, 1, 1]
    assert wider.with_labels(("Felidae", "Canidae", "Bovidae")).snapshot() == sums.snapshot()
    with pytest.raises(LabelsMismatch, match="Canidae"):
        sums.with_labels(("Felidae",))


@pytest.mark.parametrize("data", [b"", b"\x00", b"not msgpack at all", empty().snapshot()[:-3]])
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        Sums.restore(data)
    assert refused.value.reason == "bad-snapshot"
