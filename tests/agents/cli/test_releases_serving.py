"""`tierwise releases`: the origin of releases, how they differ, which one serves, which one is to serve."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from sample_release import BASE, NEW, sample_release
from sample_source import target

from agents.cli import main
from agents.cli.releases.status import TierStatus, _lines
from agents.rollout.inventory import local_release
from agents.rollout.promoted_store import PromotedStore, ServingState
from agents.rollout.state import RefusedRelease
from models.heads.release import HeadRelease
from models.releases.repository import Repository
from pipeline.clock import SystemClock
from pipeline.messages import Update
from pipeline.settings.settings import Settings

SHIPPED = BASE.manifest.title
FIRST = sample_release(3)
OTHER = "Tenrec ecaudatus"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own; no broker is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tierwise.toml").write_text(
        '[mqtt]\naddress = "127.0.0.1:1"\n[kafka]\naddress = "127.0.0.1:1"\n[http]\nedge = -1\ncloud = -1\n'
    )
    return tmp_path


@pytest.fixture
def loaded(home: Path) -> Settings:
    return Settings.load(home / "tierwise.toml")


@pytest.fixture
def second() -> HeadRelease:
    made = sample_release(4, events=25, label=OTHER, family="Tenrecidae")
    figures = {"golden.species.after": 0.91}
    return replace(made, lineage=msgspec.structs.replace(made.lineage, parent="lite0@3", figures=figures))


@pytest.fixture
def trainers(loaded: Settings, second: HeadRelease) -> Repository:
    """The trainer's machine."""
    repository = Repository.of(loaded, SystemClock())
    repository.release(3, FIRST.files(), target(3))
    repository.release(4, second.files(), target(4))
    return repository


@pytest.fixture
def edges(loaded: Settings) -> PromotedStore:
    """An edge's machine that serves a release and has refused another."""
    files = PromotedStore(loaded.data_dir / "edge", SHIPPED)
    files.keep(3, FIRST.files())
    refused = (RefusedRelease(4, "0" * 16, "less-sure", "mean probability 0.60, before 0.90"),)
    files.write(ServingState(base=SHIPPED, serving=3, previous=0, refused=refused))
    return files


# --- list, show, explain, diff -----------------------------------------------------------------------------------


