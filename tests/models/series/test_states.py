"""States: how long each lasts and how often they change decides what is unusual."""

from __future__ import annotations

import random

import msgspec
import pytest

from models.series.states import StateTrack, observe

DAY_S = 86_400.0
START_S = 1_780_000_000.0 // 3600 * 3600


class Door:
    """A door that says when it opens and closes."""

    def __init__(self) -> None:
        self.track: StateTrack | None = None
        self.now_s = START_S
        self.verdicts: list[str] = []

    def says(self, state: str, after_s: float) -> str:
        self.now_s += after_s
        self.track, verdict = observe(self.track, state, self.now_s)
        self.verdicts.append(verdict.state)
        return verdict.state


@pytest.fixture
def door() -> Door:
    """A month of a door that is open for a minute, about twice an hour."""
    chance, door = random.Random(3), Door()
    door.says("closed", 0)
    for _ in range(700):
        door.says("open", 1800 * chance.lognormvariate(0, 0.4))
        door.says("closed", 60 * chance.lognormvariate(0, 0.4))
    return door


def test_an_ordinary_month_is_usual(door: Door) -> None:
    assert door.verdicts.count("unusual") <= len(door.verdicts) / 100


def test_a_door_that_stays_open_is_unusual_while_it_does(door: Door) -> None:
    door.says("open", 1800)
    assert door.says("open", 90) == "normal"
    assert door.says("open", 4 * 3600) == "unusual"
    assert door.says("closed", 60) == "unusual"
    assert door.says("open", 1800) == "normal"


def test_a_door_that_does_not_rest_is_unusual(door: Door) -> None:
    said = [door.says(state, 50) for _ in range(30) for state in ("open", "closed")]
    assert "unusual" in said


def test_a_regular_state_may_vary_by_a_second() -> None:
    door = Door()
    for number in range(200):
        assert door.says(("off", "on")[number % 2], 60 + number % 2) == "normal"


def test_the_first_readings_and_late_ones_are_never_unusual(door: Door) -> None:
    before = door.track
    assert door.says("open", -DAY_S) == "normal"
    assert door.track == before, "a late reading changes nothing"
    fresh = Door()
    assert [fresh.says(state, gap_s) for state, gap_s in (("on", 0), ("off", 1), ("on", 9e6))] == ["normal"] * 3


def test_the_memory_can_be_stored(door: Door) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(door.track), type=StateTrack) == door.track
