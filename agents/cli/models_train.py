"""`tierwise models train` and `trainings`: ask the trainer for a training, and read what came of each.

$ tierwise models train --reason "before the weekend" --wait 60
$ tierwise models trainings
"""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from agents import exits
from agents.cli.options import AsJson, SettingsFile
from agents.trainer_reports import Kept, Reports
from pipeline.errors import Retry, Stop
from pipeline.settings import Settings

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
    reports = Reports(Settings.load(settings).data_dir)
    wish = reports.ask(reason)
    if not wait:
        Console().print("asked; [bold]tierwise models trainings[/] shows what came of it")
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
        raise typer.Exit(exits.FAILED)


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
    else:
        for one in kept:
            print(f"{one.number:4d}  {one.line}")


def _show(kept: Kept, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(kept).decode())
        return
    print(kept.line)
    Console().print(Markdown(kept.text))
