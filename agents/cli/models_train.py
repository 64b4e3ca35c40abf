"""`tierwise models train`, `trainings` and `forget`: ask the trainer for a training, read what came of each, take events out.

$ tierwise models train --reason "before the weekend" --wait 60
$ tierwise models trainings
$ tierwise models forget --device home/cam1
"""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from agents.cli.options import AsJson, SettingsFile
from agents.role import exit_codes
from agents.role.run_file import running
from agents.trainer.reports import Forget, Kept, Reports
from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.ids import is_event_id
from pipeline.settings.settings import Settings

LOOK_EVERY_S: Final = 0.2


def train(
    reason: Annotated[str, typer.Option(help="Told in the report.")] = "by hand",
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Until the report is there; print it.")
    ] = 0.0,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Ask the trainer of this data folder for a training. A running one begins at once, another one when it starts."""
    loaded = Settings.load(settings)
    reports = Reports(loaded.data_dir)
    wish = reports.ask(reason)
    if not wait:
        Console().print("asked; [bold]tierwise models trainings[/] shows what came of it")
        _say_if_nobody_trains(loaded)
        return
    deadline = time.monotonic() + wait
    while (last := reports.last) is None or last.wish != wish.id:
        if time.monotonic() > deadline:
            raise Retry(
                f"no report within {wait:g} s: see whether the trainer runs (`tierwise health`); the wish stands"
            )
        time.sleep(LOOK_EVERY_S)
    _show(last, as_json)
    if last.outcome != "released":
        raise typer.Exit(exit_codes.FAILED)


def trainings(
    number: Annotated[int, typer.Argument(metavar="[NUMBER]", help="One of them, in full.")] = 0,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """What came of each training on this data folder: released, refused (and why), failed."""
    kept = [one for one in Reports(Settings.load(settings).data_dir) if number in (0, one.number)]
    if number and not kept:
        raise Stop(f"there is no training {number}; `tierwise models trainings` lists them")
    if as_json:
        print(msgspec.json.encode(kept).decode())
    elif number:
        _show(kept[0], as_json)
    elif not kept:
        print("no training yet; `tierwise models train` asks for one")
    else:
        for one in kept:
            print(f"{one.number:4d}  {one.line}")


def forget(
    event: Annotated[str, typer.Option(help="One event, by its id.")] = "",
    device: Annotated[str, typer.Option(metavar="SITE/DEVICE", help="All events of a device.")] = "",
    site: Annotated[str, typer.Option(help="All events of a site, and the sums that it told.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Take an event, a device or a site out of all that was learned, exactly and for good; the next release is without it."""
    named = [(kind, name) for kind, name in (("event", event), ("device", device), ("site", site)) if name]
    if len(named) != 1 or device.count("/") != (1 if device else 0):
        raise Stop("name one thing: --event ID, --device SITE/DEVICE or --site SITE")
    if event and not is_event_id(event):
        raise Stop(f"--event {event}: no event's whole id; copy one from `tierwise watch`")
    wrong = [name for name in [*device.split("/"), site] if name and not topics.is_name(name)]
    if wrong or (device and not all(device.split("/"))):
        raise Stop(f"{device or site}: names of sites and devices are of a-z, 0-9, - and _")
    loaded = Settings.load(settings)
    Reports(loaded.data_dir).ask_to_forget(
        msgspec.convert({"kind": named[0][0], "name": named[0][1]}, Forget)
    )
    print(f"asked to forget {named[0][0]} {named[0][1]}: the trainer does it and trains without it")
    _say_if_nobody_trains(loaded)


def _say_if_nobody_trains(settings: Settings) -> None:
    if running(settings.data_dir, "trainer") is None:
        typer.echo(
            f"no trainer runs on {settings.data_dir}: the wish stands until one does (`tierwise up`, `tierwise trainer`)",
            err=True,
        )


def _show(kept: Kept, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(kept).decode())
        return
    print(kept.line)
    Console().print(Markdown(kept.text))
