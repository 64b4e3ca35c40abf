"""Corrected labels of a table by path: which rows teach, what is named, and that `classify` answers by them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.cli import main
from agents.cli.labels.by_path import has_paths, read_labelled
from agents.demo.scenes import photo_folder
from models.labels.taxonomy import load_taxonomy
from models.vision import images

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tierwise.toml").write_text('site = "wood"\n')

    def called(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return int(ended.value.code or 0), *capsys.readouterr()

    return called


def table(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", "utf-8-sig")
    return file


def test_only_corrected_rows_teach_unless_all_were_looked_at(tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv",
        "path;event;label;label_path;sequence",
        "a.jpg;;lynx;animal > Felidae;s1",
        "b.jpg;;Felidae;animal > Felidae;s1",
        "c.jpg;;;;",
    )
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    assert has_paths(file)
    labelled, unchanged, bad = read_labelled(file, tmp_path, load_taxonomy(), everything=False)
    assert ([row.file.name for row in labelled], unchanged, bad) == (["a.jpg"], 1, [])
    labelled, unchanged, _ = read_labelled(file, tmp_path, load_taxonomy(), everything=True)
    assert ([row.file.name for row in labelled], unchanged) == (["a.jpg", "b.jpg"], 0)


def test_each_row_that_cannot_be_used_is_named_with_what_may_be_meant(tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv",
        "path,label",
        "a.jpg,Felis cattus",
        "gone.jpg,cat",
        "a.jpg,Felidae/Leopardus guigna",
        "sub\\a.jpg,cat",
    )
    (tmp_path / "a.jpg").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    labelled, _, bad = read_labelled(file, tmp_path, load_taxonomy(), everything=False)
    assert [row.label[-1] for row in labelled] == ["Leopardus guigna", "Felis catus"]
    assert bad[0].startswith("line 2: a.jpg: ") and "did you mean 'Felis catus'" in bad[0]
    assert bad[1].startswith("line 3: gone.jpg: ") and "--pictures DIR" in bad[1]


def test_labels_of_events_still_go_to_the_edge(tmp_path: Path) -> None:
    assert not has_paths(table(tmp_path / "a.csv", "event,label", "0193,cat"))
    assert not has_paths(tmp_path / "nowhere.csv")


@pytest.mark.slow
def test_what_was_corrected_is_answered_from_then_on(run: Run, tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.mkdir()
    cat = images.decode((photo_folder() / "chelsea.png").read_bytes())
    for at in range(4):
        (card / f"cat{at}.jpg").write_bytes(images.encode_jpeg(cat[5 * at :, 3 * at :].copy()))
    (card / "person.png").write_bytes((photo_folder() / "astronaut.png").read_bytes())
    assert run("classify", "card", "-o", "card/answers.csv")[0] == 0
    rows = list(csv.DictReader((card / "answers.csv").read_text("utf-8-sig").splitlines()))
    assert [row["label"] for row in rows] == ["Felis catus"] * 4 + ["person"]
    labels = {f"cat{at}.jpg": "Felidae/Leopardus guigna" for at in range(3)} | {"person.png": "cat"}
    with (card / "answers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": labels.get(row["path"], row["label"])} for row in rows)
    code, _, err = run("labels", "import", "card/answers.csv")
    assert code == 2  # a row was not learned
    assert "3 labels learned (Leopardus guigna 3), 1 rows not learned" in err
    assert "person.png: a person may be in it" in err
    assert "1 rows have the label that was answered" in err
    _, out, err = run("classify", "card", "--json")
    answers = {each["file"]: each for each in map(json.loads, out.splitlines())}
    assert "known from an earlier run" not in err
    assert answers["cat3.jpg"]["final"]["path"] == ["animal", "Felidae", "Leopardus guigna"]
    assert answers["cat3.jpg"]["answers"][1]["model"].endswith("+wood.3")
    assert answers["person.png"]["final"]["label"] == "person"
    lessons = tmp_path / "tierwise-data" / "classify" / "wood.lessons"
    assert lessons.stat().st_mode & 0o777 == 0o600
    lessons.write_bytes(b"damaged")
    code, _, err = run("classify", "card/cat3.jpg")
    assert code == 2 and "wood.lessons cannot be read" in err
