"""`tierwise releases`: what tiers are given to trust, and new keys."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agents.cli import application
from models.releases.repository import Repository
from pipeline.clock import SystemClock
from pipeline.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "tierwise.toml"
    file.write_text("")
    return file


def run(settings: Path, *words: str) -> Result:
    line = ["releases", *words, "--settings", str(settings)]
    return CliRunner().invoke(application(line), line)


def test_the_root_is_what_tiers_trust_releases_by(settings: Path) -> None:
    repository = Repository.of(Settings.load(settings, {}), SystemClock())
    assert run(settings, "root").stdout.encode().strip() == repository.root.strip()
    name, _, line = run(settings, "root", "--line").stdout.partition("=")
    assert (name, base64.b64decode(line)) == ("RELEASES_ROOT", repository.root)


def test_where_nothing_is_signed_it_says_where_to_ask(settings: Path) -> None:
    told = run(settings, "root")
    assert "run this on the machine where `tierwise trainer` runs" in str(told.exception)
    assert not (settings.parent / "tierwise-data" / "releases").exists()


def test_a_role_gets_new_keys(settings: Path) -> None:
    loaded = Settings.load(settings, {})
    repository = Repository.of(loaded, SystemClock())
    before = repository.root
    assert run(settings, "rotate", "timestamp").exit_code == 0
    assert run(settings, "rotate", "root", "--keys", "3", "--threshold", "2").exit_code == 0
    assert repository.root != before
    assert "no role is called" in str(run(settings, "rotate", "mirrors").exception)
