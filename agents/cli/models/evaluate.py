"""`tierwise models evaluate`: measure how right the tiers are on labelled photos, and at what cost.

$ tierwise models evaluate ~/labelled --pictures charts
$ tierwise models evaluate trap.csv --frames --json
$ tierwise models evaluate ~/labelled --device-model glimpse
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from agents.cli.models.device_model import DeviceModelName, SeesWith
from agents.cli.models.open_chain import OpenChain
from agents.cli.options import AsJson, EdgeModelTitle, SettingsFile
from models.evaluation.evaluate import evaluate as evaluated
from models.evaluation.metrics import measure
from models.evaluation.photo_pack import data_root, open_pack
from models.evaluation.photo_set import HOW_TO_LABEL, LabelledPhotos, Photo, read_photos
from models.evaluation.plots import draw, require_matplotlib
from models.evaluation.report import render
from models.labels.taxonomy import load_taxonomy
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

Pack = Literal["wild256", "wild64"]
SPLIT: Final = "test"

DATA_HELP: Final = "Photos in a folder a label, or a CSV of path,label."


def evaluate(
    given: Annotated[Path | None, typer.Argument(metavar="[DIR|CSV]", help=DATA_HELP)] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR|CSV", help="The same as the argument.")] = None,
    pack: Annotated[Pack | None, typer.Option(help="Use our own test photos instead; needs the training data.")] = None,
    labels_map: Annotated[
        Path | None, typer.Option(help="CSV of name,label for folders whose names are no labels.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out photos that cannot be used, and list them.")
    ] = False,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="The photos of a folder are the frames of one fixed camera, in the order of their names.",
        ),
    ] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.001, help="With --frames: seconds between two frames.")
    ] = 1.0,
    group: Annotated[
        str, typer.Option(help="Labels with commas between, as Felidae: report each of their species.")
    ] = "",
    device_model: SeesWith = DeviceModelName.lite0,
    edge_model: EdgeModelTitle = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: as many as cores.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw charts (SVG) into this folder; needs matplotlib."),
    ] = None,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Measure the tiers on labelled photos: how often they answer, how often they are right, and at what cost."""
    wanted = tuple(name.strip() for name in group.split(",") if name.strip())
    _check_group(wanted)
    if pictures is not None:
        require_matplotlib()  # early: it reports a missing library before the work begins
    labelled = _photos(given or data, pack, labels_map, skip_bad)
    with _progress(as_json) as bar:
        task = bar.add_task("evaluating", total=len(labelled.photos))
        done = evaluated(
            labelled.photos,
            OpenChain(Settings.load(settings), edge_model, device_model.value, ask_all=True),
            apart_s=every_s if frames else None,
            workers=workers,
            skip_bad=skip_bad,
            progress=lambda count: bar.advance(task, count),
        )
    report = measure(done, group=wanted, left_out=labelled.left_out)
    if pictures is not None:
        for file in draw(report, pictures):
            typer.echo(f"wrote {file}", err=True)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        Console().print(Markdown(render(report)))


def _photos(source: Path | None, pack: Pack | None, labels_map: Path | None, skip_bad: bool) -> LabelledPhotos:
    if source is not None and pack is None:
        return read_photos(source, labels_map=labels_map, skip_bad=skip_bad)
    if source is not None:
        raise Stop("give photos or --pack, not both")
    if pack is None and not (data_root() / "wild256").is_dir():
        raise Stop(f"no photos are given: {HOW_TO_LABEL}")
    return LabelledPhotos(_pack_photos(pack or "wild256"))


def _pack_photos(name: Pack) -> tuple[Photo, ...]:
    """Return our own test photos."""
    pack, tree = open_pack(name), load_taxonomy()
    return tuple(
        Photo(
            f"{name}/{pack.path[row]}",
            tree.path(tree.find(pack.species[row])),
            pack.source[row],
            pack.bytes(row).tobytes(),
        )
        for row in pack.rows(SPLIT)
    )


def _check_group(group: tuple[str, ...]) -> None:
    tree = load_taxonomy()
    for name in group:
        try:
            tree.find(name)
        except Rejected as error:
            raise Stop(f"--group: {error}") from error


def _progress(as_json: bool) -> Progress:
    """Return a progress bar on stderr."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=as_json or not sys.stderr.isatty())
