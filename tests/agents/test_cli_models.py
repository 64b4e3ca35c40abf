"""`tierwise models`: what is there, and how right it is on one's own photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_messages import photo_jpeg

from agents.cli import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_the_models_of_this_installation_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {model["task"] for model in told} == {"wildlife", "occupancy"}


def test_labelled_photos_are_evaluated_by_rank_and_tier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(photo_jpeg("chelsea.png"))
    assert run("models", "evaluate", str(tmp_path), "--json") == 0
    assert "kingdom" in capsys.readouterr().out


def test_a_label_that_the_tree_does_not_hold_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blah").mkdir()
    (tmp_path / "blah" / "1.jpg").write_bytes(photo_jpeg("chelsea.png"))
    assert run("models", "evaluate", str(tmp_path)) == 2
    assert "blah" in capsys.readouterr().err
