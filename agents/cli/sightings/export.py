"""`tierwise export sightings|results|readings -o FILE`: what a site keeps, as a file.

$ tierwise export sightings -o may.csv --from 2026-05-01 --to 2026-05-31
may.csv: 318 rows; left out 12 that are edge-private
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from agents.cli.options import SettingsFile
from agents.cli.sightings.filters import FromDay, OnDevice, OnSite, ToDay, WithLabel, row_filter
from agents.cli.tables import text_console
from agents.client import site_rows
from agents.exports import ExportFormat, ExportOptions, write
from pipeline.messages import Privacy
from pipeline.privacy.egress import EGRESSES, Reach
from pipeline.settings.settings import Settings


class Exported(enum.StrEnum):
    """What is exported."""

    SIGHTINGS = "sightings"
    RESULTS = "results"
    READINGS = "readings"


class Allowed(enum.StrEnum):
    """What may leave beyond what is public."""

    EDGE_PRIVATE = "edge-private"


ROWS = {
    Exported.SIGHTINGS: site_rows.sightings,
    Exported.RESULTS: site_rows.results,
    Exported.READINGS: site_rows.readings,
}


def export(
    what: Annotated[Exported, typer.Argument(help="Sightings, the newest answer of each event, or readings.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file, or a package's folder.")],
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="Format of the file; otherwise by its name, else csv.")
    ] = None,
    from_day: FromDay = "",
    to_day: ToDay = "",
    site: OnSite = "",
    device: OnDevice = "",
    label: WithLabel = "",
    reach: Annotated[Reach, typer.Option("--for", help="Where the file will be read.")] = EGRESSES["export"].reach,
    allow: Annotated[
        Allowed | None, typer.Option(help="Let such rows leave the site, too. User-private ones never do.")
    ] = None,
    exact_places: Annotated[
        bool, typer.Option("--exact-places", help="Do not round the coordinates of deployments.")
    ] = False,
    title: Annotated[str, typer.Option(help="Title of a Camtrap-DP package.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Write what this site keeps into a file: as far back as `edge.keep_days`. See docs/exports.md for the formats.

    The file holds what may be read at the site; with --for outside, public rows only.
    """
    loaded = Settings.load(settings)
    wanted = row_filter(loaded.zone, from_day, to_day, site, device, label)
    options = ExportOptions(
        reach=max(reach, Reach.SITE, key=list(Reach).index),
        allow=Privacy.EDGE_PRIVATE if allow else Privacy.PUBLIC,
        settings=loaded,
        exact_places=exact_places,
        title=title,
    )
    summary = write(ROWS[what](loaded, wanted), output, form or ExportFormat.of(output), options)
    text_console(stderr=True).print(escape(summary.text()))
