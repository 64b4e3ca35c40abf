"""`tierwise models`: which models answer here, and how right they are on one's own photos.

$ tierwise models evaluate ~/labelled      # a folder with a subfolder a label, or a CSV of path and label
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from agents.cli import compress
from agents.cli.options import AsJson
from models.evaluate import evaluate as evaluated
from models.evaluate import read_photos, render
from models.registry import load_zoo

app = typer.Typer(no_args_is_help=True)
app.add_typer(compress.app, name="compress", help="Make a float network smaller, and see what that costs.")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The models of this installation, with their files' digests."""
    zoo = load_zoo()
    if as_json:
        for manifest in zoo.manifests:
            told = {
                "name": manifest.title,
                "task": manifest.task,
                "terms": manifest.terms,
                "files": manifest.files,
            }
            typer.echo(msgspec.json.encode(told))
        return
    table = Table()
    for column in ("model", "task", "feature space", "terms"):
        table.add_column(column)
    for manifest in zoo.manifests:
        table.add_row(manifest.title, manifest.task, manifest.space or "", manifest.terms)
    Console(highlight=False).print(table)


@app.command()
def evaluate(
    data: Annotated[
        Path, typer.Argument(metavar="DIR|CSV", help="Photos in a folder a label, or a CSV of path,label.")
    ],
    as_json: AsJson = False,
) -> None:
    """How right the tiers are on these photos: by rank when they answer, how often they do, and at what price."""
    report = evaluated(read_photos(data), load_zoo())
    if as_json:
        typer.echo(msgspec.json.encode(report, enc_hook=str))
    else:
        Console().print(Markdown(render(report)))
