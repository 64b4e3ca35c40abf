"""`tierwise counts`: what was seen where, by species, site and day, as Faust keeps it on the counts topic."""

from __future__ import annotations

from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from pipeline import kafka, topics
from pipeline.settings.settings import Settings
from pipeline.stream.counts import Total, totals

TIME_OF_DAY: Final = slice(len("2026-01-01T"), len("2026-01-01T12:30"))
"""Of an RFC 3339 text."""


def counts(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """What was seen where: sightings by label, site and day. Public answers only, and no picture anywhere."""
    loaded = Settings.load(settings)
    found = totals(kafka.read_all(loaded.kafka, topics.COUNTS).values())
    if as_json:
        for total in found:
            typer.echo(msgspec.json.encode(total))
    elif not found:
        typer.echo("nothing counted yet: counts begin with the first public sighting")
    else:
        Console(highlight=False).print(table(found))


def table(found: list[Total]) -> Table:
    shown = Table(caption="times are UTC")
    for column in ("day", "site", "seen", "sightings", "devices", "first", "last"):
        shown.add_column(column, justify="right" if column == "sightings" else "left")
    for total in found:
        shown.add_row(
            total.day,
            escape(total.site),
            escape(" > ".join(total.path) or total.label),
            str(total.sightings),
            escape(", ".join(total.devices)),
            total.first[TIME_OF_DAY],
            total.last[TIME_OF_DAY],
        )
    return shown
