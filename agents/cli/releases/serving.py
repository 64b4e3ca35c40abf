"""`tierwise releases promote` and `rollback`: sign which release is to serve, on the machine of the trainer.

$ tierwise releases promote 4 --why "the spring's labels"
$ tierwise releases rollback --why "it fails at night"
"""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from agents.cli.options import SettingsFile
from agents.cli.releases.titles import TITLE_HELP, Title, full_title
from agents.rollout.inventory import base_title, local_release, local_repository
from models.releases.targets import CANARY_S, CANARY_SHARE, MODEL, Current
from pipeline.errors import Retry, Stop
from pipeline.settings.settings import Settings

WHY_HELP = "The reason, for people and for the status of each tier."


def promote(
    title: Title,
    why: Annotated[str, typer.Option(help=WHY_HELP)] = "",
    share: Annotated[float, typer.Option(help="Share of the streams that it answers first.")] = CANARY_SHARE,
    seconds: Annotated[float, typer.Option(help="How long it answers that share, before it answers all.")] = CANARY_S,
    settings: SettingsFile = None,
) -> None:
    """Sign that a release is to serve: each tier verifies it, tries it, and serves it if it does well."""
    if not 0 < share <= 1 or seconds < 0:
        raise Stop(f"--share {share:g} --seconds {seconds:g}: a share lies above 0 and up to 1, and seconds from 0 on")
    loaded = Settings.load(settings)
    _serve(
        loaded,
        full_title(loaded, title),
        why or f"promoted by {_who()}",
        canary_share=share,
        canary_s=seconds,
    )


def rollback(
    why: Annotated[str, typer.Option(help=WHY_HELP)],
    to: Annotated[str, typer.Option(metavar="RELEASE", help=f"{TITLE_HELP} Default: the parent.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Go back to an older release. Each tier applies it when it receives it."""
    loaded = Settings.load(settings)
    current = local_repository(loaded).current
    if current is None or not current.version:
        raise Stop(f"{base_title(loaded)} is to serve already: there is no older one")
    target = full_title(loaded, to) if to else _parent(loaded, current)
    if _version(loaded, target) >= current.version:
        raise Stop(f"{target} is not older than {current.title}: use `tierwise releases promote {target}`")
    _serve(loaded, target, why)


def _parent(settings: Settings, current: Current) -> str:
    here = local_release(settings, current.title)
    return (here.release.lineage.parent if here is not None else "") or base_title(settings)


def _serve(
    settings: Settings,
    title: str,
    why: str,
    *,
    canary_share: float = CANARY_SHARE,
    canary_s: float = CANARY_S,
) -> None:
    repository = local_repository(settings)
    version = _version(settings, title)
    if version and version not in repository.versions:
        available = ", ".join(
            [f"{base_title(settings)} (shipped)", *(f"{MODEL}@{each}" for each in repository.versions)]
        )
        raise Stop(f"{title} was not released here; available: {available}")
    repository.serve(Current(version=version, canary_share=canary_share, canary_s=canary_s, why=why, by=_who()))
    typer.echo(f"signed: {title} is to serve")
    try:
        _send(settings)
    except Retry as error:
        typer.echo(f"not sent yet; `tierwise trainer` sends it once Kafka is back ({error})", err=True)
        raise typer.Exit(1) from None
    typer.echo("sent; `tierwise releases status` shows which tiers serve it, and why others do not")


def _send(settings: Settings) -> None:
    from agents.releases.publisher import ReleasePublisher
    from pipeline.kafka import Producer

    producer = Producer(settings.kafka, "tierwise-models")
    try:
        ReleasePublisher(local_repository(settings), settings.kafka, producer).send()
    finally:
        producer.close(1.0)


def _version(settings: Settings, title: str) -> int:
    """Return the number of a release; 0 for the shipped model. Raises `Stop` if the title names no release."""
    name, _, version = title.partition("@")
    if title == base_title(settings):
        return 0
    if name != MODEL or not version.isdecimal():
        raise Stop(
            f"{title} is not a release of the heads: give a title like {MODEL}@3, or the shipped {base_title(settings)}"
        )
    return int(version)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "a person"
