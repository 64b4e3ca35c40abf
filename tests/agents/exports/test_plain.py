"""CSV and JSON lines: what a spreadsheet shows, and what a program reads back."""

from __future__ import annotations

import csv
import errno
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.exports import ExportBox, ExportFormat, ExportOptions, ExportRow, write
from agents.exports.plain import guarded, unguarded
from pipeline.errors import Stop
from pipeline.messages import Privacy
from pipeline.privacy.egress import Reach
from pipeline.settings.deployment_keys import DeploymentSettings
from pipeline.settings.settings import Settings

CAT = ExportRow(
    path="cam1/IMG_0001.JPG",
    event="e1",
    media="image",
    time="2026-05-01T04:12:09+02:00",
    site="wood",
    device="cam1",
    stream="trail",
    label="Felis catus",
    label_path=("animal", "Felidae", "Felis catus"),
    rank="species",
    probability=0.914321,
    count=1,
    boxes=(ExportBox("animal", 0.93, 0.1, 0.2, 0.5, 0.75),),
    privacy=Privacy.PUBLIC,
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_reads_back_from_csv_and_json(tmp_path: Path) -> None:
    summary = write([CAT], tmp_path / "a.csv", ExportFormat.CSV)
    write([CAT], tmp_path / "a.json", ExportFormat.JSON)
    (row,) = read(tmp_path / "a.csv")
    assert (row["path"], row["label_path"]) == ("cam1/IMG_0001.JPG", "animal > Felidae > Felis catus")
    assert row["boxes"] == "animal 0.930 0.1000 0.2000 0.5000 0.7500"
    assert (row["probability"], row["count"], row["person"], row["value"]) == ("0.914321", "1", "false", "")
    assert json.loads((tmp_path / "a.json").read_bytes())["boxes"][0]["confidence"] == 0.93
    assert (summary.written, summary.text()) == (1, f"{tmp_path / 'a.csv'}: 1 row")


@given(st.text())
def test_no_text_begins_as_a_formula_and_each_reads_back(text: str) -> None:
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("name", ['two\nlines, "quoted".jpg', "=HYPERLINK(1).jpg", "Schüßler 猫.jpg", "\r.jpg", "'a"])
def test_a_name_of_any_kind_stays_one_cell(tmp_path: Path, name: str) -> None:
    odd = ExportRow(path=name, label="x", privacy=Privacy.PUBLIC)
    write([odd, CAT], tmp_path / "a.csv", ExportFormat.CSV)
    assert [unguarded(row["path"]) for row in read(tmp_path / "a.csv")] == [name, CAT.path]


def test_a_name_that_is_no_text_is_written_in_escapes(tmp_path: Path) -> None:
    odd = ExportRow(path="caf\udce9.jpg", privacy=Privacy.PUBLIC)
    write([odd], tmp_path / "a.csv", ExportFormat.CSV)
    write([odd], tmp_path / "a.json", ExportFormat.JSON)
    assert read(tmp_path / "a.csv")[0]["path"] == r"caf\udce9.jpg"
    assert json.loads((tmp_path / "a.json").read_bytes())["path"] == r"caf\udce9.jpg"


CANARY = "canary-7c1f"
WOOD = DeploymentSettings(name="wood", camera="cam1", latitude=1, longitude=2, start="2026-01-01", end="2026-12-31")
PLACED = Settings(deployments=(WOOD,))


@pytest.mark.parametrize("form", ExportFormat)
@pytest.mark.parametrize(
    ("reach", "allow", "seen"),
    [
        (Reach.DEVICE, Privacy.PUBLIC, set(Privacy)),
        (Reach.SITE, Privacy.PUBLIC, {Privacy.PUBLIC, Privacy.EDGE_PRIVATE}),
        (Reach.OUTSIDE, Privacy.PUBLIC, {Privacy.PUBLIC}),
        (Reach.OUTSIDE, Privacy.EDGE_PRIVATE, {Privacy.PUBLIC, Privacy.EDGE_PRIVATE}),
    ],
)
def test_a_planted_canary_is_only_where_its_level_may_be(
    tmp_path: Path, form: ExportFormat, reach: Reach, allow: Privacy, seen: set[Privacy]
) -> None:
    rows = [
        ExportRow(path=f"{CANARY}-{level}", label=f"{CANARY}-{level}", time=CAT.time, device="cam1", privacy=level)
        for level in Privacy
    ]
    summary = write(rows, tmp_path / "out", form, ExportOptions(reach=reach, allow=allow, settings=PLACED))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    content = "".join(file.read_text("utf-8") for file in files)
    assert {level for level in Privacy if f"{CANARY}-{level}" in content} == seen
    assert set(summary.withheld) == set(Privacy) - seen
    assert all(f"left out 1 that is {level}" in summary.text() for level in set(Privacy) - seen)


def test_a_killed_or_failed_export_leaves_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("before")

    def rows() -> object:
        yield CAT
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Stop, match="No space left on device"):
        write(rows(), target, ExportFormat.CSV)  # type: ignore[arg-type]
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: opened(Path("/dev/full") if path.name == "draft" else path, *a, **k)
    )
    with pytest.raises(Stop, match="No space left"):
        write([CAT] * 10_000, tmp_path / "a.csv", ExportFormat.CSV)
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("where", ["missing/a.csv", "file/a.csv", "folder"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("")
    with pytest.raises(Stop, match=r"not written|cannot be written"):
        write([CAT], tmp_path / where, ExportFormat.CSV)
    assert (tmp_path / "folder" / "kept").exists()


@pytest.mark.parametrize("form", [ExportFormat.CSV, ExportFormat.JSON])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, form: ExportFormat) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        write((CAT for _ in range(rows)), tmp_path / "a", form)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)
    assert peak(3000) < peak(300) + 100_000
