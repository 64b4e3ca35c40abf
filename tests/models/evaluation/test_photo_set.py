"""Labelled photos are read from folders and lists; what is wrong with them is told at once, or left out and told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.evaluation.photo_set import read_photos
from models.vision.images import encode_jpeg
from pipeline.errors import Stop


def photo(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (200, 260, 3), np.uint8)
    return encode_jpeg(cv2.GaussianBlur(noise, (0, 0), 5).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for at, label in enumerate(("tiger", "Felidae", "person", "rose", "other")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(photo(at))
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_a_folder_is_read_with_labels_of_any_rank(folder: Path) -> None:
    assert sorted(its.truth for its in read_photos(folder).photos) == [
        ("animal", "Felidae"),
        ("animal", "Felidae", "Panthera tigris"),
        ("other",),
        ("person",),
        ("plant", "Rosaceae", "Rosa"),
    ]


def test_a_csv_is_read_relative_to_itself(folder: Path) -> None:
    (only,) = read_photos(write(folder / "list.csv", "path,label\ntiger/1.jpg, Panthera tigris \n")).photos
    assert only.truth[-1] == "Panthera tigris"
    assert only.camera == str(folder / "tiger")
    assert only.read() == photo(0)


def test_a_csv_that_a_spreadsheet_wrote_is_read(folder: Path) -> None:
    file = folder / "list.csv"
    file.write_bytes(b"\xef\xbb\xbfpath,label,note\r\ntiger/1.jpg,tiger,by night\r\n")
    assert len(read_photos(file).photos) == 1


def test_what_is_wrong_with_a_folder_is_listed_at_once(folder: Path) -> None:
    (folder / "tigre").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / "tigre" / name).write_bytes(photo(9))
    (folder / "tiger" / "2.jpg").write_bytes(photo(9)[:50])
    (folder / "3.jpg").write_bytes(photo(9))
    with pytest.raises(Stop) as stopped:
        read_photos(folder)
    told = str(stopped.value)
    assert "tigre/1.jpg and 1 more: the label tree has no 'tigre'; did you mean 'Panthera tigris'" in told
    assert "2.jpg: the JPEG ends after 50 bytes" in told
    assert "3.jpg: in no folder that is named after a label" in told
    assert "labels.csv" in told and "--skip-bad" in told


def test_bad_photos_are_left_out_where_that_is_asked_for(folder: Path) -> None:
    (folder / "tigre").mkdir()
    (folder / "tigre" / "1.jpg").write_bytes(photo(9))
    (folder / "tiger" / "2.jpg").write_bytes(photo(9)[:50])
    labelled = read_photos(folder, skip_bad=True)
    assert len(labelled.photos) == 5
    assert len(labelled.left_out) == 2


def test_nothing_left_is_refused_with_its_reasons(tmp_path: Path) -> None:
    (tmp_path / "tiger").mkdir()
    (tmp_path / "tiger" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(Stop, match=r"holds no photos that can be used(?s:.*)neither JPEG nor PNG"):
        read_photos(tmp_path, skip_bad=True)


@pytest.mark.parametrize("beside", [True, False])
def test_folders_whose_names_are_no_labels_are_mapped(folder: Path, tmp_path: Path, beside: bool) -> None:
    (folder / "tigre").mkdir()
    (folder / "tigre" / "1.jpg").write_bytes(photo(9))
    file = write(folder / "labels.csv" if beside else tmp_path / "map.csv", "name,label\ntigre,tiger\nFelidae,-\n")
    photos = read_photos(folder, labels_map=None if beside else file).photos
    truths = [its.truth[-1] for its in photos]
    assert truths.count("Panthera tigris") == 2
    assert "Felidae" not in truths


def test_a_map_to_a_label_that_is_none_is_told(folder: Path) -> None:
    write(folder / "labels.csv", "name,label\ntiger,tigre\n")
    with pytest.raises(Stop, match="has no 'tigre'"):
        read_photos(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "needs the columns path and label; it has none"),
        ("file,label\n", "it has file, label"),
        ("path,label\n", "no photos"),
        ("path,label\ngone.jpg,tiger\n", r"gone\.jpg: it cannot be read: No such file"),
        ("path,label\ntiger/1.jpg\n", "tiger/1.jpg: no label"),
    ],
)
def test_a_csv_without_what_it_needs_is_refused(folder: Path, content: str, complaint: str) -> None:
    with pytest.raises(Stop, match=complaint):
        read_photos(write(folder / "list.csv", content))


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(Stop, match="cannot be read"):
        read_photos(tmp_path / "list.csv")


def test_an_empty_or_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="holds no photos"):
        read_photos(tmp_path)
    with pytest.raises(Stop, match="cannot be read"):
        read_photos(tmp_path / "absent.csv")
