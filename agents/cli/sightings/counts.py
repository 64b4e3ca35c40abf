"""`tierwise sightings list`: sightings counted by label, site and day, as Faust keeps them on the counts topic."""

from __future__ import annotations

from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import Column, draw
from pipeline import kafka, topics
from pipeline.settings.settings import Settings
from pipeline.stream.counts import Total, totals

TIME_OF_DAY: Final = slice(len("2026-01-01T"), len("2026-01-01T12:30"))
"""The part of an RFC 3339 text to show."""

COLUMNS: Final = (
    Column("day"),
    Column("site"),
    Column("sightings", right=True),
    Column("label", grows=True),
    Column("devices", wide=True),
    Column("first"),
    Column("last"),
)


def counts(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Count sightings by label, site and day. It reads public answers only, and no picture."""
    loaded = Settings.load(settings)
    found = totals(kafka.read_all(loaded.kafka, topics.COUNTS).values())
    if as_json:
        for total in found:
            typer.echo(msgspec.json.encode(total))
    elif not found:
        typer.echo("nothing is counted yet: counts begin with the first public sighting")
    else:
        console = Console(highlight=False)
        console.print(table(found, console.width))


def table(found: list[Total], width: int) -> Table:
    """Draw the counts."""
    cells = (
        (
            total.day,
            escape(total.site),
            str(total.sightings),
            escape(" > ".join(total.path) or total.label),
            escape(", ".join(total.devices)),
            total.first[TIME_OF_DAY],
            total.last[TIME_OF_DAY],
        )
        for total in found
    )
    return draw(COLUMNS, cells, width, caption="times are UTC")
