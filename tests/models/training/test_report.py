"""Figures count each photo at the ranks that its label reaches, and complaints name what was lost, where and how
much."""

from __future__ import annotations

import numpy as np

from models.labels.taxonomy import load_taxonomy
from models.labels.taxonomy_growth import grown, row_under
from models.training.report import Accuracy, Limits, TrainingFigures, complaints, figures, held_complaints

TREE = load_taxonomy()


def said(*labels: str) -> np.ndarray:
    """One photo a label, named with certainty."""
    return np.eye(len(TREE.species), dtype=np.float32)[[TREE.species.index(label) for label in labels]]


def test_a_right_family_counts_where_the_species_is_wrong() -> None:
    found = figures(TREE, said("Panthera leo", "Panthera leo"), ["Panthera tigris", "Panthera leo"])
    assert (found.ranks["species"], found.ranks["family"]) == (Accuracy(1, 2), Accuracy(2, 2))
    assert found.labels == Accuracy(1, 2)


def test_a_label_of_a_higher_rank_judges_at_its_rank() -> None:
    found = figures(TREE, said("Panthera leo", "Canis lupus"), ["Felidae", "animal"])
    assert (found.ranks["species"].of, found.ranks["family"], found.ranks["kingdom"]) == (
        0,
        Accuracy(1, 1),
        Accuracy(2, 2),
    )
    assert found.labels == Accuracy(2, 2)


def test_persons_are_counted_by_their_recall() -> None:
    assert figures(TREE, said("person", "other"), ["person", "person"]).persons == Accuracy(1, 2)


def test_a_tree_that_had_not_grown_names_a_new_species_wrong_and_its_family_right() -> None:
    tree = grown(TREE, (row_under(TREE, "Leopardus wiedii", "Felidae"),))
    found = figures(TREE, said("Panthera leo"), ["Leopardus wiedii"], tree)
    assert (found.ranks["species"], found.ranks["family"]) == (Accuracy(0, 1), Accuracy(1, 1))


def test_no_photos_have_no_figures() -> None:
    found = figures(TREE, said(), [])
    assert found.labels.rate == 0.0 and not found.classes


def of(species: int, felids: int, persons: int) -> TrainingFigures:
    ranks = {
        "kingdom": Accuracy(100, 100),
        "family": Accuracy(100, 100),
        "species": Accuracy(species, 100),
    }
    return TrainingFigures(
        ranks,
        {"Felidae": Accuracy(felids, 40), "Ursidae": Accuracy(felids, 5)},
        Accuracy(persons, 100),
        Accuracy(0, 0),
    )


def test_losses_beyond_the_limits_are_named() -> None:
    before = of(90, 5, 95)
    assert list(complaints("golden set", before, of(89, 4, 94), Limits())) == []
    lost = list(complaints("golden set", before, of(88, 2, 90), Limits()))
    assert [line.split(":")[0] for line in lost] == [
        "golden set, species",
        "golden set, persons",
        "golden set, Felidae",
    ]
    assert "90.0% -> 88.0% of 100, more than 1.0 points lost" in lost[0]


def test_one_held_out_event_is_always_forgiven() -> None:
    def few(right: int) -> TrainingFigures:
        nothing = Accuracy(0, 0)
        return TrainingFigures(
            dict.fromkeys(("kingdom", "family", "species"), Accuracy(right, 5)), {}, nothing, nothing
        )

    assert list(held_complaints(few(5), few(4), Limits())) == []
    assert len(list(held_complaints(few(5), few(3), Limits()))) == 3
