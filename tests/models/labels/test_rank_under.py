"""Where new labels belong, over the shipped tree."""

from __future__ import annotations

import pytest

from models.labels.rank_under import Placing, species_of
from models.labels.taxonomy import load_taxonomy
from models.labels.taxonomy_growth import grown
from pipeline.errors import Rejected
from pipeline.sums.new_labels import Claim, NewLabel, find_places

CIVET = NewLabel("Nandinia binotata", "animal", "Nandiniidae", "palm civet")


@pytest.fixture
def placing() -> Placing:
    return Placing(load_taxonomy())


def test_what_the_tree_has_needs_no_row(placing: Placing) -> None:
    for label in ("Felidae", "Panthera tigris", "person"):
        assert placing.knows(label)
        assert placing(label, "", "", ()) is None
    assert not placing.knows(CIVET.label)


def test_a_new_label_gets_the_row_that_it_asks_for(placing: Placing) -> None:
    assert placing(CIVET.label, "animal/Nandiniidae", "palm civet", ()) == CIVET
    assert placing("Nandinia nova", "Nandiniidae", "", [CIVET]) == NewLabel(
        "Nandinia nova", "animal", "Nandiniidae", "Nandinia nova"
    )
    assert placing("Nandiniidae", "", "", [CIVET]) is None


@pytest.mark.parametrize("under", ["", "Nandiniidae", "nowhere/Nandiniidae", "person/Nandiniidae"])
def test_a_place_that_there_is_not_is_refused(placing: Placing, under: str) -> None:
    with pytest.raises(Rejected):
        placing(CIVET.label, under, "", ())


def test_rows_that_were_found_grow_the_tree(placing: Placing) -> None:
    claims = [
        Claim("Nandinia nova", "Nandiniidae", "", 3, "e1"),
        Claim(CIVET.label, "animal/Nandiniidae", CIVET.english, 2, "e2"),
        Claim("Nobody", "", "", 9, "e3"),
    ]
    places = find_places(claims, placing)
    assert [row.label for row in places.rows] == [CIVET.label, "Nandinia nova"]
    assert [reason.reason for reason in places.complaints.values()] == ["unknown-label"]
    tree = grown(load_taxonomy(), species_of(places.rows))
    assert tree.path("Nandinia nova") == ("animal", "Nandiniidae", "Nandinia nova")