def test_releases_are_listed_with_who_has_and_who_serves_them(
    trainers: Repository, edges: PromotedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "list", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {its["name"]: its["where"] for its in told if its["from"] == "release"} == {
        "lite0@3": ["trainer", "edge"],
        "lite0@4": ["trainer"],
    }
    assert run("models", "list") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "lite0@3" in out
    assert "edge" in out


def test_a_release_shows_its_card(edges: PromotedStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "show", "lite0@3") == 0
    assert "lite0@3" in capsys.readouterr().out
    assert run("models", "show", "lite0@3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parent"] == SHIPPED


def test_a_release_is_explained_by_its_events_labels_and_parent(
    edges: PromotedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", "explain", "lite0@3", "--json") == 0
    lineage = json.loads(capsys.readouterr().out)["lineage"]
    assert (lineage["parent"], lineage["sites"][0]["labels"]) == (SHIPPED, {NEW: 40})
    assert run("releases", "explain", "lite0@3") == 0
    out = capsys.readouterr().out
    assert "home" in out
    assert "parent" in out


def test_a_release_that_is_not_here_is_told_with_those_that_are(
    edges: PromotedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", "explain", "lite0@9") == 2
    assert f"no release lite0@9 on this machine (there: {SHIPPED}, lite0@3)" in capsys.readouterr().err
    assert run("releases", "explain", SHIPPED) == 2
    assert "was shipped" in capsys.readouterr().err


def test_two_releases_differ_in_labels_events_figures_and_size(
    trainers: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", "diff", "lite0@3", "lite0@4", "--json") == 0
    delta = json.loads(capsys.readouterr().out)
    assert (delta["gained"], delta["lost"]) == ([OTHER], [NEW])
    assert delta["events"] == {NEW: [40, 0], OTHER: [0, 25]}
    assert delta["figures"] == {"golden.species.after": [None, 0.91]}
    assert 0 < delta["bytes_before"] < 200_000
    assert run("releases", "diff", SHIPPED, "lite0@3") == 0
    assert f"labels gained: {NEW}" in capsys.readouterr().out


# --- promote, rollback -------------------------------------------------------------------------------------------


def test_a_rollback_is_signed_here_and_sent_later_where_kafka_is_away(
    trainers: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", "rollback", "--why", "it fails at night") == 1
    told = capsys.readouterr()
    assert "signed: lite0@3 is to serve" in told.out
    assert "not sent yet" in told.err
    current = trainers.current
    assert current is not None
    assert (current.version, current.why) == (3, "it fails at night")


def test_a_rollback_goes_to_the_shipped_model_too(trainers: Repository) -> None:
    assert run("releases", "rollback", "--to", SHIPPED, "--why", "all wrong") == 1
    assert trainers.current is not None
    assert trainers.current.version == 0


def test_a_promotion_says_how_carefully(trainers: Repository) -> None:
    assert run("releases", "promote", "lite0@3", "--share", "0.5", "--seconds", "20", "--why", "again") == 1
    current = trainers.current
    assert current is not None
    assert (current.version, current.canary_share, current.canary_s) == (3, 0.5, 20)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("promote", "lite0@9"),
            "lite0@9 was not released here; available: lite0@2 (shipped), lite0@3, lite0@4",
        ),
        (("promote", "mine@1"), "mine@1 is not a release of the heads"),
        (("promote", "lite0@3", "--share", "0"), "a share lies above 0"),
        (("rollback", "--to", "lite0@4", "--why", "x"), "lite0@4 is not older than lite0@4"),
    ],
)
def test_what_cannot_serve_is_not_signed(
    words: tuple[str, ...], complaint: str, trainers: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", *words) == 2
    assert complaint in capsys.readouterr().err
    assert trainers.current is not None
    assert trainers.current.version == 4


@pytest.mark.parametrize("words", [("promote", "lite0@3"), ("rollback", "--why", "x")])
def test_only_the_machine_with_the_keys_signs(
    words: tuple[str, ...], edges: PromotedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", *words) == 2
    assert "this machine signs no releases; run the command where `tierwise trainer` runs" in (capsys.readouterr().err)


def test_the_shipped_model_is_nothing_to_go_back_from(loaded: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    Repository.of(loaded, SystemClock())
    assert run("releases", "rollback", "--why", "x") == 2
    assert "there is no older one" in capsys.readouterr().err


# --- status ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_status_tells_what_a_role_that_does_not_run_would_serve_and_what_it_refused(
    edges: PromotedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("releases", "status", "--json") == 0
    told = capsys.readouterr()
    stand = json.loads(told.out)
    assert (stand["role"], stand["state"], stand["serves"]) == ("edge", "offline", "lite0@3")
    assert stand["update"]["refused"] == "lite0@4: less-sure: mean probability 0.60, before 0.90"
    assert "sites could not be asked" in told.err


@pytest.mark.slow
def test_where_no_tier_ever_ran_the_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("releases", "status") == 0
    assert "no tier that serves releases was ever started here" in capsys.readouterr().out


def test_the_status_names_candidate_stage_and_rule_on_whole_lines_of_80() -> None:
    update = Update(stage="canary", candidate="lite0@4", rule="seen-enough", reason="50 events compared")
    out = StringIO()
    Console(file=out, width=80).print(_lines([TierStatus("edge", "home", "online", "lite0@3", update)]))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "edge, home: lite0@3 serves, canary of lite0@4",
        "  why: seen-enough: 50 events compared",
    ]


def test_the_shipped_model_is_no_release(loaded: Settings) -> None:
    assert local_release(loaded, SHIPPED) is None
