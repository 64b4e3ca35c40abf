"""The models of a tier: which model answers an event, which one is compared beside it, and that no event waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from agents.rollout.serving import WAITING_MAX, Serving, Trial
from agents.rollout.shadow import AnswerSummary, TrialTally, cloud_summary
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.vision.tier_models import CloudPrediction
from pipeline.errors import Rejected

TREE = load_taxonomy()
STREAM = "home/cam1/garden"


class SampleModel:
    """Answers with a path, and records the events."""

    space = "sample"
    tree: Taxonomy = TREE

    def __init__(self, name: str, path: tuple[str, ...] = ("animal",)) -> None:
        self.name = name
        self.path = path
        self.asked: list[str] = []
        self.error: Exception | None = None

    def predict(self, event: str) -> AnswerSummary:
        self.asked.append(event)
        if self.error is not None:
            raise self.error
        return AnswerSummary(self.path, 0.9, 1.0)


def serving(model: SampleModel) -> Serving[SampleModel]:
    return Serving(model, lambda prediction: prediction)


def asking(event: str) -> Callable[[SampleModel], AnswerSummary]:
    return lambda model: model.predict(event)


def trial(model: SampleModel, *, answers: bool) -> Trial[SampleModel]:
    return Trial(model, lambda _stream: answers, TrialTally())


OLD, NEW = "lite0@2", "lite0@3"


@pytest.fixture
def old() -> SampleModel:
    return SampleModel(OLD)


@pytest.fixture
def new() -> SampleModel:
    return SampleModel(NEW, ("animal", "Felidae"))


def test_without_a_trial_one_model_predicts_each_event_once(old: SampleModel) -> None:
    holder = serving(old)
    model, prediction = holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert (model, prediction.path, old.asked) == (old, ("animal",), ["1"])


def test_in_the_shadow_the_old_model_answers_and_the_new_one_predicts_the_same_event_later(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=False))
    assert holder.look(STREAM, asking("1"))[0] is old
    assert new.asked == []
    holder.compare_waiting()
    assert new.asked == ["1"]
    figures = tried.tally.figures()
    assert (figures.events, figures.both, figures.alike) == (1, {"kingdom": 1}, {"kingdom": 1})


def test_in_the_canary_the_new_model_answers_its_streams_and_is_compared_all_the_same(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=True))
    assert holder.look(STREAM, asking("1"))[0] is new
    holder.compare_waiting()
    assert old.asked == ["1"]
    assert tried.tally.figures().events == 1


def test_an_event_that_a_candidate_fails_on_is_answered_by_the_serving_model(
    old: SampleModel, new: SampleModel
) -> None:
    new.error = RuntimeError("a bug")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=True))
    model, prediction = holder.look(STREAM, asking("1"))
    assert (model, prediction.path) == (old, ("animal",))
    assert tried.tally.figures().errors == 1


def test_a_candidate_that_fails_in_the_shadow_is_counted(old: SampleModel, new: SampleModel) -> None:
    new.error = ValueError("no number")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=False))
    holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert (tried.tally.figures().errors, tried.tally.figures().events) == (1, 0)


@pytest.mark.parametrize("answers", [True, False])
def test_an_event_that_both_refuse_is_the_events_fault(answers: bool, old: SampleModel, new: SampleModel) -> None:
    old.error = new.error = Rejected("image-broken", "no picture")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=answers))
    with pytest.raises(Rejected):
        holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert tried.tally.figures().errors == 0


def test_an_event_finishes_on_the_model_that_it_began_with(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)

    def swapped_meanwhile(model: SampleModel) -> AnswerSummary:
        holder.swap(new)
        return model.predict("1")

    assert holder.look(STREAM, swapped_meanwhile)[0] is old
    assert holder.look(STREAM, asking("2"))[0] is new


def test_no_event_waits_for_a_busy_shadow(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=False))
    for number in range(WAITING_MAX + 5):
        holder.look(STREAM, asking(str(number)))
    holder.compare_waiting()
    assert tried.tally.figures().dropped == 5
    assert len(old.asked) == WAITING_MAX + 5
    assert len(new.asked) == WAITING_MAX


def test_an_event_that_waited_for_an_ended_trial_is_not_compared(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    holder.try_out(trial(new, answers=False))
    holder.look(STREAM, asking("1"))
    holder.try_out(None)
    holder.compare_waiting()
    assert new.asked == []


def test_the_next_stage_of_a_trial_goes_on_with_its_figures(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    tally = TrialTally()
    holder.try_out(Trial(new, lambda _: False, tally))
    holder.look(STREAM, asking("1"))
    holder.try_out(Trial(new, lambda _: True, tally))
    holder.compare_waiting()
    assert tally.figures().events == 1


def test_listeners_are_called_after_the_swap_and_one_that_fails_undoes_nothing(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    calls: list[tuple[str, str]] = []

    def broken(_model: SampleModel) -> None:
        raise RuntimeError("a bug")

    holder.subscribe(broken)
    holder.subscribe(lambda model: calls.append((model.name, holder.model.name)))
    holder.swap(new)
    assert calls == [(NEW, NEW)]


def test_the_shadow_runs_on_a_thread_of_its_own_and_ends_on_stop(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    seen = threading.Event()
    holder.try_out(trial(new, answers=False))
    holder.start()
    holder.look(STREAM, lambda model: seen.set() or model.predict("1") if model is new else model.predict("1"))
    assert seen.wait(10)
    holder.stop()
    assert holder._thread is not None
    assert not holder._thread.is_alive()


# --- figures ---------------------------------------------------------------------------------------------------


def test_an_answer_with_a_newly_learned_label_is_no_disagreement() -> None:
    tally = TrialTally(gained=frozenset({"Lynx lynx"}))
    tally.add(
        AnswerSummary(("animal", "Canidae"), 0.9, 1.0),
        AnswerSummary(("animal", "Felidae", "Lynx lynx"), 0.9, 1.0),
    )
    tally.add(AnswerSummary(("animal", "Canidae"), 0.9, 1.0), AnswerSummary(("animal", "Felidae"), 0.9, 1.0))
    figures = tally.figures()
    assert (figures.gained, figures.both, figures.alike["family"]) == (1, {"kingdom": 1, "family": 1}, 0)


def test_persons_unknowns_probabilities_and_times_are_counted() -> None:
    tally = TrialTally()
    tally.add(AnswerSummary(("person",), 0.8, 1.0, person=True), AnswerSummary((), 0.4, 3.0))
    tally.add(AnswerSummary(("person",), 0.8, 2.0, person=True), AnswerSummary(("person",), 0.8, 4.0, person=True))
    figures = tally.figures()
    assert (figures.persons, figures.persons_missed) == (2, 1)
    assert (figures.unknown_old, figures.unknown_new) == (0, 1)
    assert (figures.probability_old, figures.probability_new) == (pytest.approx(0.8), pytest.approx(0.6))
    assert (figures.ms_old, figures.ms_new) == (1.5, 3.5)


def test_a_cloud_prediction_is_summarised_by_its_own_models_thresholds() -> None:
    def scores(rank: str, labels: tuple[str, ...], best: float) -> Scores:
        rest = (1 - best) / max(len(labels) - 1, 1)
        return Scores(rank, labels, np.array([best, *[rest] * (len(labels) - 1)], np.float32))

    prediction = CloudPrediction(
        scores("species", ("Felis catus", "Panthera leo"), 0.6),
        scores("family", ("Felidae", "Canidae"), 0.95),
        scores("kingdom", ("animal", "plant"), 0.99),
        1.5,
        "lite0@3",
        {"species": 0.7, "family": 0.5, "kingdom": 0.5},
        TREE,
    )
    summary = cloud_summary(prediction)
    assert (summary.path, summary.probability, summary.ms) == (("animal", "Felidae"), pytest.approx(0.6), 1.5)
