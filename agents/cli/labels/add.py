"""`tierwise label EVENT LABEL`: label an event. The edge corrects its answer and learns from the label.

$ tierwise label last "Felis catus"
0193f0b8-…: labelled
  edge    species  Felis catus (cat)                    1.00     41 ms  public                labelled
  labelled by ann
$ tierwise label 5c6c97 "Cryptoprocta ferox" --under animal/Eupleridae --english fossa
$ tierwise label last --withdraw
"""

from __future__ import annotations

from typing import Annotated

import typer

from agents.cli.labels.sending import find, send
from agents.cli.options import EVENT_HELP, AsJson, By, Device, SettingsFile
from agents.client import edge_reader
from agents.client.labelling import LabelDelivery, now_text, person
from agents.client.window import DeliveryState
from agents.role import exit_codes
from pipeline.errors import Stop
from pipeline.messages import Label
from pipeline.settings.settings import Settings


def label(
    event: Annotated[str, typer.Argument(metavar="EVENT", help=EVENT_HELP)],
    text: Annotated[
        str,
        typer.Argument(metavar="LABEL", help="Of any rank, scientific or English; `tierwise labels tree` lists them."),
    ] = "",
    by: By = None,
    under: Annotated[
        str,
        typer.Option(metavar="FAMILY", help="For a species that the tree lacks: Felidae, or animal/Eupleridae."),
    ] = "",
    english: Annotated[str, typer.Option(metavar="NAME", help="Its common name.")] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw your label of this event.")] = False,
    device: Device = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Label an event; the edge corrects its answer and learns from it. Waits for the edge."""
    if bool(text) == withdraw:
        raise Stop("give an event and a label, or an event and --withdraw; `tierwise labels import` reads a CSV")
    loaded = Settings.load(settings)
    with edge_reader.opened(loaded.data_dir) as reader:
        found, site, of = find(reader, loaded, event, device)
    given = Label(
        event=found,
        label=None if withdraw else text,
        by=person(by),
        time=now_text(),
        under=under,
        english=english,
    )
    (sent,) = send(loaded, [LabelDelivery.of(given, site, of)], as_json=as_json)
    if sent.state is DeliveryState.REFUSED:
        raise typer.Exit(exit_codes.STOP)
