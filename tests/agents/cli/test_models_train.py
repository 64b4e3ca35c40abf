"""`tierwise models train`, `trainings` and `forget`: wishes to the trainer, and its reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.cli import main
from agents.role import exit_codes
from agents.trainer.reports import Forget, Kept, Reports


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
        main(["models", *words])
    return int(ended.value.code or 0)


def kept(number: int) -> Kept:
    return Kept(
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
    assert run("train", "--reason", "before the weekend", "--settings", settings) == 0
    wish = reports.wish()
    assert wish is not None
    assert wish.reason == "before the weekend"


def test_who_waits_and_no_trainer_runs_is_told(
    settings: str, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--wait", "0.1", "--settings", settings) == exit_codes.FAILED
    assert "the wish stands" in capsys.readouterr().err
    assert reports.wish() is not None


def test_reports_are_listed_and_shown(
    settings: str, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        reports.keep(kept(number))
    assert run("trainings", "--settings", settings) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run("trainings", "2", "--settings", settings) == 0
    assert "too-few-events" in capsys.readouterr().out
    assert run("trainings", "--json", "--settings", settings) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)] == [1, 2]
    assert run("trainings", "7", "--settings", settings) == exit_codes.STOP


@pytest.mark.slow
def test_one_thing_is_forgotten_at_a_time(settings: str, reports: Reports) -> None:
    assert run("forget", "--device", "home/cam1", "--settings", settings) == 0
    assert [what for what, _ in reports.to_forget()] == [Forget("device", "home/cam1")]
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
    assert len(reports.to_forget()) == 1


def test_without_a_training_the_list_says_so(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trainings", "--settings", settings) == 0
    assert "no training yet" in capsys.readouterr().out


def test_a_wish_that_no_trainer_hears_says_so(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--settings", settings) == 0
    assert "no trainer runs on" in capsys.readouterr().err
    assert run("forget", "--site", "home", "--settings", settings) == 0
    assert "no trainer runs on" in capsys.readouterr().err
