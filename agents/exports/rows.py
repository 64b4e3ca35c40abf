"""The row that every export is made of: one picture, sighting, answer or reading.

::

    classify DIR   --ExportRow-->  write() --gate--> csv, json, camtrap-dp, megadetector, timelapse
    export results --ExportRow-->

Example::

    row = ExportRow(path="cam1/IMG_0001.JPG", time="2026-05-01T04:12:09+02:00", label="Felis catus", ...)
    write([row], Path("answers.csv"), ExportFormat.CSV)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.messages import Privacy
from pipeline.privacy.egress import Reach
from pipeline.settings.settings import Settings


class ExportFormat(enum.StrEnum):
    """A format of `-o FILE`; docs/exports.md says what each needs."""

    CSV = "csv"
    JSON = "json"
    CAMTRAP_DP = "camtrap-dp"
    MEGADETECTOR = "megadetector"
    TIMELAPSE = "timelapse"

    @classmethod
    def of(cls, file: Path) -> ExportFormat:
        """Return the format that a file's name stands for, where nobody named one."""
        by_suffix = {".json": cls.JSON, ".jsonl": cls.JSON, ".zip": cls.CAMTRAP_DP}
        return by_suffix.get(file.suffix.lower(), cls.CSV)


class ExportBox(msgspec.Struct, frozen=True):
    """A found animal, person or vehicle: left, top, right and bottom are shares of the picture, 0 to 1."""

    category: str
    """`animal`, `person` or `vehicle`."""
    confidence: float
    left: float
    top: float
    right: float
    bottom: float


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a file. Empty text and None mean that it is not known."""

    path: str = ""
    """The picture or video, relative to the folder that was classified, with `/` between its parts."""
    event: str = ""
    """Id of the event, sighting or reading."""
    media: str = ""
    """`image` or `video`. Empty: no file."""
    time: str = ""
    """When it was taken or measured: RFC 3339 with the offset of the site's zone."""
    time_source: str = ""
    """`exif-offset`, `exif-timezone` or `file`; empty: the agent's clock."""
    until: str = ""
    """Time of a sighting's last frame."""
    site: str = ""
    device: str = ""
    stream: str = ""
    deployment: str = ""
    """Name of the deployment. Empty: `write` looks it up in the settings, by camera and time."""
    sequence: str = ""
    """Id of the burst or sighting that the picture belongs to."""
    label: str = ""
    english: str = ""
    """The label's English name."""
    label_path: tuple[str, ...] = ()
    """The label from the kingdom down."""
    rank: str = ""
    probability: float | None = None
    count: int | None = None
    """Number of individuals. None where no boxes give one."""
    frames: int | None = None
    """Frames of the sighting."""
    person: bool = False
    """A person is in the picture, or may be."""
    privacy: Privacy = Privacy.USER_PRIVATE
    """Level of this answer. The gate reads it."""
    model: str = ""
    tier: str = ""
    rule: str = ""
    value: float | None = None
    """Value of a reading."""
    unit: str = ""
    boxes: tuple[ExportBox, ...] = ()
    refused: str = ""
    """Why the file has no answer: `image-truncated: ...`."""
    flags: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The stream's full name, ``site/device/stream``."""
        return f"{self.site}/{self.device}/{self.stream}"

    @property
    def empty(self) -> bool:
        """True if the answer is that nothing living is there."""
        return not self.refused and self.label_path[:1] == ("other",)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the person who exports asks for."""

    reach: Reach = Reach.DEVICE
    """Where the file will be read: the place where the command runs, unless the person names a farther one."""
    allow: Privacy = Privacy.PUBLIC
    """`edge-private`: such rows may go outside, too."""
    settings: Settings = field(default_factory=Settings)
    """Deployments and time zone."""
    exact_places: bool = False
    """Write deployments' coordinates as the settings have them, not rounded."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What the file holds, and what it lacks."""

    path: Path
    written: int
    """Rows in the file."""
    withheld: Mapping[Privacy, int]
    """Rows left out, by level, since they may not be read where the file goes."""
    skipped: Mapping[str, int]
    """Rows left out, by reason, since the format has no place for them."""

    def text(self) -> str:
        """Return the summary as a line for people."""
        parts = [f"{self.path}: {self.written:,} {'row' if self.written == 1 else 'rows'}"]
        parts += [
            f"left out {number:,} that {'is' if number == 1 else 'are'} {level}"
            for level, number in self.withheld.items()
        ]
        parts += [f"left out {number:,}: {reason}" for reason, number in self.skipped.items()]
        return "; ".join(parts)
