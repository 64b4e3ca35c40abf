"""A camera's frames come in their order, fall into visits, and carry the labels that a CSV gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.evaluation.frame_sequence import parse_time, read_sequence, time_in, with_label
from models.labels.taxonomy import UnknownLabel, load_taxonomy
from pipeline.errors import Stop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg"):
        file = tmp_path / "frames" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return tmp_path / "frames"


def csv(folder: Path, text: str) -> Path:
    file = folder.parent / "labels.csv"
    file.write_text(text, "utf-8")
    return file


def test_frames_within_a_gap_are_one_visit(folder: Path) -> None:
    rows = "path,label,time\na/1.jpg,cat,100\na/2.jpg,,20\nb/1.jpg,empty,25\nb/3.jpg,,110\n"
    sequence = read_sequence(folder, csv(folder, rows), gap_s=10)
    assert [[frame.name for frame in event.frames] for event in sequence.events] == [
        ["a/2.jpg", "b/1.jpg"],
        ["a/1.jpg", "b/3.jpg"],
    ]
    assert sequence.timed
    assert sequence.labels == ("other", "Felis catus")


def test_the_event_column_says_what_belongs_together(folder: Path) -> None:
    rows = "path,label,event\na/1.jpg,cat,x\na/2.jpg,,y\nb/1.jpg,,x\n"
    sequence = read_sequence(folder, csv(folder, rows))
    assert {event.name: len(event.frames) for event in sequence.events} == {"x": 2, "y": 1, "b/3.jpg": 1}
    assert not sequence.timed


def test_a_file_is_found_by_its_name_alone(folder: Path) -> None:
    sequence = read_sequence(folder, csv(folder, "path,label\n3.jpg,Felidae\n2.jpg,person\n"))
    assert {f.name: f.label for e in sequence.events for f in e.frames if f.label} == {
        "b/3.jpg": "Felidae",
        "a/2.jpg": "person",
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("path,label\n1.jpg,cat\n2.jpg,cat\n", "2 frames have this name"),
        ("path,label\n9.jpg,cat\n2.jpg,cat\n", "no such frame"),
        ("path,label\n2.jpg,cat\na/2.jpg,wolf\n", "has two rows"),
        ("path,label\n2.jpg,Felida\n", "did you mean 'Felidae'"),
        ("path,label\n2.jpg,Felida/Panthera nova\n", "did you mean 'Felidae'"),
        ("path,label,time\n2.jpg,cat,noon\n", "is no time"),
        ("path,label\n9.jpg,cat\n", "not one row is about a frame"),
        ("file,label\n2.jpg,cat\n", "needs the columns path and label"),
    ],
)
def test_a_row_that_cannot_be_used_is_told(folder: Path, rows: str, said: str) -> None:
    with pytest.raises(Stop, match=said):
        read_sequence(folder, csv(folder, rows))


def test_bad_rows_can_be_left_out(folder: Path) -> None:
    rows = "path,label\n9.jpg,cat\n2.jpg,cat\nb/1.jpg,nonsense\n"
    sequence = read_sequence(folder, csv(folder, rows), skip_bad=True)
    assert len(sequence.left_out) == 2
    assert sequence.labels == ("Felis catus",)


def test_a_folder_without_frames_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no such folder"):
        read_sequence(tmp_path / "nowhere", tmp_path / "labels.csv")
    with pytest.raises(Stop, match="no frames there"):
        read_sequence(tmp_path, tmp_path / "labels.csv")


def test_times_are_read_as_cameras_and_people_write_them() -> None:
    assert parse_time("90.5") == 90.5
    assert parse_time("1970:01:01 00:01:00") == parse_time("1970-01-01T01:01:00+01:00") == 60
    assert time_in("cam_1970-01-01_00.02.00.jpg") == 120
    assert time_in("IMG_0042.jpg") is time_in("20251399_250000.jpg") is None
    for text in ("noon", "nan"):
        with pytest.raises(ValueError, match=text):
            parse_time(text)


def test_a_new_species_needs_a_family_of_the_tree() -> None:
    tree = load_taxonomy()
    grown, label = with_label(tree, "Canidae / Speothos venaticus")
    assert grown.path(label) == ("animal", "Canidae", "Speothos venaticus")
    assert grown.species[: len(tree.species)] == tree.species
    assert with_label(tree, "Felidae/tiger") == (tree, "Panthera tigris")
    for name in ("Nonsense/Panthera nova", "animal/Panthera nova", "Felidae/", "Nonsense"):
        with pytest.raises(UnknownLabel):
            with_label(tree, name)
