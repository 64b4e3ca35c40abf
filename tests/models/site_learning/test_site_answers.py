"""A site's head refines what the general eye saw, and never what the cloud reads of it or how persons are looked
for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sample_lessons import DIMENSION, NEW, PATHS, SPACE, TREE, general, taught, vector

from models.labels.calibration import DEFAULT_THRESHOLDS
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy, roll_up
from models.site_learning.lesson_log import Learning
from models.site_learning.site_answers import SURE_FROM, ServedHead, SiteModels, refined
from models.vision.boxes import Box
from models.vision.tier_models import EdgePrediction


class FlatModel:
    """An eye to which all looks alike."""

    def __init__(self, name: str = "lite0@2", *, families_alone: bool = False) -> None:
        self.name, self.space, self.tree = name, SPACE, TREE
        self._families_alone = families_alone

    def predict(self, picture: np.ndarray, box: Box = Box.WHOLE) -> EdgePrediction:
        return self.predict_vector(picture)

    def predict_vector(self, vector: np.ndarray) -> EdgePrediction:
        flat = np.full(len(TREE.species), 1 / len(TREE.species), np.float32)
        species = Scores("species", TREE.species, flat)
        family, kingdom = roll_up(TREE, species)
        return EdgePrediction(
            family,
            kingdom,
            0.01,
            False,
            vector,
            1.0,
            self.name,
            DEFAULT_THRESHOLDS,
            TREE,
            None if self._families_alone else species,
        )


class One:
    """One eye for all streams."""

    def __init__(self, eye: FlatModel) -> None:
        self.eye = eye

    def look(self, source: str, ask: Callable[[FlatModel], EdgePrediction]) -> tuple[FlatModel, EdgePrediction]:
        return self.eye, ask(self.eye)


def look(eyes: SiteModels[FlatModel], label: str, seed: int = 99) -> EdgePrediction:
    return eyes.look("home/cam1/garden", lambda eye: eye.predict_vector(vector(label, seed)))[1]


def served(paths: tuple[tuple[str, ...], ...] = (*PATHS, NEW), visits: int = 40) -> ServedHead:
    learning = Learning.start(general(), site="home")
    for number in range(visits):
        learning, _ = learning.taught(taught(number, paths[number % len(paths)]))
    its = learning.served
    assert its is not None
    return its


@pytest.fixture(scope="module")
def site() -> ServedHead:
    return served()


def test_without_labels_the_general_eye_answers_under_its_own_name() -> None:
    eyes = SiteModels(One(FlatModel()))
    sight = look(eyes, "Felidae")
    assert (eyes.name_beside("lite0@2"), sight.model, sight.site) == ("lite0@2", "lite0@2", None)


def test_a_head_that_is_served_answers_from_the_next_sight_on(site: ServedHead) -> None:
    eyes = SiteModels(One(FlatModel()))
    eyes.serve(site)
    sight = look(eyes, "Vulpes vulpes")
    assert eyes.name_beside("lite0@2") == sight.model == "lite0@2+home.40"
    assert sight.family.best[0] == "Canidae"
    assert sight.site is not None
    assert sight.site.path == ("animal", "Canidae", "Vulpes vulpes")
    eyes.serve(None)
    assert look(eyes, "Vulpes vulpes").model == "lite0@2"


def test_a_word_goes_no_deeper_than_the_label_that_was_learned(site: ServedHead) -> None:
    word = refined(FlatModel().predict_vector(vector("Felidae", 99)), site).site
    assert word is not None
    assert word.path == ("animal", "Felidae")


def test_a_label_that_only_this_site_knows_is_said_surely_and_on_a_grown_tree(site: ServedHead) -> None:
    sight = refined(FlatModel().predict_vector(vector(NEW[-1], 99)), site)
    assert sight.site is not None
    assert (sight.site.path, sight.site.sure) == (NEW, True)
    assert sight.tree.path(NEW[-1]) == NEW
    assert isinstance(sight.tree, Taxonomy)


def test_what_is_likelier_than_not_none_of_the_labels_gets_no_word() -> None:
    site = replace(served(PATHS[:1], 1), weighed=True)
    flat = np.random.default_rng(0).integers(0, 255, DIMENSION).astype(np.uint8)
    sight = refined(FlatModel().predict_vector(flat), site)
    # One label that was seen once: three quarters of what comes is expected to be something else.
    assert sight.site is None
    assert sight.model == site.name


def test_before_its_visits_can_calibrate_it_a_site_has_a_word_for_its_own_species_alone(
    site: ServedHead,
) -> None:
    young = replace(site, weighed=False)
    assert refined(FlatModel().predict_vector(vector("Vulpes vulpes", 99)), young).site is None
    word = refined(FlatModel().predict_vector(vector(NEW[-1], 99)), young).site
    assert word is not None
    assert word.path == NEW
    assert served(PATHS, 9).weighed is False
    assert served(PATHS, 10).weighed is True


def test_only_a_likely_label_of_the_releases_tree_is_sure(site: ServedHead) -> None:
    for seed in range(30):
        word = refined(FlatModel().predict_vector(vector("Vulpes vulpes", 900 + seed)), site).site
        if word is not None and word.path[-1] == "Vulpes vulpes":
            assert word.sure == (word.probability >= SURE_FROM)


def test_sights_of_another_model_stay_as_they_are(site: ServedHead) -> None:
    eyes = SiteModels(One(FlatModel("lite0@3")))
    eyes.serve(site)
    assert eyes.name_beside("lite0@3") == "lite0@3"
    assert look(eyes, "Felidae").model == "lite0@3"
    alone = FlatModel(families_alone=True).predict_vector(vector("Felidae", 1))
    assert refined(alone, site) is alone


def test_the_vector_stays_and_persons_are_never_hidden(site: ServedHead) -> None:
    before = FlatModel().predict_vector(vector("other", 5))
    after = refined(before, site)
    assert after.vector is before.vector
    assert (after.person, after.person_raised) == (before.person, False)
    people = served((("person",), ("other",)), 12)
    assert refined(FlatModel().predict_vector(vector("person", 99)), people).person_raised, "but raised they may be"
