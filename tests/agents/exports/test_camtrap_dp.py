"""A Camtrap-DP package: valid for frictionless, with the places and times of the settings' deployments."""

from __future__ import annotations

import csv
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agents.exports import ExportBox, ExportFormat, ExportOptions, ExportRow, write
from pipeline.errors import Stop
from pipeline.messages import Privacy
from pipeline.settings.settings import Settings

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT.parent / "shared" / "data" / "camtrapdp"
PYTHON = ROOT / "build" / "frictionless" / "bin" / "python"
"""`.ci/run` installs frictionless there: its many libraries serve this test alone."""

VALIDATE = """
import json, sys
from pathlib import Path
from frictionless import system, validate
from jsonschema import Draft4Validator
package, profile = (json.loads(Path(path).read_text("utf-8")) for path in sys.argv[1:])
own = {"$defs": profile["$defs"], **profile["allOf"][1]}
del own["properties"]["spatial"]["$ref"]  # GeoJSON's schema is online
for error in Draft4Validator(own).iter_errors(package):
    sys.exit(error.message)
for resource in package["resources"]:  # offline: the schema itself in place of its address
    name = resource["schema"].rpartition("/")[2]
    resource["schema"] = json.loads((Path(sys.argv[2]).parent / name).read_text("utf-8"))
del package["profile"]
Path(sys.argv[1]).write_text(json.dumps(package), "utf-8")
with system.use_context(trusted=True):
    report = validate(sys.argv[1])
for error in [*report.errors, *(e for task in report.tasks for e in task.errors)]:
    print(error.message)
sys.exit(not report.valid)
"""

SETTINGS = """
site = "wood"
timezone = "Europe/Berlin"
[[deployments]]
name = "wood-2026"
camera = "cam*"
latitude = 52.520008
longitude = 13.404954
start = "2026-05-01"
end = "2026-09-30"
effort_days = 140
"""


@pytest.fixture
def options(tmp_path: Path) -> ExportOptions:
    (tmp_path / "tierwise.toml").write_text(SETTINGS)
    return ExportOptions(settings=Settings.load(tmp_path / "tierwise.toml", {}))


def row(path: str = "cam1/a.jpg", **fields: Any) -> ExportRow:
    given = {
        "path": path,
        "time": "2026-05-02T04:12:09.250+02:00",
        "device": "cam1",
        "label": "Felis catus",
        "label_path": ("animal", "Felidae", "Felis catus"),
        "rank": "species",
        "probability": 0.91,
        "privacy": Privacy.PUBLIC,
        **fields,
    }
    return ExportRow(**given)


ROWS = [
    row(boxes=(ExportBox("animal", 0.9, 0.1, 0.2, 0.5, 0.75), ExportBox("animal", 0.8, 0.5, 0.5, 0.9, 1.0)), count=2),
    row("cam1/b.jpg", label="person", label_path=("person",), rank="kingdom", person=True, sequence="s1"),
    row('cam2/nothing, "here".jpg', label="other", label_path=("other",), device=""),
    row("cam1/broken.jpg", label="", label_path=(), refused="image-truncated: cut", probability=None),
    row("cam1/clip.mp4", media="video", label="animal", label_path=("animal",), rank="kingdom"),
    row("", event="s2", label="Vulpes vulpes", label_path=("animal", "Canidae", "Vulpes vulpes"), frames=4),
]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_box_is_an_observation_and_every_other_answer_is_one(tmp_path: Path, options: ExportOptions) -> None:
    summary = write(ROWS, tmp_path / "package", ExportFormat.CAMTRAP_DP, options)
    seen = [
        (each["observationLevel"], each["observationType"], each["scientificName"], each["count"])
        for each in table(tmp_path / "package" / "observations.csv")
    ]
    assert seen == [
        ("media", "animal", "Felis catus", "1"),
        ("media", "animal", "Felis catus", "1"),
        ("media", "human", "Homo sapiens", ""),
        ("media", "blank", "", ""),
        ("media", "unclassified", "", ""),
        ("media", "animal", "Animalia", ""),
        ("event", "animal", "Vulpes vulpes", ""),
    ]
    media = table(tmp_path / "package" / "media.csv")
    assert summary.written == 6
    assert [each["fileMediatype"] for each in media] == [*["image/jpeg"] * 4, "video/mp4"]
    assert {each["timestamp"] for each in media} == {"2026-05-02T04:12:09+02:00"}


