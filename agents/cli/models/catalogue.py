"""`tierwise models list`, `show` and `remove`: the models of this installation, imported ones, and releases.

$ tierwise models list
$ tierwise models show mine@1
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import Column, draw
from agents.rollout.imported_models import registry_of
from agents.rollout.inventory import (
    LocalRelease,
    is_release_title,
    local_release,
    local_releases,
    serving_state,
)
from models.imported.registry import CARD
from models.manifest import Manifest, digest
from models.shipped import BACKBONE, load_zoo
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

Title = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A model; without a version, its newest.")]

COLUMNS: Final = (
    Column("model"),
    Column("from"),
    Column("serves at"),
    Column("task"),
    Column("feature space", wide=True),
    Column("terms", grows=True),
)


def list_models(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """List the models of this installation, imported ones and releases; with --json also the digests of their files."""
    loaded = Settings.load(settings)
    if as_json:
        for manifest, origin in _all(loaded):
            typer.echo(msgspec.json.encode(_model_fields(manifest, origin)))
        for here in local_releases(loaded).values():
            typer.echo(msgspec.json.encode(_release_fields(here)))
    else:
        console = Console(highlight=False)
        console.print(table(loaded, console.width))
    for problem in registry_of(loaded).damaged():
        typer.echo(f"damaged: {problem}", err=True)


def table(settings: Settings, width: int) -> Table:
    """Draw all models and releases."""
    rows = []
    for manifest, origin in _all(settings):
        named = manifest.title == settings.edge.model
        serves = named and (origin == "registry" or manifest.name == BACKBONE)
        rows.append(
            (
                manifest.title,
                origin,
                "edge" if serves else "",
                str(manifest.task),
                manifest.space or "",
                escape(manifest.terms),
            )
        )
    for here in local_releases(settings).values():
        release = here.release
        roles = [role for role in here.where if _serves(settings, role) == release.version]
        origin = f"release ({', '.join(here.where)})"
        rows.append((release.title, origin, ", ".join(roles), "wildlife", release.space, f"heads on {release.base}"))
    return draw(COLUMNS, rows, width)


def show(title: Title, as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Show the card of a model; with --json its manifest. Checks every file first."""
    loaded = Settings.load(settings)
    for manifest in load_zoo(loaded.zoo_dir).manifests:
        if title in (manifest.name, manifest.title):
            for file in manifest.files:
                manifest.read(file)
            _show(manifest, "zoo", (manifest.folder / CARD).read_text("utf-8"), as_json)
            return
    if is_release_title(loaded, title) and (here := local_release(loaded, title)) is not None:
        if as_json:
            typer.echo(msgspec.json.encode(_release_fields(here)))
        else:
            Console().print(Markdown(here.release.card or f"{title} has no card"))
        return
    entry = registry_of(loaded).entry(title)
    entry.check()
    _show(entry.manifest, "registry", entry.card, as_json)


def remove(
    title: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The version to remove.")],
    settings: SettingsFile = None,
) -> None:
    """Remove one version of an imported model; its number is never given again."""
    loaded = Settings.load(settings)
    if title.partition("@")[0] in {manifest.name for manifest in load_zoo(loaded.zoo_dir).manifests}:
        raise Stop(f"{title} came with this installation; only imported models can be removed")
    if title == loaded.edge.model:
        raise Stop(f"{title} serves at the edge (edge.model): name another model there first")
    registry_of(loaded).remove(title)
    typer.echo(f"removed {title}")


def _all(settings: Settings) -> Iterator[tuple[Manifest, str]]:
    """Yield manifests, and the origin of each."""
    yield from ((manifest, "zoo") for manifest in load_zoo(settings.zoo_dir).manifests)
    yield from ((entry.manifest, "registry") for entry in registry_of(settings).entries())


def _show(manifest: Manifest, origin: str, card: str, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(_model_fields(manifest, origin)))
    else:
        Console().print(Markdown(card or f"{manifest.title} has no card"))


def _model_fields(manifest: Manifest, origin: str) -> dict[str, object]:
    return {
        "name": manifest.title,
        "from": origin,
        "task": manifest.task,
        "space": manifest.space,
        "terms": manifest.terms,
        "files": manifest.files,
    }


def _serves(settings: Settings, role: str) -> int:
    """Return the release that a role of this machine serves; 0: the shipped model."""
    kept = serving_state(settings, role)
    return kept.serving if kept is not None else 0


def _release_fields(here: LocalRelease) -> dict[str, object]:
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
