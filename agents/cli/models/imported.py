"""`tierwise models import` and `fit`: add a model of your own. It is checked, tried and measured first.

$ tierwise models import mine.onnx --labels labels.txt --license "CC BY 4.0"
mine@1: 6.1 ms a picture, lite0 5.9 ms (1.03 of it); serve it with edge.model = "mine@1"
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from agents.cli.options import SettingsFile
from agents.rollout.imported_models import registry_of, signature
from models.evaluation.photo_set import read_photos
from models.evaluation.report import interval
from models.imported.fit_head import backbone_of, next_version
from models.imported.fit_head import fit as fitted_to
from models.imported.imported_model import PRESETS, Intake
from models.imported.importing import Wanted, prepare
from models.imported.trial_run import spread
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from models.vision.photo_files import photos_of
from pipeline import topics
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

Kind = Literal["classifier", "backbone"]
Preset = Literal["imagenet", "inception", "unit", "raw", "caffe"]


def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="A classifier, or a backbone.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="A classifier's labels, a line an output: `label`, or `name<TAB>label of the tree`."),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="Default: a classifier if there are labels, else a backbone.")
    ] = None,
    name: Annotated[str, typer.Option(help="Its name here; default: the name of the file.")] = "",
    input_size: Annotated[
        int | None, typer.Option(help="Side of the input if the model leaves it free; default: 224.")
    ] = None,
    preprocess: Annotated[Preset, typer.Option(help="How pictures were prepared when it was trained.")] = "imagenet",
    mean: Annotated[
        str,
        typer.Option(
            help="Instead of --preprocess: the mean of each channel (RGB), for values 0 to 1, as 0.5,0.5,0.5."
        ),
    ] = "",
    std: Annotated[str, typer.Option(help="The standard deviation of each channel.")] = "",
    terms: Annotated[str, typer.Option("--license", help="Its licence, for card and list.")] = "not stated",
    smoke: Annotated[Path | None, typer.Option(metavar="DIR", help="Pictures of your own to try it on.")] = None,
    settings: SettingsFile = None,
) -> None:
    """Check, try and measure a model of your own; if it passes, add it to the registry."""
    loaded, zoo = Settings.load(settings), load_zoo()
    title = name or re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-_")
    # Results must not mistake it for a released model.
    if title in {manifest.name for manifest in zoo.manifests} or not topics.is_name(title):
        raise Stop(f"{title!r} cannot be the name of a model here: give another with --name (a-z, 0-9, - and _)")
    wanted = Wanted(
        file=file,
        kind=kind or ("classifier" if labels else "backbone"),
        labels=labels,
        size_px=input_size,
        intake=_intake(mean, std) if mean or std else PRESETS[preprocess],
        terms=terms,
    )
    draft, figures = prepare(
        wanted,
        load_taxonomy(),
        lite0=zoo.backbone().feature,
        smoke=_smoke(smoke),
        **signature(),
    )
    entry = registry_of(loaded).add(title, draft)
    then = (
        f'serve it with edge.model = "{entry.title}"'
        if wanted.kind == "classifier"
        else f"`tierwise models fit {title} --data DIR` gives it a head"
    )
    typer.echo(
        f"{entry.title}: {figures.ms:.1f} ms a picture, lite0 {figures.lite0_ms:.1f} ms "
        f"({figures.ratio:.2f} of it); {then}"
    )


def fit(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="An imported backbone.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR|CSV", help="Photos in a folder a label, or a CSV of path,label."),
    ],
    labels_map: Annotated[
        Path | None, typer.Option(help="CSV of name,label for folders whose names are no labels.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out photos that cannot be used, and list them.")
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """Train a head for an imported backbone from labelled photos: a new version that names families."""
    registry, tree = registry_of(Settings.load(settings)), load_taxonomy()
    entry = registry.entry(name)
    network = backbone_of(entry)
    labelled = read_photos(data, tree, labels_map=labels_map, skip_bad=skip_bad)
    for line in labelled.left_out:
        typer.echo(f"left out: {line}", err=True)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading photos", total=len(labelled.photos))
        done = fitted_to(entry.manifest.name, network, labelled.photos, tree, lambda count: bar.advance(task, count))
    made = registry.add(entry.manifest.name, next_version(entry, done, **signature()))
    figures = done.figures
    typer.echo(
        f"{made.title}: {figures.labels} labels, likeliest right {interval(figures.likeliest)} of "
        f'{figures.photos} photos kept aside; serve it with edge.model = "{made.title}"'
    )


def _smoke(folder: Path | None) -> Sequence[Path]:
    """Return the photos to try: all, or some of many, with a note about which."""
    if folder is None:
        return []
    photos = [path for path in photos_of(folder) if path.exists()]
    if not photos:
        raise Stop(f"--smoke: {folder}: no photos there")
    taken = spread(photos)
    if len(taken) < len(photos):
        typer.echo(
            f"--smoke: {len(taken)} of {len(photos):,} photos are tried, spread evenly by name: "
            + ", ".join(str(path.relative_to(folder)) for path in taken),
            err=True,
        )
    return taken


def _intake(mean: str, std: str) -> Intake:
    """Return the preparation for a mean and a standard deviation of values 0 to 1."""
    return Intake("rgb", _three(mean or "0,0,0", "--mean"), _three(std or "1,1,1", "--std"))


def _three(text: str, option: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) * 255 for part in text.split(","))
    except ValueError as error:
        raise Stop(f"{option} {text!r}: give three numbers with commas between, as 0.5,0.5,0.5") from error
    if option == "--std" and min(red, green, blue) <= 0:
        raise Stop(f"{option} {text!r}: a standard deviation must be above 0")
    return red, green, blue
