"""Camtrap-DP 1.0: the data package of camera-trap research (TDWG), a folder or a .zip.

::

    deployments.csv   [[deployments]] of the settings that have rows; places are rounded unless exact ones are wanted
    media.csv         a row a picture or video
    observations.csv  a row a found animal, person or vehicle, or one that says `blank`; a sighting is an event
    datapackage.json  names of the tables' schemas, places, times and species of the whole

Source: https://camtrap-dp.tdwg.org, version 1.0.2. GBIF validates such packages and takes them in.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import mimetypes
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Final

from agents.exports.rows import ExportOptions, ExportRow
from pipeline import clock
from pipeline.errors import Stop
from pipeline.privacy.egress import Released
from pipeline.settings.deployment_keys import DeploymentSettings

SCHEMAS: Final = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"


def _columns(text: str) -> list[str]:
    return text.split()


DEPLOYMENTS: Final = _columns(
    "deploymentID locationID locationName latitude longitude coordinateUncertainty deploymentStart deploymentEnd "
    "setupBy cameraID cameraModel cameraDelay cameraHeight cameraDepth cameraTilt cameraHeading detectionDistance "
    "timestampIssues baitUse featureType habitat deploymentGroups deploymentTags deploymentComments"
)
MEDIA: Final = _columns(
    "mediaID deploymentID captureMethod timestamp filePath filePublic fileName fileMediatype exifData favorite "
    "mediaComments"
)
OBSERVATIONS: Final = _columns(
    "observationID deploymentID mediaID eventID eventStart eventEnd observationLevel observationType "
    "cameraSetupType scientificName count lifeStage sex behavior individualID individualPositionRadius "
    "individualPositionAngle individualSpeed bboxX bboxY bboxWidth bboxHeight classificationMethod classifiedBy "
    "classificationTimestamp classificationProbability observationTags observationComments"
)
"""Every column of each table, in the order of its schema: validators want them all, empty ones, too."""

PLACES_ROUNDED: Final = 2
"""Decimals of rounded degrees: squares of some 1.1 km, as GBIF advises for sensitive species."""
ROUNDED_UNCERTAINTY_M: Final = 1_570
"""What such rounding adds to the uncertainty, at the equator (Chapman & Wieczorek, Georeferencing Best Practices)."""

FILE_PATH: Final = re.compile(r"(?!\.|/|~)(?!.*\.\.).+", re.DOTALL)
"""Paths that the format takes."""

TYPES: Final = {"animal": "animal", "person": "human", "vehicle": "vehicle", "other": "blank"}
"""Kingdoms and categories of boxes -> observation types; all others are `unknown`."""

HOW_TO: Final = (
    "a Camtrap-DP package needs the places and times of its cameras. Write for each camera into the settings:\n"
    '[[deployments]]\nname = "wood-2026"\ncamera = "cam1"          # its device, or its folder\n'
    'latitude = 52.52\nlongitude = 13.40\nstart = "2026-05-01"\nend = "2026-09-30"'
)

Cells = dict[str, Any]


class CamtrapPackage:
    """A folder of three tables, written a row at a time; the deployments and the description come last."""

    def __init__(self, draft: Path, options: ExportOptions) -> None:
        if not options.settings.deployments:
            raise Stop(HOW_TO)
        self._folder, self._options, self._zone = draft, options, options.settings.zone
        self._spans = [(each, *each.span_s(self._zone)) for each in options.settings.deployments]
        self._used: dict[str, DeploymentSettings] = {}
        self._names: dict[str, str] = {}
        self._levels: set[str] = set()
        self._missing: set[str] = set()
        draft.mkdir()
        self._media_file = (draft / "media.csv").open("w", encoding="utf-8", newline="")
        self._observation_file = (draft / "observations.csv").open("w", encoding="utf-8", newline="")
        self._media = csv.DictWriter(self._media_file, MEDIA)
        self._observations = csv.DictWriter(self._observation_file, OBSERVATIONS)
        self._media.writeheader()
        self._observations.writeheader()

    def add(self, released: Released[ExportRow]) -> str:
        """Write a picture with its observations, or a sighting as an event."""
        row = released.content
        if row.value is not None:
            return "a reading, which the package has no table for"
        if not row.time:
            return "without a capture time, which the package requires"
        if row.path and not FILE_PATH.fullmatch(row.path):
            return "a path that begins with . / or ~, or holds .., which the package forbids"
        deployment = self._deployment(row)
        if deployment is None:
            self._missing.add(row.device or str(PurePosixPath(row.path).parent))
            return "in none of the settings' [[deployments]], by camera and time"
        self._used[deployment.name] = deployment
        media = ""
        if row.path:
            media = hashlib.sha256(row.path.encode()).hexdigest()[:32]
            self._media.writerow(
                {
                    "mediaID": media,
                    "deploymentID": deployment.name,
                    "captureMethod": "activityDetection",
                    "timestamp": self._time(row.time),
                    "filePath": row.path,
                    "filePublic": "false",
                    "fileName": PurePosixPath(row.path).name,
                    "fileMediatype": _media_type(row),
                }
            )
        self._levels.add("media" if media else "event")
        shared = {
            "deploymentID": deployment.name,
            "mediaID": media,
            "eventID": row.sequence if media else row.event,
            "eventStart": self._time(row.time),
            "eventEnd": self._time(row.until or row.time),
            "observationLevel": "media" if media else "event",
        }
        for number, found in enumerate(self._found(row), 1):
            self._observations.writerow({**shared, "observationID": f"{media or row.event}_{number}", **found})
        return ""

    def finish(self) -> None:
        """Write the deployments and the description."""
        if not self._used:
            cameras = ", ".join(sorted(self._missing)[:5])
            raise Stop(f"no row is in a deployment{f' (cameras: {cameras})' if cameras else ''}; {HOW_TO}")
        for file in (self._media_file, self._observation_file):
            file.flush()
        rows = [self._deployment_cells(each) for each in self._used.values()]
        with (self._folder / "deployments.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, DEPLOYMENTS)
            table.writeheader()
            table.writerows(rows)
        text = json.dumps(self._description(rows), indent=2, ensure_ascii=False)
        (self._folder / "datapackage.json").write_text(text, "utf-8")

    def close(self) -> None:
        """Close the tables."""
        self._media_file.close()
        self._observation_file.close()

    # --- rows ----------------------------------------------------------------------------------------------------

    def _deployment(self, row: ExportRow) -> DeploymentSettings | None:
        folder = str(PurePosixPath(row.path).parent) if row.path else ""
        names = [row.deployment, row.device, row.source.strip("/"), folder, folder.partition("/")[0]]
        time_s = clock.seconds(row.time)
        for each, start_s, end_s in self._spans:
            if start_s <= time_s <= end_s and any(fnmatchcase(name, each.camera) for name in filter(None, names)):
                return each
        return None

    def _found(self, row: ExportRow) -> Iterator[Cells]:
        """Yield what was found in a picture or sighting: an observation a box, or one for all of it."""
        by_machine: Cells = {
            "classificationMethod": "machine",
            "classifiedBy": row.model,
            "classificationProbability": "" if row.probability is None else f"{row.probability:.4f}",
            "observationTags": " | ".join(row.flags),
        }
        if row.refused:
            yield {"observationType": "unclassified", "observationComments": row.refused}
            return
        kingdom = row.label_path[0] if row.label_path else ""
        for box in row.boxes:
            wide, high = box.right - box.left, box.bottom - box.top
            place = {"bboxX": box.left, "bboxY": box.top, "bboxWidth": wide, "bboxHeight": high} if wide * high else {}
            yield {**by_machine, **self._taxon(row, box.category), **_rounded(place), "count": 1}
        if not row.boxes:
            kingdom = "person" if row.person and kingdom != "animal" else kingdom
            yield {**by_machine, **self._taxon(row, kingdom), "count": row.count or ""}

    def _taxon(self, row: ExportRow, category: str) -> Cells:
        kind = TYPES.get(category, "unknown")
        name = {"human": "Homo sapiens"}.get(kind, "")
        if kind == "animal":
            name = row.label if row.label_path[:1] == ("animal",) and len(row.label_path) > 1 else "Animalia"
        if name:
            self._names.setdefault(name, row.rank if name == row.label else "")
        return {"observationType": kind, "scientificName": name}

    # --- the whole -------------------------------------------------------------------------------------------------

    def _time(self, text: str) -> str:
        return self._moment(clock.seconds(text))

    def _moment(self, time_s: float) -> str:
        return dt.datetime.fromtimestamp(time_s, self._zone).isoformat(timespec="seconds")

    def _span(self, deployment: DeploymentSettings) -> tuple[float, float]:
        """Return start and end; a camera that still stands there ends now, since the package requires an end."""
        start_s, end_s = deployment.span_s(self._zone)
        return start_s, dt.datetime.now(dt.UTC).timestamp() if end_s == float("inf") else end_s

    def _deployment_cells(self, deployment: DeploymentSettings) -> Cells:
        start_s, end_s = self._span(deployment)
        exact = self._options.exact_places
        effort = deployment.effort_days
        return {
            "deploymentID": deployment.name,
            "locationName": deployment.location,
            "latitude": deployment.latitude if exact else round(deployment.latitude, PLACES_ROUNDED),
            "longitude": deployment.longitude if exact else round(deployment.longitude, PLACES_ROUNDED),
            "coordinateUncertainty": deployment.uncertainty_m + (0 if exact else ROUNDED_UNCERTAINTY_M),
            "deploymentStart": self._moment(start_s),
            "deploymentEnd": self._moment(end_s),
            "cameraID": deployment.camera,
            "deploymentComments": "" if effort is None else f"effort: the camera worked on {effort:g} days",
        }

    def _description(self, rows: list[Cells]) -> Cells:
        title = self._options.title or f"Camera traps of {self._options.settings.site}"
        spans = [self._span(each) for each in self._used.values()]
        start, end = (self._moment(s)[:10] for s in (min(a for a, _ in spans), max(b for _, b in spans)))
        return {
            "name": re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "camera-traps",
            "profile": f"{SCHEMAS}camtrap-dp-profile.json",
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "title": title,
            "contributors": [{"title": self._options.settings.site, "role": "contributor"}],
            "project": {
                "title": title,
                "samplingDesign": "opportunistic",
                "captureMethod": ["activityDetection"],
                "individualAnimals": False,
                "observationLevel": sorted(self._levels),
            },
            "coordinatePrecision": 10**-6 if self._options.exact_places else 10**-PLACES_ROUNDED,
            "spatial": {"type": "MultiPoint", "coordinates": [[each["longitude"], each["latitude"]] for each in rows]},
            "temporal": {"start": start, "end": end},
            "taxonomic": [
                {"scientificName": name, **({"taxonRank": rank} if rank in ("family", "species") else {})}
                for name, rank in sorted(self._names.items())
            ],
            "resources": [
                {
                    "name": name,
                    "path": f"{name}.csv",
                    "profile": "tabular-data-resource",
                    "format": "csv",
                    "mediatype": "text/csv",
                    "encoding": "utf-8",
                    "schema": f"{SCHEMAS}{name}-table-schema.json",
                }
                for name in ("deployments", "media", "observations")
            ],
        }


def _media_type(row: ExportRow) -> str:
    kind = row.media or "image"
    found = mimetypes.guess_type(row.path)[0] or ""
    return found if found.startswith(f"{kind}/") else f"{kind}/{'mp4' if kind == 'video' else 'jpeg'}"


def _rounded(place: Cells) -> Cells:
    return {name: f"{share:.5f}" for name, share in place.items()}
