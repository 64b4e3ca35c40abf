"""Pictures go into folders by label; persons go nowhere unless asked, and no name leads out of the target."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.exports import ExportRow, PictureSorter
from pipeline.errors import Stop


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for name in ("cam1/a.jpg", "cam2/a.jpg", "two\nlines.jpg", "person.jpg"):
        file = tmp_path / "card" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "secret.jpg").write_text("secret")
    return tmp_path / "card"


ROWS = [
    ExportRow(path="cam1/a.jpg", label="Felis catus"),
    ExportRow(path="cam2/a.jpg", label="Felis catus"),
    ExportRow(path="two\nlines.jpg", label="../../out"),
    ExportRow(path="person.jpg", label="person", person=True),
    ExportRow(path="broken.jpg", refused="image-truncated: cut"),
    ExportRow(path="../secret.jpg", label="Felis catus"),
]


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("link", [False, True])
def test_equal_names_do_not_meet_and_persons_stay(card: Path, tmp_path: Path, link: bool) -> None:
    sorter = PictureSorter(card, tmp_path / "sorted", link=link)
    assert list(sorter.sorted(ROWS)) == ROWS
    assert names(tmp_path / "sorted") == {
        "Felis catus/cam1/a.jpg",
        "Felis catus/cam2/a.jpg",
        "__.._out/two\nlines.jpg",
    }
    assert (tmp_path / "sorted" / "Felis catus" / "cam2" / "a.jpg").read_text() == "cam2/a.jpg"
    assert (tmp_path / "sorted" / "Felis catus" / "cam1" / "a.jpg").samefile(card / "cam1" / "a.jpg") is link
    assert sorter.placed == 3
    assert set(sorter.left) == {"a person may be in the picture", "refused", "not a file of the folder"}
    assert names(card) == {"cam1/a.jpg", "cam2/a.jpg", "two\nlines.jpg", "person.jpg"}


def test_persons_are_sorted_where_somebody_asks(card: Path, tmp_path: Path) -> None:
    PictureSorter(card, tmp_path / "sorted", persons=True).place(ROWS[3])
    assert names(tmp_path / "sorted") == {"person/person.jpg"}


def test_sorting_again_changes_nothing(card: Path, tmp_path: Path) -> None:
    for _ in range(2):
        list(PictureSorter(card, tmp_path / "sorted").sorted(ROWS))
    assert len(names(tmp_path / "sorted")) == 3


def test_a_link_out_of_the_card_or_the_target_is_not_followed(card: Path, tmp_path: Path) -> None:
    (card / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "Felis catus").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    sorter = PictureSorter(card, tmp_path / "sorted")
    assert sorter.place(ExportRow(path="link.jpg", label="cat")) == "not a file of the folder"
    assert sorter.place(ROWS[0]) == "its folder leads out of the target"
    assert names(tmp_path / "elsewhere") == set()


def test_a_target_that_cannot_be_written_is_named(card: Path, tmp_path: Path) -> None:
    (tmp_path / "sorted").write_text("a file")
    with pytest.raises(Stop, match="not written"):
        PictureSorter(card, tmp_path / "sorted").place(ROWS[0])
