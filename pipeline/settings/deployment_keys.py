"""The keys of `[[deployments]]`: where and how long a camera stood, which a Camtrap-DP package needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from pipeline.settings.section import Positive, Section


class DeploymentSettings(Section, frozen=True, kw_only=True):
    """One camera at one place, from its start to its end."""

    name: str
    """Unique name of the deployment."""
    camera: str
    """The camera: its device, or a pattern on `site/device/stream`. Of pictures in folders, the folder's path."""
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    """Degrees north, WGS 84. Leaves by exports only: rounded, unless the export asks for exact places."""
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)]
    """Degrees east."""
    uncertainty_m: Positive = 30
    """How far the camera may be from these coordinates, in metres."""
    start: str
    """When it began, as `"2026-05-01T12:00:00+02:00"`. A date is its first moment in the site's zone."""
    end: str = ""
    """When it ended; a date is its last second. Empty: it still stands there."""
    location: str = ""
    """Name of the place."""
    effort_days: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Days on which the camera worked, where that is less than from start to end."""

    def span_s(self, zone: dt.tzinfo) -> tuple[float, float]:
        """Return start and end, UTC seconds; infinity if it still stands there. Raises `ValueError`."""
        end_s = moment(self.end, zone, last=True).timestamp() if self.end else float("inf")
        return moment(self.start, zone).timestamp(), end_s


def moment(text: str, zone: dt.tzinfo, *, last: bool = False) -> dt.datetime:
    """Return a time that a person wrote; one without an offset is in this zone.

    A date alone is its first moment, or its last one if `last`. Raises `ValueError`.
    """
    found = dt.datetime.fromisoformat(text)
    if last and len(text) <= len("2026-05-01"):
        found = found.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return found if found.tzinfo else found.replace(tzinfo=zone)


def problems(deployments: Sequence[DeploymentSettings], zone: dt.tzinfo) -> Iterator[str]:
    """Yield what is wrong with the deployments."""
    names = [each.name for each in deployments]
    for each in deployments:
        if not each.name or names.count(each.name) > 1:
            yield f'deployments.name: "{each.name}" is empty or used twice; give each deployment a name of its own'
        try:
            start_s, end_s = each.span_s(zone)
        except (ValueError, OverflowError):
            yield f'deployments "{each.name}": start and end are times such as "2026-05-01T12:00:00+02:00" or dates'
            continue
        if end_s < start_s:
            yield f'deployments "{each.name}": it ends before it starts; correct `start` or `end`'
