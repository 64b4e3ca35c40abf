"""`tierwise releases explain` and `diff`: the origin of a release, and how two releases differ.

$ tierwise releases explain last
$ tierwise releases diff lite0@2 lite0@3
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from agents.cli.options import AsJson, SettingsFile
from agents.cli.releases.titles import TITLE_HELP, Title, full_title
from agents.cli.tables import Column, draw, text_console
from agents.rollout.inventory import LocalRelease, local_release
from models.heads.delta import Delta, between
from models.heads.release import HeadRelease
from models.releases.targets import MODEL
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

SITE_COLUMNS: Final = (
    Column("site"),
    Column("events", right=True),
    Column("labels", grows=True),
    Column("first event", wide=True),
    Column("last event", wide=True),
    Column("left out", grows=True),
)


def explain(title: Title, as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Show the events, labels, code, parent and figures that made a release."""
    loaded = Settings.load(settings)
    title = full_title(loaded, title)
    here = local_release(loaded, title)
    if here is None:
        raise Stop(f"{title} was shipped: `tierwise models show {MODEL}` shows how it was made")
    if as_json:
        typer.echo(msgspec.json.encode({"name": title, "lineage": here.release.lineage}))
    else:
        _explain(text_console(), here)


def _explain(console: Console, here: LocalRelease) -> None:
    release, lineage = here.release, here.release.lineage
    facts = {
        "parent": lineage.parent,
        "base": release.base,
        "made": lineage.made,
        "because": lineage.trigger,
        "code": lineage.code,
        "golden set": lineage.golden,
        "feature space": release.space,
        "kept by": ", ".join(here.where),
    }
    console.print(f"[bold]{release.title}[/]")
    for name, fact in facts.items():
        if fact:
            console.print(f"  {name:<14} {escape(fact)}")
    cells = (
        (
            site.site,
            str(site.events),
            escape(", ".join(f"{label} {count}" for label, count in sorted(site.labels.items()))),
            site.first_event,
            site.last_event,
            escape(site.left_out),
        )
        for site in lineage.sites
    )
    console.print(draw(SITE_COLUMNS, cells, console.width, title="events by site"))
    for partition, offsets in sorted(lineage.offsets.items()):
        console.print(f"  partition {partition}: offsets {offsets}")
    for name, figure in sorted(lineage.figures.items()):
        console.print(f"  {name:<36} {figure:g}")


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=f"{TITLE_HELP} Or the shipped model.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Compare two releases: labels, events by label, figures, size."""
    loaded = Settings.load(settings)
    before, after = full_title(loaded, before), full_title(loaded, after)
    delta = between(_release(loaded, before), _release(loaded, after))
    if as_json:
        typer.echo(msgspec.json.encode({"before": before, "after": after, **msgspec.to_builtins(delta)}))
    else:
        _show_delta(text_console(), before, after, delta)


def _release(settings: Settings, title: str) -> HeadRelease | None:
    here = local_release(settings, title)
    return here.release if here is not None else None


def _show_delta(console: Console, before: str, after: str, delta: Delta) -> None:
    console.print(f"[bold]{before} -> {after}[/]: {delta.bytes_before:,} -> {delta.bytes_after:,} bytes of files")
    for change, labels in (("labels gained", delta.gained), ("labels lost", delta.lost)):
        if labels:
            console.print(f"  {change}: {escape(', '.join(labels))}")
    if delta.events:
        columns = (Column("events of", grows=True), Column(before, right=True), Column(after, right=True))
        cells = ((escape(label), str(old), str(new)) for label, (old, new) in delta.events.items())
        console.print(draw(columns, cells, console.width))
    for name, (old_figure, new_figure) in delta.figures.items():
        console.print(f"  {name:<36} {_figure(old_figure)} -> {_figure(new_figure)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
