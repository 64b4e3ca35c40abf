"""Files for programs that sort camera-trap pictures: MegaDetector's JSON, and Timelapse's CSV.

MegaDetector's batch output, format 1.3 (https://lila.science/megadetector-output-format): Timelapse, AddaxAI, EcoAssist
and many scripts read it. Timelapse's own CSV fills the fields of a template whose data labels are `COLUMNS`.
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from agents.exports.rows import ExportBox, ExportOptions, ExportRow
from pipeline import clock
from pipeline.privacy.egress import Released

CATEGORIES: Final = {"animal": "1", "person": "2", "vehicle": "3"}
"""MegaDetector's own numbers."""

NO_FILE: Final = "not about a file, which this format is for"

COLUMNS: Final = ("File", "RelativePath", "DateTime", "Species", "Count", "Probability", "Person", "Remark")
"""The data labels of a Timelapse template that takes the CSV."""


class MegaDetectorJson:
    """One JSON object. The pictures are written one at a time, what describes them comes after."""

    def __init__(self, draft: Path, _options: ExportOptions) -> None:
        self._file = draft.open("wb")
        self._file.write(b'{"images": [')
        self._between = b"\n"
        self._labels: dict[str, str] = {}
        self._model = ""

    def add(self, released: Released[ExportRow]) -> str:
        """Write a picture."""
        row = released.content
        if not row.path:
            return NO_FILE
        self._model = row.model or self._model
        image: dict[str, Any] = {"file": row.path, "detections": None if row.refused else self._detections(row)}
        if row.refused:
            image["failure"] = row.refused
        self._file.write(self._between + msgspec.json.encode(image))
        self._between = b",\n"
        return ""

    def finish(self) -> None:
        """Write the categories."""
        names = {number: name for name, number in CATEGORIES.items()}
        made = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        model = f"tierwise {self._model}".strip()
        rest = {
            "detection_categories": names,
            "classification_categories": {number: label for label, number in self._labels.items()},
            "info": {
                "format_version": "1.3",
                "detector": model,
                "detection_completion_time": made,
                "classifier": model,
                "classification_completion_time": made,
            },
        }
        self._file.write(b"\n],\n" + msgspec.json.encode(rest)[1:] + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _detections(self, row: ExportRow) -> list[dict[str, Any]]:
        kingdom = "person" if row.person else row.label_path[0] if row.label_path else ""
        boxes = row.boxes
        if not boxes and kingdom in CATEGORIES:
            # An answer about the whole picture. The format knows boxes alone, so the box is the whole picture.
            boxes = (ExportBox(kingdom, row.probability or 0.0, 0.0, 0.0, 1.0, 1.0),)
        return [self._detection(row, box) for box in boxes if box.category in CATEGORIES]

    def _detection(self, row: ExportRow, box: ExportBox) -> dict[str, Any]:
        place = (box.left, box.top, box.right - box.left, box.bottom - box.top)
        found: dict[str, Any] = {
            "category": CATEGORIES[box.category],
            "conf": round(float(box.confidence), 4),
            "bbox": [round(share, 5) for share in place],
        }
        if box.category == "animal" and len(row.label_path) > 1 and row.probability is not None:
            number = self._labels.setdefault(row.label, str(len(self._labels)))
            found["classifications"] = [[number, round(row.probability, 4)]]
        return found


class TimelapseCsv:
    """For Timelapse's "Import image data from a CSV file", which matches rows by `RelativePath` and `File`."""

    def __init__(self, draft: Path, options: ExportOptions) -> None:
        self._zone = options.settings.zone
        self._file = draft.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def add(self, released: Released[ExportRow]) -> str:
        """Write a picture."""
        row = released.content
        if not row.path:
            return NO_FILE
        if "\n" in row.path or "\r" in row.path:
            return "a name with a line break, which Timelapse does not read"
        path = PurePosixPath(row.path)
        folder = "" if path.parent == PurePosixPath() else str(path.parent).replace("/", "\\")
        taken = dt.datetime.fromtimestamp(clock.seconds(row.time), self._zone) if row.time else None
        remark = " ".join(f"{row.refused} {', '.join(row.flags)}".split())
        self._rows.writerow(
            (
                path.name,
                folder,
                f"{taken:%Y-%m-%d %H:%M:%S}" if taken else "",
                row.label,
                "" if row.count is None else row.count,
                "" if row.probability is None else f"{row.probability:.3f}",
                "true" if row.person else "false",
                remark,
            )
        )
        return ""

    def finish(self) -> None:
        """Write nothing: each row stands for itself."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
