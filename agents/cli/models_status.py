"""`tierwise models status`: where which model serves, what is being tried there, and why.

$ tierwise models status
cloud, this machine: lite0@3 serves, canary of lite0@4
  why: shadow-over: 12 events compared; alike: kingdom 100% of 12
edge, home: lite0@4 serves, promoted

The roles of this machine are asked over HTTP, or by what they wrote down where they do not run; sites by what their broker
retains of them.
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
from agents.client.connection import at_site
from agents.role.run_file import ask_health, running
from agents.rollout.inventory import TAKERS, base_title, kept_by
from agents.trainer.reports import Reports
from models.releases.targets import MODEL
from pipeline import topics
from pipeline.errors import Retry
from pipeline.messages import Malformed, Status, Update, decode
from pipeline.settings.settings import Settings

LISTEN_S: Final = 1.0
"""What is retained comes at once."""

HERE: Final = "this machine"


class Stand(msgspec.Struct, frozen=True):
    """Where one tier stands."""

    role: str
    where: str
    state: str
    """``online``, ``offline``: it does not run; ``starting``."""
    serves: str
    update: Update


def status(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Where which model serves, what is being tried there, and why."""
    loaded = Settings.load(settings)
    stands = list(_here(loaded))
    try:
        stands += _heard(loaded)
    except Retry as error:
        typer.echo(f"sites were not heard: {error}", err=True)
    if as_json:
        for stand in stands:
            typer.echo(msgspec.json.encode(stand))
    elif stands:
        Console(highlight=False).print(_lines(stands))
    else:
        typer.echo("no tier that takes releases was ever started here; `tierwise up` starts them")
    if not as_json and (last := Reports(loaded.data_dir).last) is not None:
        typer.echo(f"last training: {last.line}; `tierwise models trainings` tells all")


def _here(settings: Settings) -> Iterator[Stand]:
    """The roles of this machine; its edge's own word on its site's broker says the same, and more."""
    for role in TAKERS:
        told, kept = running(settings.data_dir, role), kept_by(settings, role)
        if told is not None and told.port is not None:
            ready, parts = ask_health(told.port)
            update = Update(
                stage=parts.get("update", "").partition(" ")[0],
                reason=parts.get("update", "").partition(" ")[2],
                refused=parts.get("refused", ""),
                trouble=parts.get("releases", ""),
            )
            yield Stand(role, HERE, "online" if ready else "starting", parts.get("model", ""), update)
        elif kept is not None:
            last = kept.refused[-1] if kept.refused else None
            update = Update(
                stage="idle",
                previous=_title(settings, kept.previous) if kept.previous is not None else "",
                refused=f"{_title(settings, last.version)}: {last.rule}: {last.reason}" if last else "",
            )
            yield Stand(role, HERE, "offline", _title(settings, kept.serving), update)


def _heard(settings: Settings) -> list[Stand]:
    """The tiers that a broker retains the status of. Raises `Retry` where it does not answer."""
    found: dict[str, Stand] = {}
    with at_site(settings, "models", [topics.status("+", "+")]) as (_, inbox):
        until_s = time.monotonic() + LISTEN_S
        while (left_s := until_s - time.monotonic()) > 0:
            for message in inbox.take(left_s):
                try:
                    told = decode(Status, message.payload)
                except Malformed:  # anyone may publish there; what is no status is not shown
                    continue
                parsed = topics.parse(message.topic)
                if parsed is not None and told.update is not None:
                    heads = next((its for its in told.models if its.startswith(f"{MODEL}@")), "")
                    found[message.topic] = Stand(told.role, parsed.site, told.state, heads, told.update)
    return [found[topic] for topic in sorted(found)]


def _lines(stands: list[Stand]) -> Table:
    """A row a tier, and under it what there is to say: sentences in columns are a word wide in a terminal of 80."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for its in stands:
        update = its.update
        state = "" if its.state == "online" else f" ({its.state})"
        serves = f"{its.serves or '?'} serves"
        tries = (
            f", {update.stage} of {update.candidate}"
            if update.candidate
            else f", {update.stage or 'unknown'}"
        )
        table.add_row(escape(f"{its.role}{state}, {its.where}: {serves}{tries}"))
        why = ": ".join(word for word in (update.rule, update.reason) if word)
        for name, words in (("why", why), ("refused last", update.refused), ("trouble", update.trouble)):
            if words:
                table.add_row(Padding(escape(f"{name}: {words}"), (0, 0, 0, 2)))
    return table


def _title(settings: Settings, version: int) -> str:
    return f"{MODEL}@{version}" if version else base_title(settings)
