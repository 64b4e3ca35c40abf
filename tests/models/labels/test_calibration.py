"""Doubt rolls up the tree, temperatures make confidence honest, thresholds keep their stated risk."""

from __future__ import annotations

import numpy as np
import pytest

from models.labels.calibration import (
    UNKNOWN,
    answer,
    error_bound,
    expected_calibration_error,
    fit_temperature,
)
from models.labels.scores import Scores, softmax
from models.labels.taxonomy import load_taxonomy, roll_up

TREE = load_taxonomy()
THRESHOLDS = {"kingdom": 0.5, "family": 0.6, "species": 0.6}


def over_species(**probabilities: float) -> Scores:
    values = np.zeros(len(TREE.species), np.float32)
    for name, probability in probabilities.items():
        values[TREE.species.index(TREE.find(name))] = probability
    return Scores("species", TREE.species, values)


def answered(species: Scores) -> tuple[str, str]:
    found = answer(TREE, (species, *roll_up(TREE, species)), THRESHOLDS)
    return found.rank, found.label


def test_a_sure_species_is_answered() -> None:
    assert answered(over_species(tiger=0.9, lion=0.1)) == ("species", "Panthera tigris")


def test_doubt_between_cats_is_spent_at_the_family() -> None:
    assert answered(over_species(jaguar=0.5, leopard=0.45, wolf=0.05)) == ("family", "Felidae")


def test_doubt_between_families_is_spent_at_the_kingdom() -> None:
    assert answered(over_species(jaguar=0.4, wolf=0.4, rose=0.2)) == ("kingdom", "animal")


def test_doubt_between_kingdoms_is_unknown() -> None:
    found = answer(TREE, roll_up(TREE, over_species(jaguar=0.4, rose=0.3, person=0.3)), THRESHOLDS)
    assert (found.label, found.path, found.rank) == (UNKNOWN, (), "kingdom")
    assert found.probability == pytest.approx(0.4)


def test_a_leaf_is_a_kingdom_at_whatever_rank_it_was_answered() -> None:
    assert answered(over_species(person=0.9, jaguar=0.1)) == ("kingdom", "person")


def test_scores_of_one_rank_answer_too() -> None:
    _, kingdom = roll_up(TREE, over_species(tiger=0.9, rose=0.1))
    assert answer(TREE, (kingdom,), THRESHOLDS).path == ("animal",)


def test_a_temperature_makes_confidence_equal_accuracy() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (4000, 5)).astype(np.float32)
    truths = np.array([rng.choice(5, p=p / p.sum()) for p in softmax(honest).astype(float)], np.intp)
    boastful = honest * 3
    temperature = fit_temperature(boastful, truths)
    assert temperature == pytest.approx(3, rel=0.1)
    p = softmax(boastful / temperature)
    assert expected_calibration_error(p.max(1), p.argmax(1) == truths) < 0.03


def test_the_error_bound_is_clopper_and_pearsons() -> None:
    # Values of the exact binomial limit, e.g. qbeta(0.9, 1, 10) and qbeta(0.95, 3, 98) of R.
    assert error_bound(0, 10, 0.9) == pytest.approx(0.2057, abs=1e-3)
    assert error_bound(2, 100, 0.95) == pytest.approx(0.0616, abs=1e-3)
    assert error_bound(5, 5) == 1.0
