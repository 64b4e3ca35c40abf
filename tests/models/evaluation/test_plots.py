"""Pictures of an evaluation: three small SVGs, the same bytes each time."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sample_outcomes import JAGUAR, TIGER, WOLF, outcome, report

from models.evaluation.plots import draw
from pipeline.errors import Stop

SMALL_BYTES = 60_000


@pytest.fixture(autouse=True)
def needs_matplotlib() -> None:
    pytest.importorskip("matplotlib")


@pytest.mark.slow
def test_three_small_pictures_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    its = report(
        *[outcome(TIGER, probability=p / 20) for p in range(1, 20)],
        outcome(TIGER, WOLF),
        outcome(JAGUAR),
        outcome(WOLF, answered={"edge": ()}),
        outcome(("person",)),
    )
    first, again = draw(its, tmp_path / "a"), draw(its, tmp_path / "b")
    assert [file.name for file in first] == ["reliability.svg", "answered.svg", "families.svg"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert len(one.read_bytes()) < SMALL_BYTES
        assert ElementTree.parse(one).getroot().tag.endswith("svg")
    assert b"Felidae (21)" in first[2].read_bytes()


@pytest.mark.slow
def test_one_photo_is_enough_and_where_no_family_is_known_none_is_drawn(tmp_path: Path) -> None:
    assert len(draw(report(outcome(TIGER)), tmp_path)) == 3
    assert len(draw(report(outcome(("animal",), TIGER)), tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Stop, match="pictures cannot be written"):
        draw(report(outcome(TIGER)), tmp_path / "file")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Stop, match=r"pip install 'tierwise\[pictures\]'"):
        draw(report(outcome(TIGER)), tmp_path)
