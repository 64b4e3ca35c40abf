"""Training records and requests on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.trainer.reports import FOLDER, REQUEST_FILE, ForgetRequest, Reports, TrainingRecord
from agents.trainer.triggers import LastTraining
from pipeline.errors import Stop

NOON_S = 1_777_636_800.0


def record(number: int, wish: str = "", why: tuple[str, ...] = ()) -> TrainingRecord:
    return TrainingRecord(
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
    assert (reports.last, reports.last_training, reports.next_number) == (None, LastTraining(), 1)
    reports.add(record(1, why=("too-few-events: none",)))
    reports.add(record(2))
    assert list(Reports(tmp_path)) == [record(1, why=("too-few-events: none",)), record(2)]
    assert reports.last_training == LastTraining(60, {"cat": 60}, NOON_S)
    assert reports.next_number == 3
    folder = tmp_path / FOLDER / "reports"
    assert sorted(path.name for path in folder.iterdir()) == ["0001.json", "0001.md", "0002.json", "0002.md"]
    assert "too-few-events" in (folder / "0001.md").read_text()
    assert "failed (new-labels: 60 labels): too-few-events: none" in record(1, why=("too-few-events: none",)).line


def test_a_request_stays_until_its_own_record_is_written(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    first, second = reports.request_training("now"), reports.request_training("and again")
    reports.add(record(1, wish=first.id))
    assert reports.open_request() == second
    reports.add(record(2, wish=second.id))
    assert reports.open_request() is None


def test_an_empty_file_is_a_request_too(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / REQUEST_FILE).touch()
    request = reports.open_request()
    assert request and request.reason == "by hand"
    reports.add(record(1, wish=request.id))
    assert reports.open_request() is None


def test_a_request_to_forget_stays_until_its_file_is_removed(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    assert reports.forget_requests() == []
    reports.request_forgetting(ForgetRequest("device", "home/cam1"))
    ((request, path),) = Reports(tmp_path).forget_requests()
    assert request == ForgetRequest("device", "home/cam1")
    path.write_text('{"kind": "planet", "name": "x"}')
    with pytest.raises(Stop, match="remove it"):
        reports.forget_requests()


def test_an_invalid_report_is_named(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    reports.add(record(1))
    (tmp_path / FOLDER / "reports" / "0002.json").write_text("{}")
    with pytest.raises(Stop, match=r"0002\.json is not a valid report"):
        _ = reports.last
