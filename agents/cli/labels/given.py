"""`tierwise labels list`: the labels that people gave, as the edge of this machine keeps them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import Column, draw
from agents.client import edge_reader, event_ids
from agents.client.answer_text import label_text, wording
from agents.client.edge_reader import GivenLabel
from pipeline import clock
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

COLUMNS: Final = (
    Column("when"),
    Column("where"),
    Column("label", grows=True),
    Column("by"),
    Column("answer now", wide=True),
    Column("id"),
)


def list_labels(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """List the newest labels that people gave on this machine's edge, withdrawn ones too."""
    loaded = Settings.load(settings)
    with edge_reader.opened(loaded.data_dir) as reader:
        if reader is None:
            raise Stop(f"no edge ran on this machine ({loaded.data_dir / 'edge'}): run this where the edge runs")
        found = reader.labels(limit)
    if as_json:
        for each in found:
            fields = {
                "event": each.event,
                "label": each.label,
                "by": each.by,
                "time": clock.rfc3339(each.at_s),
            }
            print(msgspec.json.encode(fields).decode())
    elif not found:
        typer.echo("no labels yet; `tierwise labels review` shows what to label")
    else:
        console = Console(highlight=False)
        console.print(table(found, console.width))


def table(found: list[GivenLabel], width: int) -> Table:
    """Draw the labels, the newest last."""
    cells = (
        (
            f"{dt.datetime.fromtimestamp(each.at_s).astimezone():%m-%d %H:%M}",
            escape(f"{each.answer.device}/{each.answer.stream}"),
            escape(label_text(each.label)) if each.label is not None else "[dim]withdrawn[/]",
            escape(each.by),
            escape(wording(each.answer)),
            event_ids.short(each.event),
        )
        for each in found
    )
    return draw(COLUMNS, cells, width)
