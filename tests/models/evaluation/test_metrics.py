"""Figures count what they say, carry their intervals, and survive as JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_outcomes import JAGUAR, TIGER, WOLF, outcome, report

from models.evaluation.evaluate import Evaluation
from models.evaluation.metrics import EvaluationReport, measure, rate
from models.evaluation.report import render
from models.labels.taxonomy import UnknownLabel

RAISED = {"person_raised": True}


@pytest.mark.slow
@given(st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_share(pair: tuple[int, int]) -> None:
    its = rate(*pair)
    assert 0 <= its.low <= its.share + 1e-9 and its.share <= its.high + 1e-9 <= 1 + 2e-9


def test_intervals_are_clopper_and_pearsons() -> None:
    """Against scipy.stats.binomtest(9, 10).proportion_ci(): 0.55498, 0.99747."""
    its = rate(9, 10)
    assert (its.low, its.high) == pytest.approx((0.55498, 0.99747), abs=1e-4)


def test_nothing_is_no_division_by_zero() -> None:
    its = rate(0, 0)
    assert (its.share, its.low, its.high) == (0.0, 0.0, 1.0)


def test_right_is_counted_among_the_answered_and_likeliest_among_all() -> None:
    its = report(
        outcome(TIGER),
        outcome(TIGER, JAGUAR),
        outcome(TIGER, answered={"cloud": TIGER[:2]}),  # rolled up to the family
        outcome(TIGER, answered={"cloud": (), "edge": (), "device": ()}),
    )
    cloud = its.at("cloud", "species")
    assert (cloud.photos, cloud.answered.count, cloud.right.count, cloud.likeliest.count) == (4, 2, 1, 3)
    assert its.at("edge", "family").right.count == 3
    assert its.at("device", "kingdom").answered.count == 3


def test_a_label_of_a_shallow_rank_counts_no_deeper() -> None:
    its = report(outcome(("animal", "Felidae"), TIGER), outcome(("animal",), WOLF))
    assert [its.at("cloud", rank).photos for rank in ("kingdom", "family", "species")] == [2, 1, 0]
    assert its.at("cloud", "species").right.of == 0


def test_honest_probabilities_have_no_calibration_error_and_sure_wrong_ones_all() -> None:
    honest = [outcome(TIGER, probability=0.99) for _ in range(99)] + [outcome(TIGER, WOLF, 0.99)]
    assert report(*honest).at("edge", "family").calibration_error == pytest.approx(0, abs=1e-3)
    assert report(outcome(TIGER, WOLF, 1.0)).at("edge", "family").calibration_error == pytest.approx(1)


def test_the_curve_begins_with_the_surest_and_ends_with_all() -> None:
    curve = report(outcome(TIGER, probability=0.9), outcome(TIGER, WOLF, 0.4)).at("edge", "family").curve
    assert curve == ((0.5, 1.0), (1.0, 0.5))


def test_persons_are_told_with_their_false_alarms() -> None:
    device, edge = report(
        outcome(("person",), device=RAISED, edge=RAISED),
        outcome(("person",), edge=RAISED),
        outcome(TIGER, device=RAISED),
        outcome(TIGER),
        outcome(TIGER),
    ).persons
    assert device.recall is not None and (device.recall.count, device.recall.of) == (1, 2)
    assert device.false_alarms is not None and (device.false_alarms.count, device.false_alarms.of) == (1, 3)
    assert device.false_alarms.low < 1 / 3 < device.false_alarms.high
    assert edge.recall is not None and edge.recall.count == 2
    assert edge.false_alarms is not None and edge.false_alarms.count == 0


def test_without_persons_nothing_is_said_of_their_recall() -> None:
    persons = report(outcome(TIGER)).persons
    assert [its.recall for its in persons] == [None, None]
    assert "with a person" not in render(report(outcome(TIGER)))


def test_the_confusion_matrix_is_whole_and_the_table_shows_what_is_wrong() -> None:
    its = report(
        *[outcome(TIGER) for _ in range(3)],
        *[outcome(TIGER, WOLF) for _ in range(2)],
        outcome(WOLF, answered={"edge": ()}),
        outcome(WOLF, answered={"edge": ("animal",)}),
    )
    assert {(c.true, c.answered): c.photos for c in its.families} == {
        ("Felidae", "Felidae"): 3,
        ("Felidae", "Canidae"): 2,
        ("Canidae", "unknown"): 1,
        ("Canidae", "animal"): 1,
    }
    assert "| Felidae | Canidae | 2 |" in render(its)
    assert "| Felidae | Felidae |" not in render(its)


def test_a_groups_species_are_told_the_worst_first() -> None:
    its = report(outcome(TIGER), outcome(JAGUAR, TIGER), outcome(WOLF), group=("Felidae",))
    assert [each.label for each in its.species] == ["Panthera onca", "Panthera tigris"]
    assert its.group is not None
    assert (its.group.likeliest.count, its.group.photos) == (1, 2)
    assert "| Felidae | 2 |" in render(its)


def test_a_group_that_the_tree_does_not_hold_is_refused() -> None:
    with pytest.raises(UnknownLabel):
        report(outcome(TIGER), group=("dragons",))


def test_what_each_tier_hands_on_depends_on_what_is_wanted() -> None:
    its = report(
        outcome(TIGER, probability=0.9),  # sure of its family
        outcome(TIGER, probability=0.4),
        outcome(TIGER, device=RAISED),
        outcome(TIGER, device={"stands": "earlier"}),
    )
    shares = {each.wants: (each.device.count, each.edge.count) for each in its.forwards}
    assert shares == {"kingdom": (0, 0), "family": (2, 1), "species": (2, 2)}


def test_a_report_survives_as_json() -> None:
    its = report(outcome(TIGER), outcome(("person",), device=RAISED), left_out=("x.jpg: damaged",))
    assert msgspec.json.decode(msgspec.json.encode(its), type=EvaluationReport) == its
    assert "1 left out" in render(its)


@pytest.mark.parametrize(("accepted", "asks"), [(0.02, 0), (0.05, 1)])
def test_a_device_that_misses_more_persons_than_is_accepted_asks_nobody(accepted: float, asks: int) -> None:
    rates = {"person_miss_rate": 0.047, "person_miss_rate_accepted": accepted}
    done = Evaluation((outcome(TIGER, device=rates),), {})
    assert {its.wants: its.device.count for its in measure(done).forwards} == {
        "kingdom": 0,
        "family": asks,
        "species": asks,
    }
