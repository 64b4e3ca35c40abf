"""`tierwise models`: which models there are, how right they are on one's own photos, and models of one's own.

$ tierwise models evaluate ~/labelled      # a folder with a subfolder a label, or a CSV of path and label
$ tierwise models import mine.onnx --labels labels.txt
$ tierwise models status                   # where which release of the heads serves, and what is being tried there
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from agents.cli import compress
from agents.cli.models_evaluate import evaluate
from agents.cli.models_own import fit, import_model
from agents.cli.models_releases import diff, explain, promote, rollback
from agents.cli.models_status import status
from agents.cli.models_train import forget, train, trainings
from agents.cli.options import AsJson, SettingsFile
from agents.rollout.imported_models import registry_of
from agents.rollout.inventory import Here, is_release, kept_by, release_of, releases_here
from models.imported.registry import CARD, Entry
from models.labels.taxonomy import load_taxonomy
from models.manifest import Manifest, digest
from models.shipped import BACKBONE, load_zoo
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

app = typer.Typer(no_args_is_help=True)
app.add_typer(compress.app, name="compress", help="Make a float network smaller, and see what that costs.")

Title = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A model; without a version, its newest.")
]


@app.command("list")
def list_models(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """The models of this installation and of the registry, with their files' digests."""
    loaded = Settings.load(settings)
    registry = registry_of(loaded)
    if as_json:
        for manifest, where in _all(loaded):
            typer.echo(msgspec.json.encode(_told(manifest, where)))
        for here in releases_here(loaded).values():
            typer.echo(msgspec.json.encode(_told_release(here)))
    else:
        table = Table()
        for column in ("model", "from", "task", "feature space", "terms"):
            table.add_column(column)
        for manifest, where in _all(loaded):
            named = manifest.title == loaded.edge.model
            serves = named and (where == "registry" or manifest.name == BACKBONE)
            table.add_row(
                manifest.title + (" (serves at the edge)" if serves else ""),
                where,
                manifest.task,
                manifest.space or "",
                escape(manifest.terms),
            )
        for here in releases_here(loaded).values():
            release = here.release
            roles = [role for role in here.where if _serves(loaded, role) == release.version]
            table.add_row(
                release.title + (f" (serves: {', '.join(roles)})" if roles else ""),
                f"release ({', '.join(here.where)})",
                "wildlife",
                release.space,
                f"heads on {release.base}",
            )
        Console(highlight=False).print(table)
    for problem in registry.damaged():
        typer.echo(f"damaged: {problem}", err=True)


@app.command()
def show(title: Title, as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """A model's card; with --json its manifest. Checks every file first."""
    loaded = Settings.load(settings)
    for manifest in load_zoo(loaded.zoo_dir).manifests:
        if title in (manifest.name, manifest.title):
            for file in manifest.files:
                manifest.read(file)
            _show(manifest, "zoo", (manifest.folder / CARD).read_text("utf-8"), as_json)
            return
    if is_release(loaded, title) and (here := release_of(loaded, title)) is not None:
        if as_json:
            typer.echo(msgspec.json.encode(_told_release(here)))
        else:
            Console().print(Markdown(here.release.card or f"{title} has no card"))
        return
    entry = registry_of(loaded).entry(title)
    entry.check()
    _show(entry.manifest, "registry", entry.card, as_json)


@app.command()
def remove(
    title: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The version to remove.")],
    settings: SettingsFile = None,
) -> None:
    """Remove one version of a model from the registry; its number is never given again."""
    loaded = Settings.load(settings)
    if title.partition("@")[0] in {manifest.name for manifest in load_zoo(loaded.zoo_dir).manifests}:
        raise Stop(f"{title} came with this installation; only models of the registry can be removed")
    if title == loaded.edge.model:
        raise Stop(f"{title} serves at the edge (edge.model): name another model there first")
    registry_of(loaded).remove(title)
    typer.echo(f"removed {title}")


@app.command()
def labels(
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="Only those with this in a name.")] = "",
) -> None:
    """The label tree: what folders, lists and models of your own may call things."""
    tree = load_taxonomy()
    for row in tree.rows:
        names = (row.kingdom, row.family, row.label, row.english, *row.names)
        if any(word.casefold() in name.casefold() for name in names):
            path = " > ".join(tree.path(row.label))
            typer.echo(f"{path}  ({row.english})" if row.english != row.label else path)


app.command()(status)
app.command()(explain)
app.command()(diff)
app.command()(promote)
app.command()(rollback)
app.command()(evaluate)
app.command("import")(import_model)
app.command()(fit)
app.command()(train)
app.command()(trainings)
app.command()(forget)


def _all(settings: Settings) -> Iterator[tuple[Manifest, str]]:
    """Manifests, and where each is from."""
    yield from ((manifest, "zoo") for manifest in load_zoo(settings.zoo_dir).manifests)
    entries: tuple[Entry, ...] = registry_of(settings).entries()
    yield from ((entry.manifest, "registry") for entry in entries)


def _show(manifest: Manifest, where: str, card: str, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(_told(manifest, where)))
    else:
        Console().print(Markdown(card or f"{manifest.title} has no card"))


def _told(manifest: Manifest, where: str) -> dict[str, object]:
    return {
        "name": manifest.title,
        "from": where,
        "task": manifest.task,
        "space": manifest.space,
        "terms": manifest.terms,
        "files": manifest.files,
    }


def _serves(settings: Settings, role: str) -> int:
    """The release that a role of this machine serves; 0: the shipped model."""
    kept = kept_by(settings, role)
    return kept.serving if kept is not None else 0


def _told_release(here: Here) -> dict[str, object]:
    release = here.release
    return {
        "name": release.title,
        "from": "release",
        "task": "wildlife",
        "space": release.space,
        "terms": "",
        "base": release.base,
        "parent": release.lineage.parent,
        "where": here.where,
        "files": {name: digest(data) for name, data in release.files().items()},
    }