def test_places_are_rounded_unless_exact_ones_are_asked_for(tmp_path: Path, options: ExportOptions) -> None:
    exact = ExportOptions(settings=options.settings, exact_places=True)
    for name, each in (("rounded", options), ("exact", exact)):
        write(ROWS, tmp_path / name, ExportFormat.CAMTRAP_DP, each)
    assert "52.520008" not in "".join(file.read_text("utf-8") for file in (tmp_path / "rounded").iterdir())
    (rounded,), (there,) = (table(tmp_path / name / "deployments.csv") for name in ("rounded", "exact"))
    assert (rounded["latitude"], rounded["coordinateUncertainty"]) == ("52.52", "1600")
    assert (there["latitude"], there["coordinateUncertainty"]) == ("52.520008", "30")
    assert "140 days" in rounded["deploymentComments"]


def test_without_deployments_the_error_shows_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"\[\[deployments\]\]"):
        write(ROWS, tmp_path / "package", ExportFormat.CAMTRAP_DP)
    assert list(tmp_path.iterdir()) == []


def test_a_row_outside_of_all_deployments_is_left_out_and_counted(tmp_path: Path, options: ExportOptions) -> None:
    rows = [row(), row("barn/a.jpg", device="barn"), row("cam1/c.jpg", time="2026-10-01T00:00:00+02:00")]
    rows += [row("../a.jpg"), row("cam1/d.jpg", time=""), row("", value=3.0)]
    summary = write(rows, tmp_path / "package", ExportFormat.CAMTRAP_DP, options)
    assert (summary.written, sum(summary.skipped.values())) == (1, 5)
    with pytest.raises(Stop, match="cameras: barn"):
        write(rows[1:2], tmp_path / "other", ExportFormat.CAMTRAP_DP, options)


def test_a_package_replaces_an_earlier_one_and_no_other_folder(tmp_path: Path, options: ExportOptions) -> None:
    for rows in (ROWS, ROWS[:1]):
        write(rows, tmp_path / "package", ExportFormat.CAMTRAP_DP, options)
    assert len(table(tmp_path / "package" / "media.csv")) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("")
    with pytest.raises(Stop, match="not written"):
        write(ROWS, tmp_path / "mine", ExportFormat.CAMTRAP_DP, options)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept"]


def test_a_zip_holds_the_same_files(tmp_path: Path, options: ExportOptions) -> None:
    write(ROWS, tmp_path / "package.zip", ExportFormat.CAMTRAP_DP, options)
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        assert sorted(package.namelist()) == ["datapackage.json", "deployments.csv", "media.csv", "observations.csv"]


@pytest.mark.skipif(not PYTHON.exists(), reason="frictionless is not installed in build/frictionless (.ci/run does)")
@pytest.mark.skipif(not SCHEMAS.exists(), reason="no copy of the Camtrap-DP schemas here")
@pytest.mark.parametrize("rows", [ROWS, ROWS[-1:], ROWS[:1]])
def test_frictionless_finds_the_package_valid(tmp_path: Path, options: ExportOptions, rows: list[ExportRow]) -> None:
    write(rows, tmp_path / "package", ExportFormat.CAMTRAP_DP, options)
    descriptor = tmp_path / "package" / "datapackage.json"
    command = [PYTHON, "-c", VALIDATE, descriptor, SCHEMAS / "camtrap-dp-profile.json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
