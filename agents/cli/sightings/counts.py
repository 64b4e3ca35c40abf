"""`tierwise sightings list`: sightings counted by label, site and day, as Faust keeps them on the counts topic."""

from __future__ import annotations

import csv
import datetime as dt
import sys
from fnmatch import fnmatchcase
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.sightings.filters import FromDay, OnSite, ToDay, WithLabel, row_filter
from agents.cli.tables import Column, draw
from agents.client.site_rows import RowFilter
from agents.exports.plain import cell
from pipeline import clock, kafka, topics
from pipeline.settings.settings import Settings
from pipeline.stream.counts import DAY_S, Total, totals

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


def counts(
    from_day: FromDay = "",
    to_day: ToDay = "",
    site: OnSite = "",
    label: WithLabel = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Count sightings by label, site and day. It reads public answers only, and no picture.

    Days and times are in the `timezone` of the settings.
    """
    loaded = Settings.load(settings)
    wanted = row_filter(loaded.zone, from_day, to_day)
    known = totals(kafka.read_all(loaded.kafka, topics.COUNTS).values())
    found = [_local(total, loaded.zone) for total in known if _wanted(total, wanted, site, label, loaded.zone)]
    if as_json:
        for total in found:
            typer.echo(msgspec.json.encode(total))
    elif as_csv:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(Total.__struct_fields__)
        for total in found:
            rows.writerow([cell(getattr(total, name)) for name in Total.__struct_fields__])
    elif not found:
        typer.echo(
            "no count is as you asked" if known else "nothing is counted yet: counts begin with a public sighting"
        )
    else:
        console = Console(highlight=False)
        console.print(table(found, console.width, loaded.timezone))


def _wanted(total: Total, wanted: RowFilter, site: str, label: str, zone: dt.tzinfo) -> bool:
    """Return whether a count is asked for. A day is wanted if the times that are asked for touch it."""
    first_s = dt.datetime.fromisoformat(total.day).replace(tzinfo=zone).timestamp()
    return (
        first_s + DAY_S > wanted.from_s
        and first_s <= wanted.until_s
        and (not site or fnmatchcase(total.site, site))
        and (not label or any(fnmatchcase(each, label) for each in (total.label, *total.path)))
    )


def _local(total: Total, zone: dt.tzinfo) -> Total:
    """Return a count with its times in this zone."""
    first, last = (
        dt.datetime.fromtimestamp(clock.seconds(text), zone).isoformat(timespec="milliseconds")
        for text in (total.first, total.last)
    )
    return msgspec.structs.replace(total, first=first, last=last)


def table(found: list[Total], width: int, timezone: str) -> Table:
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
    return draw(COLUMNS, cells, width, caption=f"days and times are in {timezone}")
