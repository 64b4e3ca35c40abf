"""Evaluation: every photo counts at the ranks that its label reaches, and bad input is listed before anything runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.evaluate import AtRank, evaluate, read_photos, render
from models.images import encode_jpeg
from models.registry import load_zoo
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


def test_a_folder_is_read_with_labels_of_any_rank(folder: Path) -> None:
    assert sorted(its.truth for its in read_photos(folder)) == [
        ("animal", "Felidae"),
        ("animal", "Felidae", "Panthera tigris"),
        ("other",),
        ("person",),
        ("plant", "Rosaceae", "Rosa"),
    ]


def test_a_csv_is_read_relative_to_itself(folder: Path) -> None:
    (folder / "labels.csv").write_text("path,label\ntiger/1.jpg,Panthera tigris\n", encoding="utf-8")
    (only,) = read_photos(folder / "labels.csv")
    assert only.truth[-1] == "Panthera tigris"


def test_every_photo_counts_at_the_ranks_that_its_label_reaches(folder: Path) -> None:
    report = evaluate(read_photos(folder), load_zoo())
    assert report.photos == 5
    # Felidae has no species; the leaves person and other count at every rank.
    assert {key: its.photos for key, its in report.ranks.items()} == {
        ("device", "kingdom"): 5,
        ("edge", "kingdom"): 5,
        ("edge", "family"): 5,
        ("cloud", "kingdom"): 5,
        ("cloud", "family"): 5,
        ("cloud", "species"): 4,
    }
    assert report.bytes["edge to cloud"] == 256
    assert report.person_recall in (0.0, 1.0)
    text = render(report)
    assert text.startswith("5 photos\n")
    assert "| cloud | species |" in text


def test_what_is_wrong_with_a_folder_is_listed_at_once(folder: Path) -> None:
    (folder / "tigre").mkdir()
    (folder / "tigre" / "1.jpg").write_bytes(photo(9))
    (folder / "tiger" / "2.jpg").write_bytes(photo(9)[:50])
    with pytest.raises(Stop) as stopped:
        read_photos(folder)
    assert "has no 'tigre'; did you mean" in str(stopped.value)
    assert "2.jpg: the JPEG ends after 50 bytes" in str(stopped.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "needs the columns path and label; it has none"),
        ("file,label\n", "it has"),
        ("path,label\n", "no photos"),
    ],
)
def test_a_csv_without_what_it_needs_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    with pytest.raises(Stop, match=complaint):
        read_photos(tmp_path / "labels.csv")


def test_an_empty_or_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="holds no photos"):
        read_photos(tmp_path)
    with pytest.raises(Stop, match="cannot be read"):
        read_photos(tmp_path / "absent.csv")


def test_nothing_answered_is_no_division_by_zero() -> None:
    nothing = AtRank(photos=0, answered=0, right=0, best_right=0, calibration_error=0.0)
    assert (nothing.accuracy_when_answered, nothing.share_answered, nothing.accuracy_if_forced) == (
        0.0,
        0.0,
        0.0,
    )
