"""Reports of trainings and wishes for one, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.trainer.reports import FOLDER, WISH, Forget, Kept, Reports
from agents.trainer.triggers import Last
from pipeline.errors import Stop

NOON_S = 1_777_636_800.0


def kept(number: int, wish: str = "", why: tuple[str, ...] = ()) -> Kept:
    return Kept(
        number=number,
        time="2026-05-01T12:00:00.000Z",
        rule="new-labels",
        reason="60 labels",
        outcome="failed" if why else "released",
        title="lite0@3",
        why=why,
        seconds=2.5,
        changes=60,
        events={"cat": 60},
        digest="ab",
        wish=wish,
    )


def test_reports_are_kept_in_order_for_programs_and_for_people(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    assert (reports.last, reports.seen, reports.next_number) == (None, Last(), 1)
    reports.keep(kept(1, why=("too-few-events: none",)))
    reports.keep(kept(2))
    assert list(Reports(tmp_path)) == [kept(1, why=("too-few-events: none",)), kept(2)]
    assert reports.seen == Last(60, {"cat": 60}, NOON_S)
    assert reports.next_number == 3
    folder = tmp_path / FOLDER / "reports"
    assert sorted(path.name for path in folder.iterdir()) == ["0001.json", "0001.md", "0002.json", "0002.md"]
    assert "too-few-events" in (folder / "0001.md").read_text()
    assert (
        "failed (new-labels: 60 labels): too-few-events: none" in kept(1, why=("too-few-events: none",)).line
    )


def test_a_wish_stands_until_its_own_report_is_there(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    first, second = reports.ask("now"), reports.ask("and again")
    reports.keep(kept(1, wish=first.id))
    assert reports.wish() == second
    reports.keep(kept(2, wish=second.id))
    assert reports.wish() is None


def test_an_empty_file_is_a_wish_too(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / WISH).touch()
    wish = reports.wish()
    assert wish and wish.reason == "by hand"
    reports.keep(kept(1, wish=wish.id))
    assert reports.wish() is None


def test_what_is_to_be_forgotten_stands_until_its_file_is_removed(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    assert reports.to_forget() == []
    reports.ask_to_forget(Forget("device", "home/cam1"))
    ((what, path),) = Reports(tmp_path).to_forget()
    assert what == Forget("device", "home/cam1")
    path.write_text('{"kind": "planet", "name": "x"}')
    with pytest.raises(Stop, match="remove it"):
        reports.to_forget()


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    reports.keep(kept(1))
    (tmp_path / FOLDER / "reports" / "0002.json").write_text("{}")
    with pytest.raises(Stop, match=r"0002\.json is no report"):
        _ = reports.last
