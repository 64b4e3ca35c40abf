"""`tierwise training now`, `list` and `forget`: requests to the trainer of this machine, and its reports.

$ tierwise training now --reason "before the weekend" --wait 60
$ tierwise training list
$ tierwise training list last
$ tierwise training forget --device home/cam1
"""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from agents.cli.options import EVENT_HELP, AsJson, SettingsFile
from agents.cli.tables import Column, draw, text_console
from agents.client import edge_reader, event_ids
from agents.client.trainings import ForgetRequest, Reports, TrainingRecord, numbered
from agents.role import exit_codes
from agents.role.run_file import running
from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.ids import is_event_id
from pipeline.settings.settings import Settings

LOOK_EVERY_S: Final = 0.2

COLUMNS: Final = (
    Column("no", right=True),
    Column("time"),
    Column("release"),
    Column("outcome"),
    Column("began because", grows=True, wide=True),
    Column("refused because", grows=True),
)


def train(
    reason: Annotated[str, typer.Option(help="For the report.")] = "by hand",
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="Wait so long for the report, and print it.")] = 0.0,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Ask the trainer of this data folder for a training. It begins at once, or when the trainer starts."""
    loaded = Settings.load(settings)
    reports = Reports(loaded.data_dir)
    request = reports.request_training(reason)
    if not wait:
        Console().print("asked; [bold]tierwise training list last[/] shows the report once it is there")
        _warn_without_trainer(loaded)
        return
    deadline = time.monotonic() + wait
    while (last := reports.last) is None or last.wish != request.id:
        if time.monotonic() > deadline:
            raise Retry(f"no report within {wait:g} s: does the trainer run? See `tierwise health`. The request stays")
        time.sleep(LOOK_EVERY_S)
    _show(last, as_json)
    if last.outcome != "released":
        raise typer.Exit(exit_codes.FAILED)


def list_trainings(
    number: Annotated[
        str, typer.Argument(metavar="[NUMBER]", help="Show this one in full: its number, or `last`.")
    ] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """List the trainings of this data folder: released, refused (and why) or failed; or show one."""
    reports = Reports(Settings.load(settings).data_dir)
    if as_json:
        found = [numbered(reports, number)] if number else list(reports)
        print(msgspec.json.encode(found).decode())
    elif number:
        _show(numbered(reports, number), as_json)
    else:
        console = text_console()
        found = list(reports)
        if not found:
            console.print("no training yet; `tierwise training now` asks for one")
        elif console.is_terminal:
            console.print(table(found, console.width))
        else:
            for report in found:
                console.print(f"{report.number:4d}  {escape(report.line)}")


def table(reports: list[TrainingRecord], width: int) -> Table:
    """Draw a row for each training, the newest last."""
    cells = (
        (
            str(report.number),
            report.time[:16].replace("T", " "),
            escape(report.title),
            report.outcome,
            escape(f"{report.rule}: {report.reason}"),
            escape("; ".join(report.why)),
        )
        for report in reports
    )
    return draw(COLUMNS, cells, width, caption="times are UTC")


def forget(
    event: Annotated[str, typer.Option(help=EVENT_HELP)] = "",
    device: Annotated[str, typer.Option(metavar="SITE/DEVICE", help="All events of a device.")] = "",
    site: Annotated[str, typer.Option(help="All events of a site, and the sums that it sent.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Remove an event, a device or a site from all that was learned, for good. The next release is without it."""
    named = [(kind, name) for kind, name in (("event", event), ("device", device), ("site", site)) if name]
    if len(named) != 1 or device.count("/") != (1 if device else 0):
        raise Stop("give one of --event ID, --device SITE/DEVICE and --site SITE")
    wrong = [name for name in [*device.split("/"), site] if name and not topics.is_name(name)]
    if wrong or (device and not all(device.split("/"))):
        raise Stop(f"{device or site}: names of sites and devices hold a-z, 0-9, - and _")
    loaded = Settings.load(settings)
    kind, name = named[0]
    if kind == "event":
        name = _whole_id(loaded, name)
    Reports(loaded.data_dir).request_forgetting(msgspec.convert({"kind": kind, "name": name}, ForgetRequest))
    print(f"asked to forget {kind} {name}: the trainer removes it and trains again")
    _warn_without_trainer(loaded)


def _whole_id(settings: Settings, event: str) -> str:
    """Return the whole id of an event; a part is looked up at the edge of this machine."""
    if is_event_id(event):
        return event
    with edge_reader.opened(settings.data_dir) as reader:
        if reader is None:
            event_ids.check_part(event)
            raise Stop(f"--event {event}: no edge ran on this machine that knows it: give its whole id")
        return reader.event(event).event


def _warn_without_trainer(settings: Settings) -> None:
    if running(settings.data_dir, "trainer") is None:
        typer.echo(
            f"no trainer runs on {settings.data_dir}: the request waits for one (`tierwise up`, `tierwise trainer`)",
            err=True,
        )


def _show(report: TrainingRecord, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    console = text_console()
    console.print(escape(report.line))
    console.print(Markdown(report.text))
