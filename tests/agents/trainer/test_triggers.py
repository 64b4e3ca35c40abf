"""When the trainer trains: each rule, their order, and that a burst of labels starts one training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.trainer.triggers import (
    CLASS_EVENTS,
    DRIFT_EVENTS,
    HOLD_BACK_S,
    QUIET_S,
    RULES,
    FoldState,
    LastTraining,
    Trigger,
    TriggerSettings,
    due,
    is_ripe,
)

DAY_S = 86_400.0
LAST = LastTraining(changes=100, events={"cat": 90, "herpestes": 5}, time_s=DAY_S)
QUIET = FoldState(changes=101, events={"cat": 91, "herpestes": 5}, now_s=DAY_S + 60)
SETTINGS = TriggerSettings(labels=50, every_h=24)
KNOWN = {"cat", "fox"}


def rule(fold: FoldState, last: LastTraining = LAST, settings: TriggerSettings = SETTINGS) -> str:
    found = due(fold, last, settings, KNOWN)
    return found.rule if found else ""


def test_a_few_labels_of_known_classes_wait() -> None:
    assert rule(QUIET) == ""


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("by-hand", {"requested": "before the weekend"}),
        ("new-class", {"events": {"cat": 91, "herpestes": CLASS_EVENTS}}),
        ("drift", {"labelled": DRIFT_EVENTS, "wrong": DRIFT_EVENTS}),
        ("new-labels", {"changes": 150}),
        ("schedule", {"now_s": 2 * DAY_S}),
    ],
)
def test_each_rule_starts_a_training_and_says_why(expected: str, change: dict[str, object]) -> None:
    found = due(replace(QUIET, **change), LAST, SETTINGS, KNOWN)  # type: ignore[arg-type]
    assert found is not None
    assert (found.rule, bool(found.reason)) == (expected, True)


def test_the_first_rule_that_holds_is_the_trigger() -> None:
    everything = FoldState(1000, {"herpestes": 50}, 9 * DAY_S, "now", 90, 90)
    assert rule(everything) == RULES[0][0] == "by-hand"


def test_a_class_is_new_once() -> None:
    events = {"herpestes": CLASS_EVENTS + 3}
    assert rule(replace(QUIET, events=events), replace(LAST, events=events)) == ""
    assert rule(replace(QUIET, events={"fox": CLASS_EVENTS})) == ""


def test_a_few_wrong_answers_among_many_right_ones_are_no_drift() -> None:
    assert rule(replace(QUIET, labelled=45, wrong=DRIFT_EVENTS)) == ""
    assert rule(replace(QUIET, labelled=4, wrong=4)) == ""


def test_the_first_label_of_all_waits_for_nineteen_more_whatever_the_clock_says() -> None:
    first = FoldState(changes=1, events={"fox": 1}, now_s=9 * DAY_S)
    assert rule(first, LastTraining()) == ""
    assert rule(replace(first, changes=20, events={"fox": 12, "cat": 8}), LastTraining()) == "schedule"


def test_the_clock_starts_nothing_where_nothing_is_new_or_it_is_switched_off() -> None:
    assert rule(replace(QUIET, changes=100, now_s=9 * DAY_S)) == ""
    assert rule(replace(QUIET, now_s=9 * DAY_S), settings=TriggerSettings(50, 0)) == ""


def test_a_burst_of_labels_is_waited_for_but_not_for_ever_and_a_person_does_not_wait() -> None:
    burst = Trigger("new-class", "")
    assert not is_ripe(burst, triggered_s=10.0, changed_s=10.0, now_s=10.0 + QUIET_S / 2)
    assert is_ripe(burst, triggered_s=10.0, changed_s=10.0, now_s=10.0 + QUIET_S)
    assert not is_ripe(burst, triggered_s=10.0, changed_s=12.0, now_s=12.5)
    assert is_ripe(burst, triggered_s=10.0, changed_s=10.0 + HOLD_BACK_S, now_s=10.0 + HOLD_BACK_S)
    assert is_ripe(Trigger("by-hand", ""), 10.0, 10.0, 10.0)
