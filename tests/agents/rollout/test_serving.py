"""The eyes that a tier answers with: which one an event sees, what is compared beside it, and that no event waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from agents.rollout.serving import WAITING_MAX, Serving, Trial
from agents.rollout.shadow import Glance, Tally, cloud_glance
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.vision.tier_models import CloudPrediction
from pipeline.errors import Rejected

TREE = load_taxonomy()
STREAM = "home/cam1/garden"


class SampleModel:
    """Answers a path, and remembers what it was asked."""

    space = "sample"
    tree: Taxonomy = TREE

    def __init__(self, name: str, path: tuple[str, ...] = ("animal",)) -> None:
        self.name = name
        self.path = path
        self.asked: list[str] = []
        self.error: Exception | None = None

    def predict(self, event: str) -> Glance:
        self.asked.append(event)
        if self.error is not None:
            raise self.error
        return Glance(self.path, 0.9, 1.0)


def serving(eye: SampleModel) -> Serving[SampleModel]:
    return Serving(eye, lambda prediction: prediction)


def asking(event: str) -> Callable[[SampleModel], Glance]:
    return lambda eye: eye.predict(event)


def trial(eye: SampleModel, *, answers: bool) -> Trial[SampleModel]:
    return Trial(eye, lambda _stream: answers, Tally())


OLD, NEW = "lite0@2", "lite0@3"


@pytest.fixture
def old() -> SampleModel:
    return SampleModel(OLD)


@pytest.fixture
def new() -> SampleModel:
    return SampleModel(NEW, ("animal", "Felidae"))


def test_without_a_trial_one_eye_sees_each_event_once(old: SampleModel) -> None:
    holder = serving(old)
    eye, sight = holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert (eye, sight.path, old.asked) == (old, ("animal",), ["1"])


def test_in_the_shadow_the_old_eye_answers_and_the_new_one_sees_the_same_event_later(
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


def test_in_the_canary_the_new_eye_answers_its_streams_and_is_compared_all_the_same(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=True))
    assert holder.look(STREAM, asking("1"))[0] is new
    holder.compare_waiting()
    assert old.asked == ["1"]
    assert tried.tally.figures().events == 1


def test_an_event_that_a_candidate_fails_on_is_answered_by_what_serves(
    old: SampleModel, new: SampleModel
) -> None:
    new.error = RuntimeError("a bug")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=True))
    eye, sight = holder.look(STREAM, asking("1"))
    assert (eye, sight.path) == (old, ("animal",))
    assert tried.tally.figures().errors == 1


def test_a_candidate_that_fails_in_the_shadow_is_counted(old: SampleModel, new: SampleModel) -> None:
    new.error = ValueError("no number")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=False))
    holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert (tried.tally.figures().errors, tried.tally.figures().events) == (1, 0)


@pytest.mark.parametrize("answers", [True, False])
def test_an_event_that_both_refuse_is_the_events_fault(
    answers: bool, old: SampleModel, new: SampleModel
) -> None:
    old.error = new.error = Rejected("image-broken", "no picture")
    holder = serving(old)
    holder.try_out(tried := trial(new, answers=answers))
    with pytest.raises(Rejected):
        holder.look(STREAM, asking("1"))
    holder.compare_waiting()
    assert tried.tally.figures().errors == 0


def test_an_event_finishes_on_the_eye_that_it_began_with(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)

    def swapped_meanwhile(eye: SampleModel) -> Glance:
        holder.swap(new)
        return eye.predict("1")

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


def test_what_waited_for_a_trial_that_is_over_is_not_looked_at(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    holder.try_out(trial(new, answers=False))
    holder.look(STREAM, asking("1"))
    holder.try_out(None)
    holder.compare_waiting()
    assert new.asked == []


def test_the_next_stage_of_a_trial_goes_on_with_its_figures(old: SampleModel, new: SampleModel) -> None:
    holder = serving(old)
    tally = Tally()
    holder.try_out(Trial(new, lambda _: False, tally))
    holder.look(STREAM, asking("1"))
    holder.try_out(Trial(new, lambda _: True, tally))
    holder.compare_waiting()
    assert tally.figures().events == 1


def test_listeners_are_told_after_the_swap_and_one_that_fails_undoes_nothing(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    told: list[tuple[str, str]] = []

    def broken(_eye: SampleModel) -> None:
        raise RuntimeError("a bug")

    holder.subscribe(broken)
    holder.subscribe(lambda eye: told.append((eye.name, holder.model.name)))
    holder.swap(new)
    assert told == [(NEW, NEW)]


def test_the_shadow_runs_on_a_thread_of_its_own_and_ends_when_told(
    old: SampleModel, new: SampleModel
) -> None:
    holder = serving(old)
    seen = threading.Event()
    holder.try_out(trial(new, answers=False))
    holder.start()
    holder.look(STREAM, lambda eye: seen.set() or eye.predict("1") if eye is new else eye.predict("1"))
    assert seen.wait(10)
    holder.stop()
    assert holder._thread is not None
    assert not holder._thread.is_alive()


# --- figures ---------------------------------------------------------------------------------------------------


def test_an_event_that_now_bears_a_label_just_learned_is_no_disagreement() -> None:
    tally = Tally(gained=frozenset({"Lynx lynx"}))
    tally.add(Glance(("animal", "Canidae"), 0.9, 1.0), Glance(("animal", "Felidae", "Lynx lynx"), 0.9, 1.0))
    tally.add(Glance(("animal", "Canidae"), 0.9, 1.0), Glance(("animal", "Felidae"), 0.9, 1.0))
    figures = tally.figures()
    assert (figures.gained, figures.both, figures.alike["family"]) == (1, {"kingdom": 1, "family": 1}, 0)


def test_persons_unknowns_sureness_and_times_are_counted() -> None:
    tally = Tally()
    tally.add(Glance(("person",), 0.8, 1.0, person=True), Glance((), 0.4, 3.0))
    tally.add(Glance(("person",), 0.8, 2.0, person=True), Glance(("person",), 0.8, 4.0, person=True))
    figures = tally.figures()
    assert (figures.persons, figures.persons_missed) == (2, 1)
    assert (figures.unknown_old, figures.unknown_new) == (0, 1)
    assert (figures.sure_old, figures.sure_new) == (pytest.approx(0.8), pytest.approx(0.6))
    assert (figures.ms_old, figures.ms_new) == (1.5, 3.5)


def test_a_clouds_sight_is_read_by_its_own_eyes_thresholds() -> None:
    def scores(rank: str, labels: tuple[str, ...], best: float) -> Scores:
        rest = (1 - best) / max(len(labels) - 1, 1)
        return Scores(rank, labels, np.array([best, *[rest] * (len(labels) - 1)], np.float32))

    sight = CloudPrediction(
        scores("species", ("Felis catus", "Panthera leo"), 0.6),
        scores("family", ("Felidae", "Canidae"), 0.95),
        scores("kingdom", ("animal", "plant"), 0.99),
        1.5,
        "lite0@3",
        {"species": 0.7, "family": 0.5, "kingdom": 0.5},
        TREE,
    )
    glance = cloud_glance(sight)
    assert (glance.path, glance.sure, glance.ms) == (("animal", "Felidae"), pytest.approx(0.6), 1.5)
