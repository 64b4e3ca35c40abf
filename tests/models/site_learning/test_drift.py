"""Drift is told when a stream changes, once, and by what changed; a stream that stays as it is leaves it silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.site_learning import drift
from models.site_learning.drift import (
    LEARNED,
    RULES,
    USUAL,
    Alarm,
    Observation,
    Watch,
    class_of,
    labelled,
    observe,
    quarter_of,
    start,
)

SURE = ("animal", "Felidae")


def sightings(
    count: int,
    *,
    probability: Callable[[np.random.Generator], float] = lambda rng: float(rng.beta(8, 2)),
    unknown: float = 0.05,
    paths: tuple[tuple[str, ...], ...] = (SURE, SURE, ("animal", "Canidae")),
    shift: float = 0.0,
    seed: int = 0,
    quarters: int = 1,
) -> list[Observation]:
    """A camera's sightings, one of which has no name now and then."""
    rng = np.random.default_rng(seed)
    towards = np.random.default_rng(99).normal(0, 1, 256) * shift
    found = []
    for number in range(count):
        path = () if rng.random() < unknown else paths[int(rng.integers(len(paths)))]
        vector = np.clip(rng.normal(128 + towards, 16), 0, 255).astype(np.uint8)
        found.append(
            Observation(
                "lite0@3",
                f"{seed}-{number}",
                int(rng.integers(quarters)),
                path,
                probability(rng),
                vector,
                "s",
            )
        )
    return found


def told(watch: Watch, observations: Iterable[Observation]) -> tuple[Watch, list[Alarm]]:
    alarms: list[Alarm] = []
    for observation in observations:
        watch, more = observe(watch, observation)
        alarms += more
    return watch, alarms


@pytest.fixture(scope="module")
def settled() -> Watch:
    """After 300 sightings in which nothing changed."""
    watch, alarms = told(start("lite0@3"), sightings(300))
    assert alarms == []
    return watch


@pytest.mark.slow
def test_a_stream_that_stays_as_it_is_is_never_told() -> None:
    for seed in range(3):
        assert told(start("lite0@3"), sightings(1000, seed=seed, quarters=4))[1] == []


def test_answers_that_are_less_sure_than_before_are_told(settled: Watch) -> None:
    _, alarms = told(settled, sightings(60, probability=lambda rng: float(rng.beta(4, 4)), seed=1))

    assert {alarm.rule for alarm in alarms} == {"confidence-fell"}
    assert alarms[0].now < alarms[0].before == pytest.approx(0.8, abs=0.05)
    assert "went from" in alarms[0].reason


def test_one_class_that_grew_unsure_is_told_by_its_name(settled: Watch) -> None:
    unsure = sightings(
        200, paths=(("animal", "Canidae"),), unknown=0, probability=lambda rng: float(rng.beta(5, 3)), seed=1
    )
    sure = sightings(200, paths=(SURE,), unknown=0, seed=2)
    mixed = [seen for pair in zip(unsure, sure, strict=True) for seen in pair]

    assert "the probability of Canidae" in {alarm.signal for alarm in told(settled, mixed)[1]}


def test_answers_that_grow_surer_are_good_news(settled: Watch) -> None:
    assert told(settled, sightings(100, probability=lambda _: 0.99, seed=1))[1] == []


def test_more_sightings_without_a_name_are_told(settled: Watch) -> None:
    assert "unknown-rose" in {alarm.rule for alarm in told(settled, sightings(60, unknown=0.5, seed=1))[1]}


def test_other_kinds_than_before_are_told(settled: Watch) -> None:
    alarms = told(settled, sightings(60, paths=(("animal", "Bovidae"),), seed=1))[1]

    assert {alarm.rule for alarm in alarms} == {"mix-changed"}


def test_vectors_that_all_moved_one_way_are_told_soon(settled: Watch) -> None:
    alarms = told(settled, sightings(40, shift=6.0, seed=1))[1]

    assert {alarm.rule for alarm in alarms} == {"feature-shifted"}


def test_after_an_alarm_the_new_state_is_the_usual_one(settled: Watch) -> None:
    watch, alarms = told(settled, sightings(60, unknown=0.6, seed=1))
    assert alarms

    assert "unknown-rose" not in {alarm.rule for alarm in told(watch, sightings(300, unknown=0.6, seed=2))[1]}


def test_nights_that_differ_from_days_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    watch, alarms = start("lite0@3"), list[Alarm]()
    for number in range(1200):
        quarter = number // 5 % 4
        probability = float(rng.beta(8, 2) if quarter in (1, 2) else rng.beta(3, 5))
        watch, more = observe(watch, Observation("lite0@3", str(number), quarter, SURE, probability))
        alarms += more

    assert alarms == []


def test_frames_of_one_sighting_count_once(settled: Watch) -> None:
    one = sightings(1, unknown=1.0, seed=1) * 500

    assert told(settled, one)[1] == []


def test_another_model_starts_anew_and_its_own_labels_do_not(settled: Watch) -> None:
    unsure = sightings(60, probability=lambda rng: float(rng.beta(4, 4)), seed=1)

    assert told(settled, [seen._replace(model="lite0@4") for seen in unsure])[1] == []
    assert told(settled, [seen._replace(model="lite0@3+home.17") for seen in unsure])[1] != []


def test_vectors_of_another_space_are_learned_anew(settled: Watch) -> None:
    moved = [seen._replace(space="other") for seen in sightings(60, shift=6.0, seed=1)]

    assert told(settled, moved)[1] == []


def test_labels_that_contradict_more_than_before_are_told() -> None:
    watch = start("lite0@3")
    for number in range(100):
        watch, alarms = labelled(watch, 0, agrees=number % 20 != 0)
        assert alarms == ()
    found: list[Alarm] = []
    for number in range(40):
        watch, alarms = labelled(watch, 0, agrees=number % 2 == 0)
        found += alarms

    assert [alarm.rule for alarm in found] == ["labels-disagree"]


def test_what_was_stored_goes_on_as_if_nothing_had_happened(settled: Watch) -> None:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(settled), type=Watch)
    news = sightings(60, unknown=0.5, seed=1)

    assert told(stored, news) == told(settled, news)
    assert len(msgspec.msgpack.encode(settled)) < 8 << 10


def test_a_flood_of_classes_does_not_grow_the_memory() -> None:
    flood = [Observation("lite0@3", str(number), 0, ("animal", f"Family{number}"), 0.9) for number in range(500)]

    assert len(told(start("lite0@3"), flood)[0].classes) == drift.CLASSES_MAX + 1


def test_quarters_and_classes_are_what_they_say() -> None:
    assert [quarter_of(hour) for hour in (0, 5, 6, 12, 23)] == [0, 0, 1, 2, 3]
    assert class_of(("animal", "Felidae", "Felis catus")) == "Felidae"
    assert class_of(("person",)) == "person"
    assert class_of(()) == "unknown"


def test_nothing_is_told_before_a_past_is_learned() -> None:
    few = LEARNED + 20
    assert few < USUAL + LEARNED
    first: NDArray[np.float64] = np.linspace(1, 0, few)
    declining = [Observation("m", str(at), 0, SURE, float(p)) for at, p in enumerate(first[:LEARNED])]

    assert told(start("m"), declining)[1] == []
    assert set(RULES) == {
        "confidence-fell", "unknown-rose", "mix-changed", "feature-moved", "feature-shifted", "labels-disagree",
    }  # fmt: skip
