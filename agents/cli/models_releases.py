"""`tierwise models explain|diff|promote|rollback`: where a release of the heads comes from, and which one is to serve.

$ tierwise models explain lite0@3          # which events, labels, code and figures made it
$ tierwise models diff lite0@2 lite0@3
$ tierwise models rollback --to lite0@2 --why "it fails at night"
"""

from __future__ import annotations

import getpass
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.rollout.inventory import Here, base_title, release_of, repository_here
from models.heads.delta import Delta, between
from models.heads.release import HeadRelease
from models.releases.targets import CANARY_S, CANARY_SHARE, MODEL, Current
from pipeline.errors import Retry, Stop
from pipeline.settings.settings import Settings

Title = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A release, as lite0@3.")]
Why = Annotated[str, typer.Option(help="What people and statuses are told.")]


def explain(title: Title, as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Which events, labels, code, parent and figures made a release."""
    here = release_of(Settings.load(settings), title)
    if here is None:
        raise Stop(f"{title} was shipped: `tierwise models show {MODEL}` tells how it was made")
    if as_json:
        typer.echo(msgspec.json.encode({"name": title, "lineage": here.release.lineage}))
    else:
        _explain(Console(highlight=False), here)


def _explain(console: Console, here: Here) -> None:
    release, lineage = here.release, here.release.lineage
    facts = {
        "parent": lineage.parent,
        "base": release.base,
        "made": lineage.made,
        "because": lineage.trigger,
        "code": lineage.code,
        "golden set": lineage.golden,
        "feature space": release.space,
        "here with": ", ".join(here.where),
    }
    console.print(f"[bold]{release.title}[/]")
    for name, fact in facts.items():
        if fact:
            console.print(f"  {name:<14} {escape(fact)}")
    sites = Table(title="events by site", title_justify="left")
    for column in ("site", "events", "labels", "first event", "last event", "left out"):
        sites.add_column(column, justify="right" if column == "events" else "left")
    for its in lineage.sites:
        labels = ", ".join(f"{label} {count}" for label, count in sorted(its.labels.items()))
        sites.add_row(
            its.site, str(its.events), escape(labels), its.first_event, its.last_event, escape(its.left_out)
        )
    console.print(sites)
    for partition, offsets in sorted(lineage.offsets.items()):
        console.print(f"  partition {partition}: offsets {offsets}")
    for name, figure in sorted(lineage.figures.items()):
        console.print(f"  {name:<36} {figure:g}")


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A release or the shipped model.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """What one release has that another has not: labels, events by label, figures, size."""
    loaded = Settings.load(settings)
    delta = between(_release(loaded, before), _release(loaded, after))
    if as_json:
        typer.echo(msgspec.json.encode({"before": before, "after": after, **msgspec.to_builtins(delta)}))
    else:
        _show_delta(Console(highlight=False), before, after, delta)


def _release(settings: Settings, title: str) -> HeadRelease | None:
    here = release_of(settings, title)
    return here.release if here is not None else None


def _show_delta(console: Console, before: str, after: str, delta: Delta) -> None:
    console.print(
        f"[bold]{before} -> {after}[/]: {delta.bytes_before:,} -> {delta.bytes_after:,} bytes of files"
    )
    for what, labels in (("labels gained", delta.gained), ("labels lost", delta.lost)):
        if labels:
            console.print(f"  {what}: {escape(', '.join(labels))}")
    table = Table()
    for column in ("events of", before, after):
        table.add_column(column, justify="left" if column == "events of" else "right")
    for label, (old, new) in delta.events.items():
        table.add_row(escape(label), str(old), str(new))
    if delta.events:
        console.print(table)
    for name, (old_figure, new_figure) in delta.figures.items():
        console.print(f"  {name:<36} {_figure(old_figure)} -> {_figure(new_figure)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def promote(
    title: Title,
    why: Why = "",
    share: Annotated[float, typer.Option(help="Share of the streams that it answers first.")] = CANARY_SHARE,
    seconds: Annotated[float, typer.Option(help="How long, before it answers all.")] = CANARY_S,
    settings: SettingsFile = None,
) -> None:
    """Sign that a release is to serve: every tier verifies and tries it, and takes it if it does well."""
    if not 0 < share <= 1 or seconds < 0:
        raise Stop(
            f"--share {share:g} --seconds {seconds:g}: a share lies above 0 and up to 1, seconds from 0 on"
        )
    loaded = Settings.load(settings)
    _serve(loaded, title, why or f"promoted by {_who()}", canary_share=share, canary_s=seconds)


def rollback(
    why: Annotated[str, typer.Option(help="What people and statuses are told.", prompt=False)],
    to: Annotated[str, typer.Option(metavar="NAME@VERSION", help="Otherwise the release's parent.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Sign that an older one is to serve: it takes effect at every tier as soon as that hears of it."""
    loaded = Settings.load(settings)
    current = repository_here(loaded).current
    if current is None or not current.version:
        raise Stop(f"{base_title(loaded)} is to serve already: there is nothing to go back from")
    target = to or _parent(loaded, current)
    if _version(loaded, target) >= current.version:
        raise Stop(
            f"{target} is not older than {current.title}: `tierwise models promote {target}` is for that"
        )
    _serve(loaded, target, why)


def _parent(settings: Settings, current: Current) -> str:
    release = _release(settings, current.title)
    return (release.lineage.parent if release is not None else "") or base_title(settings)


def _serve(
    settings: Settings,
    title: str,
    why: str,
    *,
    canary_share: float = CANARY_SHARE,
    canary_s: float = CANARY_S,
) -> None:
    repository = repository_here(settings)
    version = _version(settings, title)
    if version and version not in repository.versions:
        there = ", ".join(
            [f"{base_title(settings)} (shipped)", *(f"{MODEL}@{its}" for its in repository.versions)]
        )
        raise Stop(f"{title} was not released here; what can serve: {there}")
    repository.serve(
        Current(version=version, canary_share=canary_share, canary_s=canary_s, why=why, by=_who())
    )
    typer.echo(f"signed: {title} is to serve")
    try:
        _send(settings)
    except Retry as error:
        typer.echo(f"not sent yet; `tierwise trainer` sends it once Kafka is back ({error})", err=True)
        raise typer.Exit(1) from None
    typer.echo("sent; `tierwise models status` tells which tier takes it, and why one does not")


def _send(settings: Settings) -> None:
    from agents.releases.publisher import ReleaseFeed
    from pipeline.kafka import Producer

    producer = Producer(settings.kafka, "tierwise-models")
    try:
        ReleaseFeed(repository_here(settings), settings.kafka, producer).send()
    finally:
        producer.close(1.0)


def _version(settings: Settings, title: str) -> int:
    """Of the shipped model: 0. Raises `Stop` for what is no release."""
    name, _, version = title.partition("@")
    if title == base_title(settings):
        return 0
    if name != MODEL or not version.isdecimal():
        raise Stop(
            f"{title} is no release of the heads: name one as {MODEL}@3, or the shipped {base_title(settings)}"
        )
    return int(version)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "a person"
