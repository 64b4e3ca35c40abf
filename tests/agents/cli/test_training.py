"""`tierwise training now`, `list` and `forget`: requests to the trainer, and its reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.cli import main
from agents.client.trainings import ForgetRequest, Reports, TrainingRecord
from agents.role import exit_codes


@pytest.fixture
def settings(tmp_path: Path) -> str:
    file = tmp_path / "tierwise.toml"
    file.write_text('data = "data"\n')
    return str(file)


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path / "data")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["training", *words])
    return int(ended.value.code or 0)


def kept(number: int) -> TrainingRecord:
    return TrainingRecord(
        number=number,
        time="2026-05-01T12:00:00.000Z",
        rule="new-labels",
        reason="60 labels",
        outcome="failed",
        title="lite0@3",
        why=("too-few-events: none",),
        seconds=2.5,
        changes=60,
        events={"cat": 60},
        digest="ab",
    )


def test_a_training_is_asked_for_with_its_reason(settings: str, reports: Reports) -> None:
    assert run("now", "--reason", "before the weekend", "--settings", settings) == 0
    request = reports.open_request()
    assert request is not None
    assert request.reason == "before the weekend"


def test_who_waits_and_no_trainer_runs_is_told(
    settings: str, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("now", "--wait", "0.1", "--settings", settings) == exit_codes.FAILED
    assert "The request stays" in capsys.readouterr().err
    assert reports.open_request() is not None


def test_reports_are_listed_and_shown(settings: str, reports: Reports, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        reports.add(kept(number))
    assert run("list", "--settings", settings) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run("list", "2", "--settings", settings) == 0
    assert "too-few-events" in capsys.readouterr().out
    assert run("list", "last", "--settings", settings) == 0
    assert "too-few-events" in capsys.readouterr().out
    assert run("list", "--json", "--settings", settings) == 0
    assert [each["number"] for each in json.loads(capsys.readouterr().out)] == [1, 2]
    assert run("list", "7", "--settings", settings) == exit_codes.STOP


@pytest.mark.slow
def test_one_thing_is_forgotten_at_a_time(settings: str, reports: Reports) -> None:
    assert run("forget", "--device", "home/cam1", "--settings", settings) == 0
    assert [request for request, _ in reports.forget_requests()] == [ForgetRequest("device", "home/cam1")]
    for wrong in (
        [],
        ["--event", "e", "--site", "s"],
        ["--device", "cam1"],
        ["--device", "/cam1"],
        ["--device", "Home/cam1"],
        ["--event", "last"],
        ["--site", "a/b"],
        ["--site", "s", "--device", "a/b"],
    ):
        assert run("forget", *wrong, "--settings", settings) == exit_codes.STOP
    assert len(reports.forget_requests()) == 1


def test_without_a_training_the_list_says_so(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--settings", settings) == 0
    assert "no training yet" in capsys.readouterr().out


def test_a_wish_that_no_trainer_hears_says_so(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("now", "--settings", settings) == 0
    assert "no trainer runs on" in capsys.readouterr().err
    assert run("forget", "--site", "home", "--settings", settings) == 0
    assert "no trainer runs on" in capsys.readouterr().err
