"""MegaDetector's JSON by its documented rules, and Timelapse's CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from agents.exports import ExportBox, ExportFormat, ExportOptions, ExportRow, write
from pipeline.messages import Privacy
from pipeline.settings.settings import Settings

ROWS = [
    ExportRow(
        path="cam1/a.jpg",
        time="2026-05-02T02:12:09Z",
        label="Felis catus",
        label_path=("animal", "Felidae", "Felis catus"),
        probability=1.0,
        boxes=(ExportBox("animal", 1, 0.1, 0.2, 0.5, 0.75),),
        count=1,
        model="lite0@1",
        privacy=Privacy.PUBLIC,
    ),
    ExportRow(path="b.mp4", media="video", label="person", label_path=("person",), person=True, probability=0.4),
    ExportRow(path="empty.jpg", label="other", label_path=("other",), probability=0.9),
    ExportRow(path="broken.jpg", refused="image-truncated: cut"),
    ExportRow(event="e1", label="Felis catus"),
]


def complaints(batch: Any) -> list[str]:
    """The rules of the format's own validator, megadetector.postprocessing.validate_batch_results."""
    found = []
    if float(batch["info"]["format_version"]) < 1.3:
        found.append("format_version")
    for table in (batch["detection_categories"], batch["classification_categories"]):
        found += [f"category {key}" for key, name in table.items() if not key.isdigit() or not name.strip()]
    for image in batch["images"]:
        if "failure" in image and image["detections"] is not None:
            found.append(f"{image['file']}: failed, with detections")
        for each in image["detections"] or ():
            if not isinstance(each["conf"], float) or each["category"] not in batch["detection_categories"]:
                found.append(f"{image['file']}: conf or category")
            if len(each["bbox"]) != 4 or not all(0 <= share <= 1 for share in each["bbox"]):
                found.append(f"{image['file']}: bbox")
            found += [f"class {key}" for key, _ in each.get("classifications", ()) if key not in batch[NAMES]]
    return found


NAMES = "classification_categories"


def test_megadetector_json_keeps_the_rules_of_its_format(tmp_path: Path) -> None:
    summary = write(ROWS, tmp_path / "md.json", ExportFormat.MEGADETECTOR)
    batch = json.loads((tmp_path / "md.json").read_bytes())
    assert complaints(batch) == []
    cat, person, empty, broken = batch["images"]
    assert cat["detections"] == [
        {"category": "1", "conf": 1.0, "bbox": [0.1, 0.2, 0.4, 0.55], "classifications": [["0", 1.0]]}
    ]
    assert batch[NAMES] == {"0": "Felis catus"}
    assert (person["detections"][0]["category"], person["detections"][0]["bbox"]) == ("2", [0, 0, 1, 1])
    assert (empty["detections"], broken["failure"]) == ([], "image-truncated: cut")
    assert (summary.written, sum(summary.skipped.values())) == (4, 1)


def test_megadetector_json_without_a_picture_is_whole(tmp_path: Path) -> None:
    write([], tmp_path / "md.json", ExportFormat.MEGADETECTOR)
    assert complaints(json.loads((tmp_path / "md.json").read_bytes())) == []


def test_timelapse_matches_a_row_by_folder_and_file(tmp_path: Path) -> None:
    options = ExportOptions(settings=Settings(timezone="Europe/Berlin"))
    rows = [ExportRow(path="cam1/100EK113/a.jpg", label="x"), *ROWS, ExportRow(path="two\nlines.jpg")]
    summary = write(rows, tmp_path / "t.csv", ExportFormat.TIMELAPSE, options)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        nested, cat, *rest = csv.DictReader(file)
    assert (nested["RelativePath"], nested["File"], nested["DateTime"]) == ("cam1\\100EK113", "a.jpg", "")
    assert (cat["DateTime"], cat["Species"], cat["Count"]) == ("2026-05-02 04:12:09", "Felis catus", "1")
    assert [each["RelativePath"] for each in rest] == ["", "", ""]
    assert (summary.written, sum(summary.skipped.values())) == (5, 2)
