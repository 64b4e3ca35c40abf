"""`tierwise training replay`: a fixed camera's frames, some of them labelled, and what is said of the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from exif_samples import looped

from agents.cli import main
from models.vision.images import encode_jpeg

COLOURS = {"cat": (30, 30, 220), "wolf": (40, 200, 40)}
VISITS = ("cat", "wolf", "empty", "cat", "wolf", "empty", "cat", "wolf", "cat", "wolf")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def frame(label: str, seed: int) -> np.ndarray:
    """One backdrop, and a striped patch of its label's colour somewhere before it."""
    backdrop = np.random.default_rng(0).integers(60, 160, (12, 16, 3)).astype(np.uint8)
    picture = cv2.resize(backdrop, (160, 120), interpolation=cv2.INTER_CUBIC)
    if label in COLOURS:
        rng = np.random.default_rng(seed)
        left, top = int(rng.integers(0, 110)), int(rng.integers(0, 70))
        picture[top : top + 50, left : left + 50] = COLOURS[label]
        picture[top : top + 50 : 8, left : left + 50] = 255 if label == "cat" else 0
    return picture


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames, two a visit."""
    folder = tmp_path_factory.mktemp("trap") / "frames"
    folder.mkdir()
    for visit, label in enumerate(VISITS):
        for at in range(2):
            (folder / f"{visit:02d}-{at}.jpg").write_bytes(encode_jpeg(frame(label, 10 * visit + at)))
    return folder


def labels(tmp_path: Path, labelled: int, more: str = "") -> Path:
    """Times and events of all frames, labels of the first visits."""
    rows = ["path,label,time,event"]
    for visit, label in enumerate(VISITS):
        for at in range(2):
            given = label if visit < labelled else ""
            rows.append(f"{visit:02d}-{at}.jpg,{given},{1000 * visit + at},visit{visit}")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(rows) + "\n" + more, "utf-8")
    return file


@pytest.mark.slow
def test_a_frame_whose_exif_directories_go_in_a_circle_and_an_unreadable_one_end_nothing(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(frames, tmp_path / "frames")
    (folder / "circle.jpg").write_bytes(looped())
    (folder / "eio.jpg").symlink_to("/proc/self/mem")  # reading its first byte fails with EIO
    file = labels(tmp_path, 7)
    words = (
        "training",
        "replay",
        "--frames",
        str(folder),
        "--labels",
        str(file),
        "--stream",
        "trap",
        "--json",
    )
    assert run(*words) == 0
    out, err = capsys.readouterr()
    answers, _ = told(out)
    assert "circle.jpg" in [answer["file"] for answer in answers]
    assert "eio.jpg: it cannot be read: Input/output error" in err


def told(text: str) -> tuple[list[dict], dict]:
    *answers, last = [json.loads(line) for line in text.splitlines()]
    return answers, last["summary"]


@pytest.mark.slow
def test_frames_without_a_label_are_answered_and_damaged_ones_left_out_with_a_word(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(frames, tmp_path / "frames")
    (folder / "09-1.jpg").write_bytes(b"\xff\xd8 nothing more")
    file = labels(tmp_path, 7)
    assert run("training", "replay", "--frames", str(folder), "--labels", str(file), "--stream", "trap", "--json") == 0
    out, err = capsys.readouterr()
    answers, summary = told(out)
    assert [its["file"] for its in answers] == ["07-0.jpg", "07-1.jpg", "08-0.jpg", "08-1.jpg", "09-0.jpg"]
    assert {its["model"] for its in answers} == {"lite0@2+trap.7"}
    assert [its["likeliest"][-1] for its in answers[::2]] == ["Canis lupus", "Felis catus", "Canis lupus"]
    assert summary["lessons"] == 7
    assert summary["ways"] == []
    assert len(summary["left_out"]) == 1
    assert "left out: 09-1.jpg: " in err


@pytest.mark.slow
def test_labels_of_all_frames_tell_what_they_are_worth(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, report = labels(tmp_path, len(VISITS)), tmp_path / "report.json"
    words = ("--train-share", "0.5", "--report", str(report))
    assert run("training", "replay", "--frames", str(frames), "--labels", str(file), *words) == 0
    out = capsys.readouterr().out
    assert "lite0@2+site.5" in out
    summary = json.loads(report.read_text("utf-8"))
    learned = {way["way"]: way["right"] for way in summary["ways"] if way["rank"] == "species"}
    assert learned["learned"]["of"] == 10
    assert learned["learned"]["count"] > learned["general, what moved"]["count"]


def test_unknown_labels_are_told_with_the_nearest(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n00-0.jpg,Felida\n77-0.jpg,cat\n01-0.jpg,wolf\n", "utf-8")
    assert run("training", "replay", "--frames", str(frames), "--labels", str(file)) == 2
    err = capsys.readouterr().err
    assert "did you mean 'Felidae'" in err
    assert "77-0.jpg: no such frame" in err
    assert "--skip-bad" in err


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ("path,label\n00-0.jpg,cat\n03-0.jpg,cat\n", (), "visits of at least two labels"),
        ("path,label\n00-0.jpg,\n", (), "have no label"),
        ("path,label\n00-0.jpg,cat\n01-0.jpg,wolf\n", ("--stream", "A b"), "--stream 'A b'"),
    ],
)
def test_what_cannot_be_learned_from_is_told(
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(rows, "utf-8")
    assert run("training", "replay", "--frames", str(frames), "--labels", str(file), *words) == 2
    assert said in capsys.readouterr().err


def test_nothing_left_to_answer_is_told(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = labels(tmp_path, len(VISITS))
    assert run("training", "replay", "--frames", str(frames), "--labels", str(file), "--train-share", "1") == 2
    assert "lower --train-share" in capsys.readouterr().err
