"""`tierwise classify` on a card: names, order, processes, going on after a stop, files, and the exit code."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.cli import main
from agents.cli.classify import printable
from agents.demo.scenes import photo_folder
from models.vision import images
from models.vision.capture_time import ExifTags, with_exif_time

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIERWISE_SETTINGS", "")
    (tmp_path / "tierwise.toml").write_text('site = "wood"\ntimezone = "Europe/Berlin"\n')

    def called(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["classify", *words])
        return int(ended.value.code or 0), *capsys.readouterr()

    return called


def photo(name: str, taken: str = "") -> bytes:
    jpeg = images.encode_jpeg(images.decode((photo_folder() / name).read_bytes()))
    return with_exif_time(jpeg, ExifTags(taken)) if taken else jpeg


def card(folder: Path, pictures: int = 4) -> Path:
    """Two cameras with the same names: a burst of a cat, 20 minutes later a person, and then a broken picture."""
    cat, person = "chelsea.png", "astronaut.png"
    for camera in ("cam1", "cam2"):
        (folder / camera).mkdir(parents=True)
        for at in range(pictures):
            taken = f"2026:05:01 06:{(at // 2) * 20:02d}:{at:02d}"
            (folder / camera / f"IMG_{at}.JPG").write_bytes(photo(cat if at < pictures - 1 else person, taken))
    (folder / "cam2" / "broken.jpg").write_bytes(b"none")
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))


def timeless(text: str) -> list[dict[str, Any]]:
    """Return lines of JSON without what differs between two runs."""
    return [{key: value for key, value in json.loads(line).items() if key != "ms"} for line in text.splitlines()]


@pytest.mark.slow
def test_a_card_becomes_a_table_with_paths_site_time_and_bursts(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "card")
    code, out, err = run("card", "-o", "answers.csv")
    assert (code, out) == (1, "")  # a picture was refused
    assert "9 pictures: opening the models" in err
    assert "8 photos, 0 videos; with persons 2, empty 0, animals 6" in err
    assert "cam2/broken.jpg: refused (image-unknown-format)" in err and "refused 1: image-unknown-format" in err
    found = rows(tmp_path / "answers.csv")
    assert [row["path"] for row in found[:4]] == [f"cam1/IMG_{at}.JPG" for at in range(4)]
    assert [row["label"] for row in found[:3]] == ["Felis catus"] * 3
    assert found[0]["time"] == "2026-05-01T06:00:00+02:00" and found[0]["site"] == "wood"
    assert [row["device"] for row in found] == ["cam1"] * 4 + ["cam2"] * 5
    bursts = [row["sequence"] for row in found[:4]]
    assert bursts[0] == bursts[1] != bursts[2]
    assert [row["person"] for row in found[:4]] == ["false"] * 3 + ["true"]
    assert found[-1]["refused"].startswith("image-unknown-format: ")


@pytest.mark.slow
def test_two_processes_answer_as_one_and_a_second_run_only_looks_up(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "card", pictures=10)
    code, out, _ = run("card", "--json", "--workers", "1")
    assert code == 1 and len(out.splitlines()) == 21
    assert timeless(run("card", "--json", "--workers", "2", "--again")[1]) == timeless(out)
    (tmp_path / "card").rename(tmp_path / "moved")
    _, again, err = run("moved", "--json")
    assert timeless(again) == timeless(out)
    assert "21 known from an earlier run" in err
    (tmp_path / "tierwise.toml").write_text('timezone = "UTC"\n')
    assert "known from" not in run("moved", "--json")[2]


@pytest.mark.slow
def test_ctrl_c_ends_at_once_with_a_line_and_the_next_run_goes_on(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "card", pictures=40)
    words = [sys.executable, "-c", "from agents.cli import main; main()", "classify", "card", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()  # the first answer is there
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        process.stdout.read()
        err = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on from there" in err and "Traceback" not in err
    code, out, err = run("card", "--json")
    assert code == 1 and "known from an earlier run" in err
    assert len(out.splitlines()) == 81


@pytest.mark.slow
def test_names_that_are_no_text_and_names_with_line_breaks_are_shown_as_escapes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/card/\xff.jpg")).write_bytes(photo("chelsea.png"))
    (tmp_path / "card" / "two\nlines.jpg").write_bytes(photo("chelsea.png"))
    code, out, _ = run("card")
    assert code == 0 and len(out.splitlines()) == 2
    assert "two\\nlines.jpg" in out and "\\udcff.jpg" in out
    assert {json.loads(text)["file"] for text in run("card", "--json")[1].splitlines()} == {
        "\\udcff.jpg",
        "two\nlines.jpg",
    }


def test_a_line_stays_a_line() -> None:
    assert printable("a\r\n\x1b[31mb.jpg") == "a\\r\\n\\x1b[31mb.jpg"


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named_and_what_was_answered_is_kept(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "card")
    code, _, err = run("card", "-o", "nowhere/answers.csv")
    assert code == 2 and "nowhere/answers.csv: cannot be written" in err


@pytest.mark.slow
def test_where_no_answers_can_be_kept_the_pictures_are_answered_all_the_same(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "card")
    (tmp_path / "tierwise-data").write_text("no folder")
    code, out, err = run("card", "--json")
    assert code == 1 and len(out.splitlines()) == 9
    assert "a run that is stopped begins anew" in err
