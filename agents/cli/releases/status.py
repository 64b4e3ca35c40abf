"""`tierwise releases status`: which release serves where, which one is on trial there, and why.

$ tierwise releases status
cloud, this machine: lite0@3 serves, canary of lite0@4
  why: shadow-over: 12 events compared; alike: kingdom 100% of 12
edge, home: lite0@4 serves, promoted

It asks the roles of this machine over HTTP, and reads the files of those that do not run. Of sites it reads the
status that their broker retains.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.client.site_client import connect
from agents.client.trainings import Reports
from agents.role.run_file import ask_health, running
from agents.rollout.inventory import RELEASE_ROLES, base_title, serving_state
from models.releases.targets import MODEL
from pipeline import topics
from pipeline.errors import Retry
from pipeline.messages import Malformed, Status, Update, decode
from pipeline.settings.settings import Settings

LISTEN_S: Final = 1.0
"""A broker sends retained messages at once."""

HERE: Final = "this machine"


class TierStatus(msgspec.Struct, frozen=True):
    """The release that one tier serves, and its trial of the next one."""

    role: str
    where: str
    state: str
    """``online``, ``starting``, or ``offline``: it does not run."""
    serves: str
    update: Update


def status(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Show which release serves where, which one is on trial there, and why."""
    loaded = Settings.load(settings)
    tiers = list(_here(loaded))
    try:
        tiers += _at_sites(loaded)
    except Retry as error:
        typer.echo(f"sites could not be asked: {error}", err=True)
    if as_json:
        for tier in tiers:
            typer.echo(msgspec.json.encode(tier))
    elif tiers:
        Console(highlight=False).print(_lines(tiers))
    else:
        typer.echo("no tier that serves releases was ever started here; `tierwise up` starts them")
    if not as_json and (last := Reports(loaded.data_dir).last) is not None:
        typer.echo(f"last training: {last.line}; `tierwise training list` shows all")


def _here(settings: Settings) -> Iterator[TierStatus]:
    """Yield the roles of this machine. The status of this edge on the broker holds the same, and more."""
    for role in RELEASE_ROLES:
        process, kept = running(settings.data_dir, role), serving_state(settings, role)
        if process is not None and process.port is not None:
            ready, parts = ask_health(process.port)
            update = Update(
                stage=parts.get("update", "").partition(" ")[0],
                reason=parts.get("update", "").partition(" ")[2],
                refused=parts.get("refused", ""),
                trouble=parts.get("releases", ""),
            )
            yield TierStatus(role, HERE, "online" if ready else "starting", parts.get("model", ""), update)
        elif kept is not None:
            last = kept.refused[-1] if kept.refused else None
            update = Update(
                stage="idle",
                previous=_title(settings, kept.previous) if kept.previous is not None else "",
                refused=f"{_title(settings, last.version)}: {last.rule}: {last.reason}" if last else "",
            )
            yield TierStatus(role, HERE, "offline", _title(settings, kept.serving), update)


def _at_sites(settings: Settings) -> list[TierStatus]:
    """Return the tiers whose status the broker retains. Raises `Retry` if the broker does not answer."""
    found: dict[str, TierStatus] = {}
    with connect(settings, "models", [topics.status("+", "+")]) as site:
        until_s = time.monotonic() + LISTEN_S
        while (left_s := until_s - time.monotonic()) > 0:
            for message in site.take(left_s):
                try:
                    status = decode(Status, message.payload)
                except Malformed:  # anyone may publish there
                    continue
                parsed = topics.parse(message.topic)
                if parsed is not None and status.update is not None:
                    heads = next((each for each in status.models if each.startswith(f"{MODEL}@")), "")
                    found[message.topic] = TierStatus(status.role, parsed.site, status.state, heads, status.update)
    return [found[topic] for topic in sorted(found)]


def _lines(tiers: list[TierStatus]) -> Table:
    """Draw a row for each tier, and its reasons below: a column would be too narrow for sentences."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for tier in tiers:
        update = tier.update
        state = "" if tier.state == "online" else f" ({tier.state})"
        serves = f"{tier.serves or '?'} serves"
        tries = f", {update.stage} of {update.candidate}" if update.candidate else f", {update.stage or 'unknown'}"
        table.add_row(escape(f"{tier.role}{state}, {tier.where}: {serves}{tries}"))
        why = ": ".join(part for part in (update.rule, update.reason) if part)
        for name, text in (("why", why), ("refused last", update.refused), ("trouble", update.trouble)):
            if text:
                table.add_row(Padding(escape(f"{name}: {text}"), (0, 0, 0, 2)))
    return table


def _title(settings: Settings, version: int) -> str:
    return f"{MODEL}@{version}" if version else base_title(settings)
