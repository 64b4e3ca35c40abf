"""`tierwise export`: rows of the site's stores, by time and place, and no more than their level allows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sample_edge import sample_edge
from sample_messages import event, event_id, result

from agents.cli import main
from agents.client.site_rows import RowFilter, reading_level, readings
from pipeline import clock
from pipeline.messages import Levels, Privacy
from pipeline.series.points import reading_point
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import Settings

SETTINGS = """
data = "."
timezone = "Europe/Berlin"
[streams."home/room1/co2"]
task = "meter"
reading = "edge-private"
[streams."home/room1/open"]
task = "meter"
reading = "public"
"""
NOON_S = clock.seconds("2026-05-01T10:00:00Z")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tierwise.toml").write_text(SETTINGS)
    (tmp_path / "edge").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIERWISE_SETTINGS", raising=False)
    return tmp_path


@pytest.fixture
def answered(folder: Path) -> Path:
    """An edge with a public, an edge-private and a user-private answer, a day apart, and readings."""
    with sample_edge(folder / "edge") as edge:
        for number, level in enumerate(Privacy, 1):
            told = result(
                event_id(number),
                sighting=event_id(number),
                time=clock.rfc3339(NOON_S + 86_400 * number),
                privacy=level,
            )
            edge.deliver(event(told, sequence=number, levels=Levels(result=level)))
            edge.clock.turn(1)
    store = LocalStore(folder / "edge" / "series.db", 3650)
    store.write([reading_point("home/room1/co2", 600.0 + n, "ppm", NOON_S + n, f"e{n}") for n in range(5)])
    store.write([reading_point("home/room1/open", 1.0, "1", NOON_S, "x")])
    store.close()
    return folder


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["export", *words])
    return int(ended.value.code or 0)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("more", "levels"),
    [
        ((), {"public", "edge-private"}),
        (("--for", "device"), {"public", "edge-private"}),
        (("--for", "outside"), {"public"}),
        (("--for", "outside", "--allow", "edge-private"), {"public", "edge-private"}),
    ],
)
def test_answers_leave_as_far_as_their_level_allows(
    answered: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], levels: set[str]
) -> None:
    assert run("results", "-o", "a.csv", *more) == 0
    assert {row["privacy"] for row in rows(answered / "a.csv")} == levels
    left = {"public", "edge-private", "user-private"} - levels
    assert all(f"1 that is {level}" in capsys.readouterr().err for level in sorted(left)[:1])


def test_times_are_in_the_sites_zone_and_days_are_its_days(answered: Path) -> None:
    assert run("results", "-o", "a.csv", "--from", "2026-05-03", "--to", "2026-05-03") == 0
    assert [row["time"] for row in rows(answered / "a.csv")] == ["2026-05-03T12:00:00.000+02:00"]
    assert run("sightings", "-o", "s.json", "--label", "animal") == 0
    told = [json.loads(line) for line in (answered / "s.json").read_text().splitlines()]
    assert all(each["time"].endswith("+02:00") for each in told)


def test_readings_carry_the_level_of_their_stream(answered: Path) -> None:
    settings = Settings.load(answered / "tierwise.toml", {})
    found = list(readings(settings, RowFilter(from_s=NOON_S, until_s=NOON_S + 2, device="room*")))
    assert [(row.value, row.privacy.value) for row in found if row.stream == "co2"] == [
        (600.0, "edge-private"),
        (601.0, "edge-private"),
        (602.0, "edge-private"),
    ]
    assert reading_level(settings, "home/room1/open") is Privacy.PUBLIC
    assert reading_level(settings, "home/room9/any") is Privacy.EDGE_PRIVATE
    assert run("readings", "-o", "r.csv", "--for", "outside") == 0
    assert [row["stream"] for row in rows(answered / "r.csv")] == ["open"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("results", "-o", "a.csv"), "no edge has run"),
        (("results", "-o", "a.csv", "--from", "may"), "--from and --to take"),
        (("results", "-o", "a.csv", "--from", "2026-05-02", "--to", "2026-05-01"), "is after"),
        (("results", "-o", "a.zip"), "[[deployments]]"),
        (("results", "-o", "no/such/a.csv"), "cannot be written"),
    ],
)
def test_what_cannot_be_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert run(*words) == 2
    assert reason in capsys.readouterr().err
