"""`tierwise settings`: check the file, explain what is in force for a stream, or print a file to start from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from agents.cli.options import SettingsFile
from agents.cli.tables import Column, draw, line_width, text_console
from pipeline import topics
from pipeline.credentials import hidden
from pipeline.errors import Stop
from pipeline.messages import Task
from pipeline.privacy.policy import RULES, Policy
from pipeline.settings import file as settings_file
from pipeline.settings.patterns import ranked
from pipeline.settings.settings import FILE, FILE_VARIABLE, STARTER, Settings, StreamSettings

OF_FRAMES = frozenset({"pixels", "feature", "source", "login", "login_file", "off_delay_s"})
OF_READINGS = frozenset({"room", "unit", "deadband", "reading", "summary"})
"""Keys that only cameras or only sensors have: `explain` leaves out those of the other kind."""


def check(settings: SettingsFile = None) -> None:
    """Read the settings as every role does. Exit code 0: they can be used."""
    loaded = Settings.load(settings)
    patterns = len(loaded.streams) - len(loaded.named_streams)
    also = f" and {patterns} pattern{'s' * (patterns > 1)}" if patterns else ""
    typer.echo(
        f"good: site {loaded.site}, {len(loaded.named_streams)} streams{also}, {len(loaded.rules)} rules, "
        f"data in {loaded.data_dir}"
    )


def explain(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="DEVICE/STREAM or SITE/DEVICE/STREAM.")],
    settings: SettingsFile = None,
) -> None:
    """Show the settings in force for a stream, and where each comes from."""
    loaded = Settings.load(settings)
    source = stream if stream.count("/") == 2 else f"{loaded.site}/{stream}"
    if source.count("/") != 2 or not all(map(topics.is_name, source.split("/"))):
        raise Stop(f"{stream}: write DEVICE/STREAM or SITE/DEVICE/STREAM, names of a-z, 0-9, - and _")
    file = settings or Path(os.environ.get(FILE_VARIABLE) or FILE)
    console = text_console()
    found = [f'[streams."{key.partition("/")[2]}"]' for key in ranked(loaded.streams, source)]
    console.print(f"{source} in {file}", markup=False)
    console.print(f"in force: {found[0] if found else 'no entry: the strictest defaults'}", markup=False)
    if found[1:]:
        console.print(f"also match, less specific, not used: {', '.join(found[1:])}", markup=False)
    columns = (Column("key"), Column("value", grows=True), Column("from", grows=True))
    rows = [tuple(cell.replace("[", r"\[") for cell in row) for row in _rows(loaded, source, file)]
    console.print(draw(columns, rows, line_width(console)))
    if not found:
        console.print(f"to name it, add\n{Policy(loaded).advice(source)}", markup=False)


def _rows(settings: Settings, source: str, file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and origin of everything that decides about a stream."""
    entry, stream = settings.entry(source), settings.stream(source) or StreamSettings()
    raw = settings_file.read(file, must_exist=False).get("streams", {})
    short = (entry or "").partition("/")[2]
    written = raw.get(short, raw.get(entry, {}))
    left_out = OF_READINGS if stream.task is Task.WILDLIFE else OF_FRAMES
    for key, value in msgspec.structs.asdict(stream).items():
        unsaid = value in (None, "") or key == "off_delay_s"
        if key in left_out or (unsaid and key not in written):
            continue
        origin = f'streams."{short}"' if key in written else "default"
        if key in ("source", "login", "login_file") and key not in written:
            origin = "device.camera"
        yield key, "***" if key == "login" else hidden(str(value)), origin
    for key, other in settings.streams.items():
        if other.topic and key != entry and not stream.topic and ranked((key,), source):
            yield (
                "fed by",
                f"{other.topic}{f' ({other.format})' * bool(other.format)}",
                f'streams."{key.partition("/")[2]}"',
            )
    for rule in settings.rules:
        if rule.names_stream(source):
            raised = ", ".join(f"{kind} to {level}" for kind, level in rule.raise_.items())
            yield "rule", f"{rule.name} may raise {raised}", f'rules, stream = "{rule.stream}"'
    for built_in in RULES if stream.task is Task.WILDLIFE else ():
        yield "rule", f"{built_in.name}: {built_in.reason}", "built in"


def starter() -> None:
    """Print starter settings: one camera and one room, with a comment on each line."""
    typer.echo(STARTER, nl=False)
