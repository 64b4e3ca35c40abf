"""The tree takes what people name, where they say it belongs, and nothing that would bend it."""

from __future__ import annotations

import pytest

from models.labels.taxonomy import Species, load_taxonomy
from models.labels.taxonomy_growth import grown, row_under, rows_of_tsv, rows_to_tsv
from pipeline.errors import Rejected

TREE = load_taxonomy()


def test_a_new_species_stands_under_a_known_family() -> None:
    tree = grown(TREE, (row_under(TREE, "Leopardus wiedii", "Felidae", "margay"),))
    assert tree.path("Leopardus wiedii") == ("animal", "Felidae", "Leopardus wiedii")
    assert tree.find("Margay") == "Leopardus wiedii"
    assert tree.species[: len(TREE.species)] == TREE.species
    assert tree.families == TREE.families


def test_a_new_family_stands_under_its_kingdom() -> None:
    first = row_under(TREE, "Solenodon paradoxus", "animal/Solenodontidae")
    tree = grown(TREE, (first,))
    tree = grown(tree, (row_under(tree, "Solenodon cubanus", "Solenodontidae"),))
    assert tree.path("Solenodon cubanus") == ("animal", "Solenodontidae", "Solenodon cubanus")
    assert tree.families[: len(TREE.families)] == TREE.families


@pytest.mark.parametrize(
    ("label", "under", "reason"),
    [
        ("Leopardus wiedii", "Felidea", "unknown-label"),
        ("Leopardus wiedii", "", "unknown-label"),
        ("Leopardus wiedii", "animal", "unknown-label"),
        ("Panthera leo", "Felidae", "bad-label"),
        ("Homo erectus", "person/Hominini", "bad-label"),
        ("Leopardus wiedii", "plant/Felidae", "bad-label"),
        ("Leopardus wiedii", "animal/Panthera leo", "bad-label"),
        ("a/b", "Felidae", "bad-label"),
        ("a\tb", "Felidae", "bad-label"),
        ("a\nb", "Felidae", "bad-label"),
        ("x" * 81, "Felidae", "bad-label"),
        ("", "Felidae", "bad-label"),
    ],
)
def test_what_cannot_stand_there_is_refused(label: str, under: str, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        row_under(TREE, label, under)
    assert refused.value.reason == reason


def test_a_row_that_moves_a_family_is_refused() -> None:
    with pytest.raises(Rejected, match="Felidae is no family of kingdom plant"):
        grown(TREE, (Species("plant", "Felidae", "Cattus plantus", "cat plant", (), ()),))


def test_rows_are_read_back_from_their_table() -> None:
    rows = (row_under(TREE, "Solenodon paradoxus", "animal/Solenodontidae", "Hispaniolan solenodon"),)
    assert rows_of_tsv(rows_to_tsv(rows)) == rows
    assert rows_of_tsv(rows_to_tsv(())) == ()


@pytest.mark.parametrize("data", [b"", b"\xff", b"kingdom\tfamily\n", rows_to_tsv(()) + b"only\ttwo\n"])
def test_another_table_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected, match="no table"):
        rows_of_tsv(data)
