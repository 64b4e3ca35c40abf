"""`tierwise sightings list`: counts by day, place and label, with days and times of the site's zone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from agents.cli import main
from pipeline import kafka, messages
from pipeline.messages import Rank
from pipeline.stream.counts import Count


def count(day: str, label: str, *path: str, site: str = "wood") -> Count:
    first, last = f"{day}T01:00:00.000Z", f"{day}T22:30:00.000Z"
    return Count(
        site=site,
        device="cam1",
        day=day,
        label=label,
        path=path,
        rank=Rank.SPECIES,
        sightings=2,
        first=first,
        last=last,
    )


COUNTS = [
    count("2026-05-01", "Felis catus", "animal", "Felidae", "Felis catus"),
    count("2026-05-02", "=cmd", "animal", "Canidae", "=cmd"),
    count("2026-05-03", "Sus scrofa", "animal", "Suidae", "Sus scrofa", site="barn"),
]


@pytest.fixture(autouse=True)
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tierwise.toml").write_text('data = "."\ntimezone = "Europe/Berlin"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIERWISE_SETTINGS", raising=False)
    table = {str(number).encode(): messages.encode(each) for number, each in enumerate(COUNTS)}
    monkeypatch.setattr(kafka, "read_all", lambda *_: table)


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["sightings", "list", *words])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ((), ["2026-05-03", "2026-05-02", "2026-05-01"]),
        (("--from", "2026-05-02"), ["2026-05-03", "2026-05-02"]),
        (("--to", "2026-05-02"), ["2026-05-02", "2026-05-01"]),
        (("--site", "ba*"), ["2026-05-03"]),
        (("--label", "Felidae"), ["2026-05-01"]),
    ],
)
def test_counts_are_chosen_by_day_site_and_label(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], days: list[str]
) -> None:
    told = [json.loads(line) for line in listed(capsys, "--json", *words).splitlines()]
    assert [each["day"] for each in told] == days
    assert all(each["first"].endswith("T03:00:00.000+02:00") for each in told)


def test_csv_is_a_table_without_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(listed(capsys, "--csv").splitlines()))
    assert [row["label"] for row in rows] == ["Sus scrofa", "'=cmd", "Felis catus"]
    assert rows[0]["path"] == "animal > Suidae > Sus scrofa"


def test_the_table_names_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "days and times are in Europe/Berlin" in listed(capsys)
    assert "no count is as you asked" in listed(capsys, "--label", "Puma")
