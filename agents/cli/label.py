"""`tierwise label EVENT LABEL`: what a person sees in an event, and what the edge makes of that.

$ tierwise label last "Felis catus"
0193f0b8-…: labelled
  edge    species  Felis catus (cat)                    1.00     41 ms  public                labelled
  labelled by ann
$ tierwise label 5c6c97 "Cryptoprocta ferox" --under animal/Eupleridae --english fossa
$ tierwise label last --withdraw
$ tierwise label --csv labels.csv
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from agents.cli.label_csv import read_labels
from agents.cli.options import AsJson, SettingsFile
from agents.client.answer_text import line
from agents.client.connection import at_site
from agents.client.labelling import Given, Labelling, State, drive, now_text, subscriptions, whoever
from agents.edge import store_reader
from agents.edge.store_reader import EdgeView
from agents.role import exit_codes
from pipeline import ids, topics
from pipeline.errors import Stop
from pipeline.messages import Label
from pipeline.settings.settings import Settings

By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who says so; otherwise who is logged in here.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="Whose event it is, where no edge of this machine can tell."
    ),
]


def label(
    event: Annotated[
        str, typer.Argument(metavar="EVENT", help="An event's id, the beginning or end of it, or `last`.")
    ] = "",
    text: Annotated[
        str,
        typer.Argument(
            metavar="LABEL", help="Of any rank, scientific or English; `tierwise models labels` lists them."
        ),
    ] = "",
    by: By = None,
    under: Annotated[
        str,
        typer.Option(
            metavar="FAMILY", help="Of a species that the tree lacks: Felidae, or animal/Eupleridae."
        ),
    ] = "",
    english: Annotated[str, typer.Option(metavar="NAME", help="Its common name.")] = "",
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take your word about this event back.")
    ] = False,
    device: Device = "",
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Columns event and label, perhaps by, time, under, english, device."
        ),
    ] = None,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Say what an event shows; the edge corrects its answer and learns from it. Waits for the edge's word."""
    loaded = Settings.load(settings)
    _check_words(event, text, csv, withdraw=withdraw)
    teller = _json if as_json else _line
    with store_reader.opened(loaded.data_dir) as view:
        if csv is not None:
            given, bad = read_labels(
                csv, lambda name, its: find(view, loaded, name, its or device), whoever(by)
            )
        else:
            found, topic = find(view, loaded, event, device)
            said = Label(
                event=found,
                label=None if withdraw else text,
                by=whoever(by),
                time=now_text(),
                under=under,
                english=english,
            )
            given, bad = [Given(found, said, topic)], []
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for complaint in bad:
        errors.print(f"[red]{escape(complaint)}[/]")
    publish(loaded, given, teller)
    refused = sum(each.state is State.REFUSED for each in given)
    if csv is not None:
        taken = len(given) - refused
        errors.print(f"{taken} labels taken, {refused} refused by the edge, {len(bad)} rows not sent")
    if refused or bad:
        raise typer.Exit(exit_codes.STOP)


def publish(settings: Settings, given: list[Given], tell: Callable[[Given], None]) -> None:
    """Bring these to the edge. Raises `Retry` where no broker or no edge answers."""
    if not given:
        return
    devices = [each.topic.split("/")[3] for each in given]
    with at_site(settings, "label", subscriptions(settings.site, devices)) as (connection, inbox):
        drive(Labelling(given), connection, inbox, tell)


def find(view: EdgeView | None, settings: Settings, event: str, device: str) -> tuple[str, str]:
    """The full id of the event that is meant, and the topic of its labels.

    Raises
    ------
    Rejected, Stop
        No such event is known here, or nothing here could know it.
    """
    if device and not topics.is_name(device):
        raise Stop(f"--device {device}: no device is called so; names are of a-z, 0-9, - and _")
    if ids.is_event_id(event) and device:
        return event, topics.label(settings.site, device)
    if view is None:
        raise Stop(
            f"no edge ran on this machine ({settings.data_dir / 'edge'}): give the event's whole id and its --device"
        )
    told = view.event(event)
    if device and device != told.device:
        raise Stop(f"event {told.event} is of device {told.device}, not of {device}")
    return told.event, topics.label(told.site, told.device)


def _check_words(event: str, text: str, csv: Path | None, *, withdraw: bool) -> None:
    if csv is not None:
        if event or text or withdraw:
            raise Stop("--csv names its own events and labels: give nothing beside it but --by and --device")
        return
    if not event or bool(text) == withdraw:
        raise Stop("give an event and a label, or an event and --withdraw, or --csv FILE")


def _line(given: Given) -> None:
    console = Console(highlight=False, soft_wrap=True, stderr=given.refusal is not None)
    if given.refusal is not None:
        refusal = given.refusal
        console.print(f"[red]{escape(given.name)}: refused ({refusal.reason}): {escape(refusal.detail)}[/]")
        return
    what = "taken back" if given.label.label is None else "labelled"
    if given.answer is None:
        console.print(f"{escape(given.name)}: {what}; its answer is what it was")
        return
    console.print(f"{escape(given.name)}: {what}\n  {escape(line(given.answer))}")
    console.print(f"  [dim]{escape(given.answer.reason)}[/]")


def _json(given: Given) -> None:
    told: dict[str, Any] = {"name": given.name, "label": given.label, "state": given.state.name.lower()}
    if given.refusal is not None:
        told["refused"] = given.refusal
    if given.answer is not None:
        told["result"] = given.answer
    print(msgspec.json.encode(told).decode(), flush=True)
