"""One training around `models.training.retrain`: its inputs, and the record of a training that fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_labelled import NEW, events, labelled, vectors

from agents.trainer.reports import Reports
from agents.trainer.training_run import TrainingPipeline, about_of, held_of, limits_of
from agents.trainer.triggers import Trigger
from models.labels.rank_under import Placing
from models.releases.repository import Repository
from models.releases.targets import Current
from models.shipped import load_zoo
from models.training.report import Limits
from pipeline.clock import SystemClock
from pipeline.settings.settings import TrainerSettings
from pipeline.sums.fold import Fold
from pipeline.sums.fold_records import FoldRecord, Snapshot
from pipeline.sums.votes import held_out

BY_HAND = Trigger("by-hand", "to see")


@pytest.fixture
def pipeline(tmp_path: Path) -> TrainingPipeline:
    zoo = load_zoo()
    repository = Repository.open(tmp_path / "releases", tmp_path / "keys", SystemClock())
    return TrainingPipeline(zoo.base(), zoo.golden(), repository, Reports(tmp_path), TrainerSettings(), SystemClock())


@pytest.fixture
def fold(pipeline: TrainingPipeline, tmp_path: Path) -> Iterator[Fold]:
    sums = pipeline.base.sums
    fold = Fold(tmp_path / "fold.db", sums.space, sums.dimension, Placing(pipeline.base.tree))
    yield fold
    fold.close()


def test_nothing_to_learn_from_is_a_failed_training_with_its_report(pipeline: TrainingPipeline, fold: Fold) -> None:
    record = pipeline.train(fold.snapshot(), BY_HAND, request_id="w1")
    assert (record.outcome, record.title, record.wish) == ("failed", "lite0@3", "w1")
    assert record.why[0].startswith("too-few-events: ")
    assert pipeline.reports.last == record
    assert (pipeline.repository.versions, pipeline.repository.current) == ((), None)


def taught(fold: Fold) -> Snapshot:
    """Twelve events in one partition."""
    pairs = zip(events(12), vectors(12), strict=True)
    taken = [FoldRecord("labelled", 3, 7 + n, labelled(event, data)) for n, (event, data) in enumerate(pairs)]
    assert fold.take(taken) == []
    return fold.snapshot()


@pytest.mark.slow
def test_a_golden_set_of_another_space_fails_the_training(pipeline: TrainingPipeline, fold: Fold) -> None:
    other = replace(pipeline, golden=replace(pipeline.golden, space="other"))
    record = other.train(taught(fold), BY_HAND)
    assert (record.outcome, record.why[0].partition(":")[0]) == ("failed", "golden-mismatch")


@pytest.mark.slow
def test_a_bug_fails_one_training_and_not_the_role(pipeline: TrainingPipeline, fold: Fold) -> None:
    broken = replace(pipeline, golden=None)  # type: ignore[arg-type]  # that is the bug
    record = broken.train(taught(fold), BY_HAND)
    assert (record.outcome, record.why[0].partition(":")[0]) == ("failed", "internal-error")
    assert pipeline.reports.next_number == 2


def test_a_training_is_given_the_judges_and_where_all_of_it_came_from(fold: Fold) -> None:
    snapshot = taught(fold)
    held = held_of(snapshot)
    assert [judge.event for judge in held.events] == [event for event in events(12) if held_out(event)]
    assert {(judge.site, judge.label) for judge in held.events} == {("home", NEW)}
    assert (held.vectors.dtype, held.vectors.shape) == (np.dtype(np.uint8), (len(held.events), 256))
    about = about_of(snapshot, BY_HAND, 0.0)
    assert about.offsets == {"labelled/3": "7-18"}
    assert about.first_last == {"home": ("new-000", "new-011")}
    assert about.trigger == "by-hand: to see"


def test_margins_of_the_settings_are_the_limits(pipeline: TrainingPipeline) -> None:
    assert limits_of(TrainerSettings()) == Limits()
    assert limits_of(TrainerSettings(person_margin=0.2)).person == 0.2


def test_the_shipped_model_serves_until_something_was_released_and_after_a_rollback_to_it(
    pipeline: TrainingPipeline,
) -> None:
    assert pipeline.serving() is None
    pipeline.repository.serve(Current(version=0, why="back", by="ann"))
    assert pipeline.serving() is None
    pipeline.repository.release(3, {"manifest.json": b"{}"}, Current(version=3, why="odd", by="ann"))
    assert pipeline.serving() is None
