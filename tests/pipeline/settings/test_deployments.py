"""Deployments of the settings: which camera stood where, and when."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import Stop
from pipeline.settings.deployment_keys import DeploymentSettings, moment
from pipeline.settings.settings import Settings

BERLIN = ZoneInfo("Europe/Berlin")
WOOD = DeploymentSettings(name="wood", camera="cam*", latitude=1, longitude=2, start="2026-05-01", end="2026-05-02")
TOML = '[[deployments]]\nname = "wood"\ncamera = "cam1"\nlatitude = 1\nlongitude = 2\nstart = "2026-05-01"\n'


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        ("2026-05-01T00:00:00+02:00", True),
        ("2026-04-30T23:59:59+02:00", False),
        ("2026-05-02T23:59:59+02:00", True),
        ("2026-05-03T00:00:00+02:00", False),
    ],
)
def test_a_date_is_a_whole_day_of_the_sites_zone(time: str, inside: bool) -> None:
    start_s, end_s = WOOD.span_s(BERLIN)
    assert (start_s <= moment(time, BERLIN).timestamp() <= end_s) is inside


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TOML + TOML, "used twice"),
        (TOML.replace("2026-05-01", "in May"), "start and end are times"),
        (TOML + 'end = "2026-04-01"\n', "ends before it starts"),
        (TOML.replace("latitude = 1", "latitude = 91"), "latitude"),
        (TOML.replace("longitude = 2\n", ""), 'needs the key "longitude"'),
        (TOML + "lattitude = 3\n", "nearest known one"),
    ],
)
def test_an_impossible_deployment_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "tierwise.toml").write_text(text)
    with pytest.raises(Stop, match=reason):
        Settings.load(tmp_path / "tierwise.toml", {})
