"""OrderedPool: batches of one lane in order, no lane waits for another, and a failed batch is reported."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.device.ordered_pool import OrderedPool


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_each_lane_is_worked_in_its_order(lane_of_each: list[str]) -> None:
    done: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    with OrderedPool[int](workers=3, work=lambda lane, batch: done[lane].extend(batch)) as pool:
        for number, lane in enumerate(lane_of_each):
            pool.put(lane, [number])
    for lane, numbers in done.items():
        assert numbers == [number for number, of in enumerate(lane_of_each) if of == lane]


def test_a_lane_that_takes_long_holds_up_no_other() -> None:
    going, reached = threading.Event(), threading.Event()

    def work(lane: str, _batch: Sequence[int]) -> None:
        if lane == "slow":
            assert going.wait(20)
        else:
            reached.set()

    with OrderedPool[int](workers=2, work=work) as pool:
        for _ in range(5):
            pool.put("slow", [1])
        pool.put("quick", [1])
        assert reached.wait(20)
        going.set()


def test_what_is_put_after_the_close_is_dropped() -> None:
    done: list[int] = []
    pool = OrderedPool[int](workers=1, work=lambda _, batch: done.extend(batch))
    pool.close()
    pool.put("a", [1])
    assert pool.wait_below(1, 0)
    assert done == []


def test_what_a_batch_raised_is_told_to_whoever_waits() -> None:
    def work(_lane: str, _batch: Sequence[int]) -> None:
        raise ZeroDivisionError

    pool = OrderedPool[int](workers=1, work=work)
    pool.put("a", [1])
    with pytest.raises(ZeroDivisionError):
        pool.wait_below(1, 20)
    pool.close()
