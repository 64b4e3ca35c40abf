"""The label tree holds facts: one parent each, no orphan, families named as zoologists and botanists name them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models.labels.scores import Scores
from models.labels.taxonomy import IMAGENET_CLASSES, KINGDOMS, UnknownLabel, load_taxonomy, roll_up

TREE = load_taxonomy()


def test_every_species_has_exactly_one_row() -> None:
    assert [label for label, count in Counter(TREE.species).items() if count > 1] == []


def test_every_family_has_one_kingdom_and_every_kingdom_some_species() -> None:
    kingdoms = {family: {row.kingdom for row in TREE.rows if row.family == family} for family in TREE.families}
    assert [family for family, its in kingdoms.items() if len(its) != 1] == []
    assert {row.kingdom for row in TREE.rows} == set(KINGDOMS)


def test_every_node_has_the_parent_that_its_row_names_and_none_is_an_orphan() -> None:
    for position, row in enumerate(TREE.rows):
        family = TREE.families[TREE.family_of[position]]
        kingdom = TREE.kingdoms[TREE.kingdom_of[TREE.family_of[position]]]
        assert (kingdom, family, TREE.species[position]) == (row.kingdom, row.family, row.label)
    assert set(TREE.family_of.tolist()) == set(range(len(TREE.families)))
    assert set(TREE.kingdom_of.tolist()) == set(range(len(KINGDOMS)))
    assert len(TREE.family_of) == len(TREE.species) == len(TREE.rows)
    assert len(TREE.kingdom_of) == len(TREE.families)


def test_a_label_stands_at_one_place_of_the_tree() -> None:
    ranked = (
        set(KINGDOMS),
        set(TREE.families) - set(KINGDOMS),
        set(TREE.species) - set(TREE.families) - set(KINGDOMS),
    )
    assert sum(map(len, ranked)) == len(set().union(*ranked)) == len(TREE.paths)


def test_every_animal_family_ends_in_idae() -> None:
    families = {row.family for row in TREE.rows if row.kingdom == "animal"}
    assert [family for family in families if not family.endswith("idae")] == []
    assert len(families) > 150


def test_plant_families_end_in_aceae() -> None:
    assert all(row.family.endswith("aceae") for row in TREE.rows if row.kingdom == "plant")


def test_all_of_imagenet_s_classes_have_a_place_and_396_of_them_are_animals() -> None:
    to = TREE.imagenet_to_species()
    assert to.shape == (IMAGENET_CLASSES,)
    assert ((to >= 0) & (to < len(TREE.species))).all()
    kingdoms = Counter(KINGDOMS[TREE.kingdom_of[TREE.family_of[species]]] for species in to.tolist())
    assert kingdoms["animal"] == 396
    assert sum(kingdoms.values()) == IMAGENET_CLASSES
    for position, row in enumerate(TREE.rows):
        if row.label != "other":
            assert np.flatnonzero(to == position).tolist() == sorted(row.imagenet)


def test_every_imagenet_class_stands_for_one_species() -> None:
    named = Counter(number for row in TREE.rows for number in row.imagenet)
    assert max(named.values()) == 1
    assert set(named) <= set(range(IMAGENET_CLASSES))
    # Two of ImageNet's first 398 classes are fossils; the other 396 are living animals.
    assert set(range(398)) - set(named) == {51, 69}


@pytest.mark.parametrize(
    ("number", "path"),
    [
        (151, ("animal", "Canidae", "Canis familiaris")),
        (268, ("animal", "Canidae", "Canis familiaris")),
        (276, ("animal", "Hyaenidae", "Crocuta crocuta")),
        (281, ("animal", "Felidae", "Felis catus")),
        (292, ("animal", "Felidae", "Panthera tigris")),
        (340, ("animal", "Equidae", "Equus quagga")),
        (954, ("plant", "Musaceae", "Musa")),
        (983, ("person",)),
        (992, ("other", "Fungi", "Amanita muscaria")),
        (51, ("other",)),
        (504, ("other",)),
    ],
)
def test_imagenet_classes_lead_to_their_place(number: int, path: tuple[str, ...]) -> None:
    assert TREE.path(TREE.species[TREE.imagenet_to_species()[number]]) == path


def test_a_path_starts_at_a_kingdom_and_ends_at_its_label() -> None:
    for label, path in TREE.paths.items():
        assert path[0] in KINGDOMS
        assert path[-1] == label
        assert TREE.rank(label) == ("kingdom", "family", "species")[len(path) - 1]


@pytest.mark.parametrize("name", ["Tiger", "panthera tigris", "PANTHERA_TIGRIS"])
def test_a_species_is_found_by_any_of_its_names(name: str) -> None:
    assert TREE.find(name) == "Panthera tigris"
    assert TREE.english("Panthera tigris") == "tiger"


def test_an_unknown_label_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownLabel, match="did you mean 'Felidae'"):
        TREE.path("Felidea")
    with pytest.raises(UnknownLabel, match=r"has no 'xyzzy'$"):
        TREE.find("xyzzy")


def test_doubt_between_species_is_none_between_families() -> None:
    probabilities = np.zeros(len(TREE.species), np.float32)
    probabilities[[TREE.species.index("Panthera onca"), TREE.species.index("Panthera pardus")]] = 0.5
    family, kingdom = roll_up(TREE, Scores("species", TREE.species, probabilities))
    assert family.best == ("Felidae", 1.0)
    assert kingdom.best == ("animal", 1.0)
