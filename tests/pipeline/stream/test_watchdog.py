"""The watchdog barks when records wait and nothing moves, and at nothing else."""

from __future__ import annotations

from pipeline.kafka import GroupPosition
from pipeline.stream.watchdog import Watchdog

PATIENCE_S = 30.0


def barks(*looks: tuple[float, int, int]) -> list[bool]:
    dog = Watchdog(PATIENCE_S)
    return [bool(dog.stuck(now_s, {("t", 0): GroupPosition(committed, end)})) for now_s, committed, end in looks]


def test_records_that_wait_longer_than_patience_are_told() -> None:
    assert barks((0, 5, 9), (30, 5, 12), (31, 5, 12)) == [False, False, True]


def test_a_slow_group_that_moves_is_left_alone() -> None:
    assert barks((0, 5, 99), (29, 6, 99), (58, 7, 99), (87, 8, 99)) == [False] * 4


def test_an_idle_group_with_nothing_to_do_is_left_alone() -> None:
    assert barks((0, 9, 9), (1000, 9, 9), (1001, 9, 12), (1030, 9, 12)) == [False] * 4


def test_patience_begins_when_records_arrive_not_when_the_offset_was_committed() -> None:
    assert barks((0, 9, 9), (1000, 9, 10), (1031, 9, 10)) == [False, False, True]


def test_time_in_which_kafka_was_away_does_not_count() -> None:
    dog = Watchdog(PATIENCE_S)
    places = {("t", 0): GroupPosition(5, 9)}
    dog.stuck(0, places)
    dog.excuse()
    assert not dog.stuck(100, places)
    assert dog.stuck(131, places) == "t/0 stands at 5 of 9 for 31 s"


def test_one_stuck_partition_among_moving_ones_is_found() -> None:
    dog = Watchdog(PATIENCE_S)
    for now_s in (0, 20, 40):
        moving = {("t", number): GroupPosition(now_s, 100) for number in range(11)}
        found = dog.stuck(now_s, {**moving, ("t", 11): GroupPosition(5, 6)})
    assert found.startswith("t/11")
