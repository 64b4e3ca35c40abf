"""Options that choose sightings, answers and readings by time, place and label."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from agents.client.site_rows import RowFilter
from pipeline.errors import Stop
from pipeline.settings.deployment_keys import moment

FromDay = Annotated[
    str, typer.Option("--from", metavar="TIME", help="First day or time, as 2026-05-01 or 2026-05-01T18:00.")
]
ToDay = Annotated[str, typer.Option("--to", metavar="TIME", help="Last day (all of it) or time.")]
OnSite = Annotated[str, typer.Option("--site", metavar="SITE", help="A site, or a pattern such as barn*.")]
OnDevice = Annotated[str, typer.Option("--device", metavar="DEVICE", help="A device, or a pattern such as cam*.")]
WithLabel = Annotated[
    str, typer.Option("--label", metavar="LABEL", help="A label, or one above it: Felidae takes all cats.")
]


def row_filter(
    zone: dt.tzinfo, from_day: str = "", to_day: str = "", site: str = "", device: str = "", label: str = ""
) -> RowFilter:
    """Return the filter of these options. Times without an offset are in the site's zone. Raises `Stop`."""
    try:
        from_s = moment(from_day, zone).timestamp() if from_day else float("-inf")
        until_s = moment(to_day, zone, last=True).timestamp() if to_day else float("inf")
    except (ValueError, OverflowError):
        raise Stop(f"--from and --to take 2026-05-01 or 2026-05-01T18:00, not {from_day or to_day!r}") from None
    if from_s > until_s:
        raise Stop(f"--from {from_day} is after --to {to_day}: no time is in between")
    return RowFilter(from_s, until_s, site, device, label)
